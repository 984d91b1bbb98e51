package cache_test

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/fx"
	"go.uber.org/fx/fxevent"
	uberfxtest "go.uber.org/fx/fxtest"

	"github.com/compozy/cache"
	"github.com/compozy/cache/health"
	"github.com/compozy/cache/internal/redistest"
)

// service uses Redis while it starts and while it stops.
func service(used *[]string) fx.Option {
	type marker struct{}
	return fx.Module("orders", fx.Provide(func(lc fx.Lifecycle, rdb *cache.Redis, locks cache.LockManager) *marker {
		use := func(when string) func(context.Context) error {
			return func(ctx context.Context) error {
				*used = append(*used, when)
				lock, err := locks.Acquire(ctx, "orders", time.Minute)
				if err != nil {
					return err
				}
				if err := lock.Release(ctx); err != nil {
					return err
				}
				return rdb.Ping(ctx).Err()
			}
		}
		lc.Append(fx.Hook{OnStart: use("start"), OnStop: use("stop")})
		return &marker{}
	}), fx.Invoke(func(*marker) {}))
}

func TestServicesUseRedisFromStartToStop(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	for name, first := range map[string]bool{"service first": true, "module first": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var used []string
			opts := []fx.Option{cache.Module, cache.WithConfig(configOf(server))}
			if first {
				opts = append([]fx.Option{service(&used)}, opts...)
			} else {
				opts = append(opts, service(&used))
			}
			uberfxtest.New(t, opts...).RequireStart().RequireStop()
			assert.Equal(t, []string{"start", "stop"}, used)
		})
	}
}

func TestStopReleasesLocksAndDeliversWhatIsBuffered(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	var parts everything
	app := uberfxtest.New(t, cache.Module, cache.WithConfig(configOf(server)), fx.Invoke(func(p everything) { parts = p }))
	app.RequireStart()
	ctx := timeout(t)
	_, err := parts.LockManager.Acquire(ctx, "held", time.Hour)
	require.NoError(t, err)
	sub := parts.Notification.Subscribe(ctx, "task:events")
	for _, id := range []string{"1", "2", "3"} {
		require.NoError(t, parts.Notification.PublishTaskEvent(ctx, &cache.TaskEvent{ID: id, WorkflowID: "w", Status: "done"}))
	}
	eventually(t, "all three have arrived", func() bool { return len(sub.Messages()) == 3 })
	received := make(chan int)
	go func() {
		n := 0
		for range sub.Messages() {
			n++
		}
		received <- n
	}()

	app.RequireStop()

	assert.Equal(t, 3, <-received)
	fresh, err := cache.SetupCache(ctx, configOf(server))
	require.NoError(t, err)
	defer fresh.Close()
	_, err = fresh.LockManager.Acquire(ctx, "held", time.Minute)
	require.NoError(t, err, "what was held has been released")
}

// TestNothingWorksAfterTheStop holds on to the parts for longer than the application
// lives: each says that it is closed, and does not connect again.
func TestNothingWorksAfterTheStop(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	var parts everything
	app := uberfxtest.New(t, cache.Module, cache.WithConfig(configOf(server)), fx.Invoke(func(p everything) { parts = p }))
	app.RequireStart()
	ctx := timeout(t)
	held, err := parts.RedisLockManager.Acquire(ctx, "held", time.Hour)
	require.NoError(t, err)
	waited := make(chan error, 1)
	go func() {
		_, err := parts.RedisLockManager.AcquireWait(ctx, "held", time.Hour)
		waited <- err
	}()
	eventually(t, "somebody waits", func() bool { return parts.RedisLockManager.GetMetrics().Waiting == 1 })

	app.RequireStop()

	require.ErrorIs(t, <-waited, cache.ErrManagerClosed)
	assert.False(t, held.IsHeld())
	require.ErrorIs(t, held.Refresh(ctx), cache.ErrLockNotHeld)
	_, err = parts.LockManager.Acquire(ctx, "other", time.Minute)
	require.ErrorIs(t, err, cache.ErrManagerClosed)
	require.ErrorIs(t, parts.Notification.PublishWorkflowEvent(ctx, &cache.WorkflowEvent{ID: "w", Status: "s"}), cache.ErrNotificationsClosed)
	require.ErrorIs(t, parts.Store.HealthCheck(ctx), cache.ErrStoreClosed)
	late := parts.Notification.Subscribe(ctx, "workflow:*")
	_, open := <-late.Messages()
	assert.False(t, open)
	require.ErrorIs(t, late.(*cache.Subscription).Err(), cache.ErrNotificationsClosed)
	require.ErrorIs(t, parts.Redis.Ping(ctx).Err(), redis.ErrClosed)
	require.ErrorIs(t, parts.Redis.HealthCheck(ctx), cache.ErrClientClosed)
	require.Error(t, parts.Health.Run(ctx, health.Readiness).Err())
	eventually(t, "all connections are closed", func() bool { return connections(t, server) == 0 })
}

func TestStopWithAHangingRedisAndAnIdleSubscriberStaysInsideItsBudget(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	var parts everything
	app := uberfxtest.New(t, cache.Module, cache.WithConfig(configOf(server)), fx.Invoke(func(p everything) { parts = p }))
	app.RequireStart()
	ctx := timeout(t)
	parts.Notification.Subscribe(ctx, "workflow:*") // nobody reads it
	require.NoError(t, parts.Notification.PublishWorkflowEvent(ctx, &cache.WorkflowEvent{ID: "w", Status: "s"}))
	_, err := parts.LockManager.Acquire(ctx, "held", time.Hour)
	require.NoError(t, err)
	server.Stop() // and Redis answers nothing

	stop, cancel := context.WithTimeout(t.Context(), 8*time.Second)
	defer cancel()
	_ = app.Stop(stop) // may well say that the lock could not be released
	require.NoError(t, stop.Err(), "the hooks of others still have their time")
}

func TestHooksHaveNamesInTheLogOfFx(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	var log bytes.Buffer
	app := fx.New(cache.Module, cache.WithConfig(configOf(server)), fx.Invoke(func(everything) {}),
		fx.WithLogger(func() fxevent.Logger { return &fxevent.ConsoleLogger{W: &log} }))
	require.NoError(t, app.Start(timeout(t)))
	require.NoError(t, app.Stop(timeout(t)))
	for _, hook := range []string{"(*Redis).Start", "(*Redis).Close", "(*Locks).Stop", "(*Notifications).Stop", "(*Store).Stop", "Drains.Stop"} {
		assert.Contains(t, log.String(), hook)
	}
}
