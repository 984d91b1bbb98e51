package cache_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/fx"
	uberfxtest "go.uber.org/fx/fxtest"

	"github.com/compozy/cache"
	"github.com/compozy/cache/internal/redistest"
)

func TestHolderIsToldBeforeTheTTLWhenRedisStops(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	var parts everything
	startApp(t, server, fx.Invoke(func(p everything) { parts = p }))
	const ttl = 5 * time.Second
	acquired, err := parts.LockManager.Acquire(timeout(t), "job", ttl)
	require.NoError(t, err)
	lock := acquired.(*cache.RedisLock)

	server.Stop()
	// Redis has seen nothing that could make the key live longer than this.
	expiry := time.Now().Add(ttl)

	select {
	case <-lock.Lost():
	case <-timeout(t).Done():
		require.FailNow(t, "the holder was never notified")
	}
	// When the holder was notified, and not when this goroutine got to run after that.
	assert.True(t, lock.Until().Before(expiry), "notified before the key can expire")
	assert.False(t, lock.IsHeld())
	require.ErrorIs(t, context.Cause(lock.Context()), cache.ErrLockExpired)
	require.ErrorIs(t, lock.Release(timeout(t)), cache.ErrLockNotHeld)
}

// TestRedisKilledAndRestarted is the life of an application during an outage:
// commands fail, readiness says so, and everything comes back by itself.
func TestRedisKilledAndRestarted(t *testing.T) {
	t.Parallel()
	for name, options := range map[string][]redistest.Option{
		"empty": nil, "with its data": {redistest.WithPersistence()},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t, options...)
			var parts everything
			startConfigured(t, brittleConfigOf(server), fx.Invoke(func(p everything) { parts = p }))
			ctx := timeout(t)
			probes := parts.Health.Handler()
			sub := parts.Notification.Subscribe(ctx, "workflow:*")
			publish := func(id string) error {
				return parts.Notification.PublishWorkflowEvent(ctx, &cache.WorkflowEvent{ID: id, Status: "s"})
			}
			require.NoError(t, publish("before"))
			assert.Equal(t, "workflow:events", receive(ctx, t, sub).Channel)
			eventually(t, "ready", func() bool { return status(probes, "/readyz") == http.StatusOK })

			server.Kill()
			require.Error(t, publish("lost"))
			_, err := parts.LockManager.Acquire(ctx, "job", time.Minute)
			require.ErrorIs(t, err, cache.ErrLockRedis)
			require.NotErrorIs(t, err, cache.ErrLockNotAcquired)
			assert.Equal(t, http.StatusServiceUnavailable, status(probes, "/readyz"))
			assert.Equal(t, http.StatusServiceUnavailable, status(probes, "/healthz"))
			assert.Equal(t, http.StatusOK, status(probes, "/livez"))

			server.Restart()
			eventually(t, "ready again", func() bool {
				assert.Equal(t, http.StatusOK, status(probes, "/livez"))
				return status(probes, "/readyz") == http.StatusOK
			})
			require.NoError(t, publish("after"))
			msg := receive(ctx, t, sub)
			assert.Contains(t, msg.Payload, `"after"`)
			assert.NotNil(t, msg.Gap, "the server may not have had everything")
			_, err = parts.LockManager.Acquire(ctx, "job", time.Minute)
			require.NoError(t, err)
		})
	}
}

// TestStartedWithoutRedisEverythingComesByItself starts an application, and lets it
// subscribe, before there is a server or a lock node.
func TestStartedWithoutRedisEverythingComesByItself(t *testing.T) {
	t.Parallel()
	servers := redistest.StartN(t, 4)
	no := false
	cfg := brittleConfigOf(servers[0])
	cfg.Required = &no
	for _, node := range servers[1:] {
		cfg.LockNodes = append(cfg.LockNodes, node.Addr())
	}
	for _, s := range servers {
		s.Kill()
	}
	var parts everything
	app := uberfxtest.New(t, cache.Module, cache.WithConfig(cfg), fx.Invoke(func(p everything) { parts = p }))
	app.RequireStart()
	t.Cleanup(app.RequireStop)
	ctx := timeout(t)
	probes := parts.Health.Handler()
	sub := parts.Notification.Subscribe(ctx, "workflow:w1")
	_, err := parts.LockManager.Acquire(ctx, "job", time.Minute)
	require.ErrorIs(t, err, cache.ErrLockRedis)
	assert.Equal(t, http.StatusServiceUnavailable, status(probes, "/readyz"))
	assert.Equal(t, http.StatusOK, status(probes, "/livez"))

	servers[0].Restart()
	eventually(t, "the subscription is live", func() bool {
		return parts.NotificationConcrete.HealthCheck(ctx) == nil
	})
	require.NoError(t, parts.Notification.PublishWorkflowEvent(ctx, &cache.WorkflowEvent{ID: "w1", Status: "s"}))
	assert.Contains(t, receive(ctx, t, sub).Payload, `"w1"`)
	assert.Equal(t, http.StatusServiceUnavailable, status(probes, "/readyz"), "there are no lock nodes yet")

	for _, node := range servers[2:] { // a majority
		node.Restart()
	}
	eventually(t, "ready", func() bool { return status(probes, "/readyz") == http.StatusOK })
	lock, err := parts.LockManager.Acquire(ctx, "job", time.Minute)
	require.NoError(t, err)
	require.NoError(t, lock.Release(ctx))
}

// TestStartWithoutRedis covers the topologies that have no server of their own to
// ask: the error names who was asked, and comes inside the budget. That no
// goroutine is left is what goleak finds out.
func TestStartWithoutRedis(t *testing.T) {
	t.Parallel()
	down, hanging := redistest.Start(t), redistest.Start(t)
	down.Kill()
	hanging.Stop()
	for name, addr := range map[string]string{"down": down.Addr(), "hanging": hanging.Addr()} {
		for kind, cfg := range map[string]*cache.Config{
			"Sentinel":   {MasterName: "m", Addrs: []string{addr}},
			"Cluster":    {Cluster: true, Addrs: []string{addr}},
			"TLS":        {URL: "rediss://" + addr},
			"lock nodes": {URL: redistest.Start(t).URL(), LockNodes: []string{addr}},
		} {
			app := fx.New(fx.NopLogger, cache.Module, cache.WithConfig(cfg), fx.Invoke(func(everything) {}))
			started := make(chan error, 1)
			go func() { // all at once, as each waits for half of its budget
				ctx, cancel := context.WithTimeout(t.Context(), startBudget)
				defer cancel()
				started <- app.Start(ctx)
			}()
			t.Run(kind+" "+name, func(t *testing.T) {
				t.Parallel()
				err := <-started
				// When the budget is over, Fx says no more than that.
				require.ErrorIs(t, err, cache.ErrUnreachable)
				require.ErrorContains(t, err, addr)
			})
		}
	}
}
