package cache_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/fx"
	uberfxtest "go.uber.org/fx/fxtest"

	"github.com/compozy/cache"
	"github.com/compozy/cache/health"
	"github.com/compozy/cache/internal/redistest"
)

// topologies are the ways in which Redis can be deployed, as configurations.
var topologies = map[string]func(t *testing.T) *cache.Config{
	"single": func(t *testing.T) *cache.Config {
		t.Helper()
		return configOf(redistest.Start(t))
	},
	"ACL user, TLS with own CA and client certificate": func(t *testing.T) *cache.Config {
		t.Helper()
		s := redistest.Start(t, redistest.WithUser("app", "hunter2"), redistest.WithTLS(), redistest.WithConfig("tls-auth-clients", "yes"))
		return &cache.Config{
			Host: s.Host(), Port: s.Port(), Username: "app", Password: "hunter2",
			TLSEnabled: true, TLSCAFile: s.CAFile(), TLSCertFile: s.CertFile(), TLSKeyFile: s.KeyFile(), TLSServerName: "localhost",
			PingTimeout: patience,
		}
	},
	"Sentinel": func(t *testing.T) *cache.Config {
		t.Helper()
		s := redistest.StartSentinel(t, redistest.WithPassword("hunter2"), redistest.WithSentinelPassword("hunter3"))
		return &cache.Config{
			MasterName: s.MasterName(), Addrs: s.Addrs(), Password: "hunter2", SentinelPassword: "hunter3", PingTimeout: patience,
		}
	},
	"Cluster": func(t *testing.T) *cache.Config {
		t.Helper()
		s := redistest.StartCluster(t, 3, redistest.WithPassword("hunter2"))
		return &cache.Config{Cluster: true, Addrs: s.Addrs(), Password: "hunter2", PingTimeout: patience}
	},
	"three lock nodes, one stopped": func(t *testing.T) *cache.Config {
		t.Helper()
		nodes := redistest.StartN(t, 3, redistest.WithPassword("hunter2"))
		nodes[1].Stop()
		main := redistest.Start(t, redistest.WithPassword("hunter2"))
		// A start asks the stopped node for all of the ping timeout.
		cfg := &cache.Config{Host: main.Host(), Port: main.Port(), Password: "hunter2", PingTimeout: 2 * time.Second}
		cfg.LockNodes = []string{nodes[0].Addr(), nodes[1].Addr(), nodes[2].URL()}
		return cfg
	},
}

// TestTwoApplicationsOnEveryTopology lets an application with Fx and a program
// without share a Redis.
func TestTwoApplicationsOnEveryTopology(t *testing.T) {
	t.Parallel()
	for name, start := range topologies {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := start(t)
			ctx := timeout(t)
			var one everything
			app := uberfxtest.New(t, cache.Module, cache.WithConfig(cfg), fx.Invoke(func(p everything) { one = p }))
			app.RequireStart()
			t.Cleanup(func() { assert.NoError(t, app.Stop(context.WithoutCancel(ctx))) })
			two, err := cache.SetupCache(ctx, cfg)
			require.NoError(t, err)
			t.Cleanup(func() { assert.NoError(t, two.Close()) })

			shareState(ctx, t, one, two)
			shareLock(ctx, t, one, two)
			shareEvents(ctx, t, one, two)
			require.NoError(t, two.HealthCheck(ctx))
			require.NoError(t, one.Health.Run(ctx, health.Readiness, health.Liveness).Err())
		})
	}
}

func shareState(ctx context.Context, t *testing.T, one everything, two *cache.Cache) {
	t.Helper()
	for _, key := range []string{"a", "b", "c", "d"} { // on several nodes of a Cluster
		require.NoError(t, one.Redis.Set(ctx, key, key, time.Minute).Err())
		assert.Equal(t, key, two.Redis.Get(ctx, key).Val())
	}
}

// shareLock lets one refuse a lock to two, pass it on to it, and get it back.
func shareLock(ctx context.Context, t *testing.T, one everything, two *cache.Cache) {
	t.Helper()
	first, err := one.LockManager.Acquire(ctx, "invoice-7", time.Minute)
	require.NoError(t, err)
	_, err = two.LockManager.Acquire(ctx, "invoice-7", time.Minute)
	require.ErrorIs(t, err, cache.ErrLockNotAcquired)

	waiter := two.LockManager.(*cache.RedisLockManager)
	handed := make(chan cache.FencedLock, 1)
	go func() {
		l, err := waiter.AcquireWait(ctx, "invoice-7", time.Minute)
		assert.NoError(t, err)
		handed <- l
	}()
	eventually(t, "two waits", func() bool { return waiter.GetMetrics().Waiting == 1 })
	require.NoError(t, first.Release(ctx))
	second := <-handed
	require.NotNil(t, second)
	assert.Greater(t, second.Token(), first.(*cache.RedisLock).Token())
	require.NoError(t, second.Refresh(ctx))
	require.NoError(t, second.Release(ctx))
	require.NoError(t, one.RedisLockManager.WithLock(ctx, "invoice-7", time.Minute,
		func(_ context.Context, l cache.FencedLock) error {
			assert.Greater(t, l.Token(), second.Token())
			return nil
		}))
}

// shareEvents lets two hear what one publishes, by glob and by name.
func shareEvents(ctx context.Context, t *testing.T, one everything, two *cache.Cache) {
	t.Helper()
	glob := two.Notification.Subscribe(ctx, "workflow:*")
	exact := two.Notification.Subscribe(ctx, "task:workflow:w1")
	require.NoError(t, one.Notification.PublishWorkflowEvent(ctx, &cache.WorkflowEvent{ID: "w1", Status: "running"}))
	require.NoError(t, one.Notification.PublishTaskEvent(ctx, &cache.TaskEvent{ID: "t1", WorkflowID: "w1", Status: "done"}))
	workflow, err := cache.Decode[cache.WorkflowEvent](receive(ctx, t, glob))
	require.NoError(t, err)
	assert.Equal(t, "running", workflow.Status)
	task, err := cache.Decode[cache.TaskEvent](receive(ctx, t, exact))
	require.NoError(t, err)
	assert.Equal(t, "done", task.Status)
	require.NoError(t, glob.Close())
	require.NoError(t, exact.Close())
}

// receive returns the next message of a subscriber.
func receive(ctx context.Context, t *testing.T, sub cache.Subscriber) *cache.Message {
	t.Helper()
	select {
	case msg, open := <-sub.Messages():
		require.True(t, open, "the subscriber was closed")
		return msg
	case <-ctx.Done():
		require.FailNow(t, "no message arrived")
		return nil
	}
}
