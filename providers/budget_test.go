package providers

import (
	"context"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/fx/fxtest"

	"github.com/compozy/cache/client"
	"github.com/compozy/cache/config"
	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/lock"
	"github.com/compozy/cache/notification"
	"github.com/compozy/cache/store"
)

// hangs are deployments whose servers can all be made to hang: they accept
// connections, and answer nothing.
var hangs = map[string]func(t *testing.T) (*config.Config, []*redistest.Server){
	"single": func(t *testing.T) (*config.Config, []*redistest.Server) {
		t.Helper()
		s := redistest.Start(t)
		return &config.Config{URL: s.URL()}, []*redistest.Server{s}
	},
	"TLS": func(t *testing.T) (*config.Config, []*redistest.Server) {
		t.Helper()
		s := redistest.Start(t, redistest.WithTLS())
		return &config.Config{Host: s.Host(), Port: s.Port(), TLSConfig: s.TLSConfig()}, []*redistest.Server{s}
	},
	"lock nodes": func(t *testing.T) (*config.Config, []*redistest.Server) {
		t.Helper()
		servers := redistest.StartN(t, 4)
		cfg := &config.Config{URL: servers[0].URL()}
		for _, node := range servers[1:] {
			cfg.LockNodes = append(cfg.LockNodes, node.Addr())
		}
		return cfg, servers
	},
	"Sentinel": func(t *testing.T) (*config.Config, []*redistest.Server) {
		t.Helper()
		s := redistest.StartSentinel(t)
		return &config.Config{MasterName: s.MasterName(), Addrs: s.Addrs()}, append(s.Sentinels(), s.Master(), s.Replica())
	},
	"Cluster": func(t *testing.T) (*config.Config, []*redistest.Server) {
		t.Helper()
		s := redistest.StartCluster(t, 3)
		return &config.Config{Cluster: true, Addrs: s.Addrs()}, s.Nodes()
	},
}

// instance is all parts of an instance, with their hooks on a life cycle that
// gives up on a hook as soon as its time is over, whether the hook does or not.
type instance struct {
	lifecycle     *fxtest.Lifecycle
	redis         *client.Redis
	locks         *lock.RedisLockManager
	notifications *notification.RedisNotificationSystem
	store         *store.Store
}

func newInstance(t *testing.T, cfg *config.Config) instance {
	t.Helper()
	i := instance{lifecycle: fxtest.NewLifecycle(t, fxtest.EnforceTimeout(true))}
	env := Environment{Lifecycle: i.lifecycle}
	r, err := Instance{}.Redis(env, cfg, &Source{})
	require.NoError(t, err)
	locks, err := Instance{}.Locks(env, cfg, r.Value, r.Value)
	require.NoError(t, err)
	notifications, err := Instance{}.Notifications(env, cfg, r.Value)
	require.NoError(t, err)
	values, err := Instance{}.Store(env, cfg, r.Value)
	require.NoError(t, err)
	i.redis, i.locks, i.notifications, i.store = r.Value, locks.Value, notifications.Value, values.Value
	return i
}

// queued reports whether somebody waits for a lock, and every node knows.
func (i instance) queued(t *testing.T, resource string) bool {
	t.Helper()
	nodes := i.redis.LockNodes()
	if len(nodes) == 0 {
		nodes = []redis.UniversalClient{i.redis}
	}
	for _, node := range nodes {
		if node.ZCard(t.Context(), "cache:lock:{"+resource+"}:queue").Val() != 1 {
			return false
		}
	}
	return i.locks.GetMetrics().Waiting == 1
}

// within calls a part of a life cycle and asserts that it came back by itself,
// with half of its time to spare.
func within(t *testing.T, call func(context.Context) error) error {
	t.Helper()
	const budget = 8 * time.Second
	ctx, cancel := context.WithTimeout(t.Context(), budget)
	defer cancel()
	began := time.Now()
	err := call(ctx)
	require.NoError(t, ctx.Err(), "a hook hangs")
	assert.Less(t, time.Since(began), budget/2+2*time.Second, "half of the time, and some for a busy machine")
	return err
}

func TestStartHooksGiveUpInTime(t *testing.T) {
	t.Parallel()
	for name, start := range hangs {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg, servers := start(t)
			for _, s := range servers {
				s.Stop()
			}
			required := newInstance(t, cfg)
			require.ErrorIs(t, within(t, required.lifecycle.Start), client.ErrUnreachable, "and not the bare deadline")
			require.NoError(t, within(t, required.lifecycle.Stop))
			require.ErrorIs(t, required.redis.HealthCheck(t.Context()), client.ErrClosed)

			no := false
			cfg.Required = &no
			optional := newInstance(t, cfg)
			require.NoError(t, within(t, optional.lifecycle.Start))
			require.NoError(t, within(t, optional.lifecycle.Stop))
		})
	}
}

func TestStopHooksGiveUpInTime(t *testing.T) {
	t.Parallel()
	for name, start := range hangs {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg, servers := start(t)
			i := newInstance(t, cfg)
			require.NoError(t, within(t, i.lifecycle.Start))
			_, err := i.locks.Acquire(t.Context(), "held", time.Hour)
			require.NoError(t, err)
			waited := make(chan error, 1)
			go func() {
				_, err := i.locks.AcquireWait(t.Context(), "held", time.Hour)
				waited <- err
			}()
			// An answer that is still awaited when Redis stops is waited for, longer than the stop may take.
			require.Eventually(t, func() bool { return i.queued(t, "held") }, time.Minute, time.Millisecond)
			sub := i.notifications.Subscribe(t.Context(), "workflow:*") // which nobody reads
			require.NoError(t, i.notifications.PublishWorkflowEvent(t.Context(), &notification.WorkflowEvent{ID: "w", Status: "s"}))
			require.Eventually(t, func() bool { return len(sub.Messages()) == 1 }, time.Minute, time.Millisecond)
			users, err := store.NewCache[string](i.store, "users")
			require.NoError(t, err)
			loading, loaded := make(chan struct{}), make(chan error, 1)
			go func() {
				_, err := users.GetOrLoad(t.Context(), "7", func(ctx context.Context) (string, error) {
					close(loading)
					<-ctx.Done()
					return "", ctx.Err()
				})
				loaded <- err
			}()
			<-loading

			for _, s := range servers {
				s.Stop()
			}
			deleted := make(chan error, 1)
			go func() { deleted <- users.Delete(t.Context(), "8") }() // to be repeated from then on
			require.Error(t, <-deleted)

			require.Error(t, within(t, i.lifecycle.Stop), "neither was the lock released nor the message read")
			require.ErrorIs(t, <-loaded, store.ErrClosed)
			require.ErrorIs(t, <-waited, lock.ErrManagerClosed)
			require.ErrorIs(t, i.redis.HealthCheck(t.Context()), client.ErrClosed)
		})
	}
}

// Without a deadline the hooks have to set one themselves.
func TestHooksWithoutADeadline(t *testing.T) {
	t.Parallel()
	cfg, _ := hangs["single"](t)
	i := newInstance(t, cfg)
	i.lifecycle.RequireStart()
	_, err := i.locks.Acquire(t.Context(), "held", time.Hour)
	require.NoError(t, err)
	i.lifecycle.RequireStop()
}
