package providers

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"go.uber.org/fx"
	"go.uber.org/zap"

	"github.com/compozy/cache/client"
	"github.com/compozy/cache/config"
	"github.com/compozy/cache/health"
	"github.com/compozy/cache/lifecycle"
	"github.com/compozy/cache/lock"
	"github.com/compozy/cache/notification"
)

// Locks constructs the lock manager. Its locks live on rdb, or on the lock
// nodes of owner where there are any.
func (i Instance) Locks(
	lc fx.Lifecycle, cfg *config.Config, rdb redis.UniversalClient, owner *client.Redis, log *zap.Logger,
) (*lock.RedisLockManager, []health.Check, prometheus.Collector, error) {
	cfg = cfg.WithDefaults()
	opts := []lock.Option{
		lock.WithName(i.label()), lock.WithLogger(i.logger(log)), lock.WithKeyPrefix(cfg.KeyPrefix),
	}
	nodes := owner.LockNodes()
	if len(nodes) > 0 {
		opts = append(opts, lock.WithNodes(nodes...))
	}
	m, err := lock.NewRedisLockManager(rdb, opts...)
	if err != nil {
		return nil, nil, nil, err
	}
	lifecycle.AppendLocks(lc, &lifecycle.Locks{Manager: m})

	checks := []health.Check{alive(i.check("locks"), m.Alive)}
	if len(nodes) > 0 { // on the main server the client's own check says the same
		checks = append(checks, health.Check{
			Name: i.check("lock_nodes"), Kind: health.Readiness, Timeout: cfg.PingTimeout, Func: owner.CheckLockNodes,
		})
	}
	return m, checks, m.Collector(), nil
}

// LockManager lets a replaced *lock.RedisLockManager show through.
func (Instance) LockManager(m *lock.RedisLockManager) lock.LockManager { return m }

// Notifications constructs the notification system. It connects with the first
// subscription.
func (i Instance) Notifications(
	lc fx.Lifecycle, cfg *config.Config, rdb redis.UniversalClient, log *zap.Logger,
) (*notification.RedisNotificationSystem, []health.Check, prometheus.Collector, error) {
	cfg = cfg.WithDefaults()
	opts := []notification.Option{
		notification.WithName(i.label()),
		notification.WithLogger(i.logger(log)),
		notification.WithKeyPrefix(cfg.KeyPrefix),
		notification.WithBufferSize(cfg.NotificationBufferSize),
		notification.WithPolicy(notification.Policy(cfg.NotificationPolicy)),
		notification.WithPingTimeout(cfg.PingTimeout),
		notification.WithHistory(max(cfg.NotificationHistorySize, 0), cfg.NotificationHistoryTTL),
	}
	s, err := notification.NewRedisNotificationSystem(rdb, opts...)
	if err != nil {
		return nil, nil, nil, err
	}
	lifecycle.AppendNotifications(lc, &lifecycle.Notifications{System: s})

	checks := []health.Check{
		alive(i.check("notifications"), s.Alive),
		{Name: i.check("subscriptions"), Kind: health.Readiness, Timeout: cfg.PingTimeout, Func: s.HealthCheck},
	}
	return s, checks, s.Collector(), nil
}

// NotificationSystem lets a replaced *notification.RedisNotificationSystem show
// through.
func (Instance) NotificationSystem(s *notification.RedisNotificationSystem) notification.NotificationSystem {
	return s
}

// alive is a liveness check: it asks whether goroutines of ours run, never Redis.
func alive(name string, f func() error) health.Check {
	return health.Check{Name: name, Kind: health.Liveness, Func: func(context.Context) error { return f() }}
}
