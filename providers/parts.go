package providers

import (
	"context"

	"github.com/redis/go-redis/v9"

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
	env Environment, cfg *config.Config, rdb redis.UniversalClient, owner *client.Redis,
) (Part[*lock.RedisLockManager], error) {
	cfg = cfg.WithDefaults()
	opts := []lock.Option{
		lock.WithName(i.label()), lock.WithLogger(i.logger(env.Logger)), lock.WithKeyPrefix(cfg.KeyPrefix),
		lock.WithTracerProvider(env.Tracing),
	}
	nodes := owner.LockNodes()
	if len(nodes) > 0 {
		opts = append(opts, lock.WithNodes(nodes...))
	}
	m, err := lock.NewRedisLockManager(rdb, opts...)
	if err != nil {
		return Part[*lock.RedisLockManager]{}, err
	}
	lifecycle.AppendLocks(env.Lifecycle, &lifecycle.Locks{Manager: m})

	checks := []health.Check{alive(i.check("locks"), m.Alive)}
	if len(nodes) > 0 { // on the main server the client's own check says the same
		checks = append(checks, health.Check{
			Name: i.check("lock_nodes"), Kind: health.Readiness, Timeout: cfg.PingTimeout, Func: owner.CheckLockNodes,
		})
	}
	return Part[*lock.RedisLockManager]{Value: m, Checks: checks, Collector: m.Collector()}, nil
}

// Notifications constructs the notification system. It connects with the first
// subscription.
func (i Instance) Notifications(
	env Environment, cfg *config.Config, rdb redis.UniversalClient,
) (Part[*notification.RedisNotificationSystem], error) {
	cfg = cfg.WithDefaults()
	opts := []notification.Option{
		notification.WithName(i.label()),
		notification.WithLogger(i.logger(env.Logger)),
		notification.WithKeyPrefix(cfg.KeyPrefix),
		notification.WithBufferSize(cfg.NotificationBufferSize),
		notification.WithPolicy(notification.Policy(cfg.NotificationPolicy)),
		notification.WithPingTimeout(cfg.PingTimeout),
		notification.WithTracerProvider(env.Tracing),
		notification.WithHistory(max(cfg.NotificationHistorySize, 0), cfg.NotificationHistoryTTL),
		notification.WithHistoryBytes(int64(cfg.NotificationHistoryBytes)),
		notification.WithMaxEventSize(cfg.NotificationMaxEventSize),
		notification.WithChannelPrefix(cfg.NotificationChannelPrefix),
	}
	s, err := notification.NewRedisNotificationSystem(rdb, opts...)
	if err != nil {
		return Part[*notification.RedisNotificationSystem]{}, err
	}
	lifecycle.AppendNotifications(env.Lifecycle, &lifecycle.Notifications{System: s})

	checks := []health.Check{
		alive(i.check("notifications"), s.Alive),
		{Name: i.check("subscriptions"), Kind: health.Readiness, Timeout: cfg.PingTimeout, Func: s.HealthCheck},
	}
	return Part[*notification.RedisNotificationSystem]{Value: s, Checks: checks, Collector: s.Collector()}, nil
}

// alive is a liveness check: it asks whether goroutines of ours run, never Redis.
func alive(name string, f func() error) health.Check {
	return health.Check{Name: name, Kind: health.Liveness, Func: func(context.Context) error { return f() }}
}
