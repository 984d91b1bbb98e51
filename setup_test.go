package cache_test

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache"
	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/store"
)

func TestSetupCache(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	ctx := timeout(t)
	c, err := cache.SetupCache(ctx, configOf(server))
	require.NoError(t, err)

	require.NoError(t, c.HealthCheck(ctx))
	require.NoError(t, c.Redis.Set(ctx, "k", "v", 0).Err())
	_, err = c.LockManager.Acquire(ctx, "held", time.Hour)
	require.NoError(t, err)
	_, err = c.Locker.TryAcquire(ctx, "held", time.Hour)
	require.ErrorIs(t, err, cache.ErrLockNotAcquired)
	assert.Same(t, c.LockManager, c.Locker)
	sub := c.Notification.Subscribe(ctx, "task:t1")
	require.NoError(t, c.Notification.PublishTaskEvent(ctx, &cache.TaskEvent{ID: "t1", WorkflowID: "w", Status: "done"}))
	assert.Contains(t, (<-sub.Messages()).Payload, `"t1"`)
	flows, err := store.NewState[string](c.Store, "flows")
	require.NoError(t, err)
	_, err = flows.Create(ctx, "f", "running")
	require.NoError(t, err)

	require.NoError(t, c.Close())
	require.NoError(t, c.Close(), "closed twice")
	require.Error(t, c.HealthCheck(ctx))
	_, err = flows.Get(ctx, "f")
	require.ErrorIs(t, err, cache.ErrStoreClosed)
	_, open := <-sub.Messages()
	assert.False(t, open)
	eventually(t, "all connections are closed", func() bool { return connections(t, server) == 0 })
}

// unwilling is a Registerer that keeps what it has.
type unwilling struct {
	prometheus.Registerer

	unregister func()
}

func (u unwilling) Unregister(prometheus.Collector) bool { u.unregister(); return true }

func TestCloseDespiteARegistererThatKeepsMetrics(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	release := make(chan struct{})
	t.Cleanup(func() { close(release) })
	for name, end := range map[string]func(){"panics": func() { panic("boom") }, "does not return": func() { <-release }} {
		c, err := cache.SetupCache(timeout(t), configOf(server), cache.SetupWithRegisterer(unwilling{prometheus.NewRegistry(), end}))
		require.NoError(t, err)
		held, err := c.LockManager.Acquire(timeout(t), "held", time.Hour)
		require.NoError(t, err)
		if name == "panics" {
			require.PanicsWithValue(t, "boom", func() { _ = c.Close() })
		} else {
			require.ErrorContains(t, c.Close(), "the Registerer does not return")
		}
		require.False(t, held.IsHeld(), name)
		require.ErrorIs(t, c.Redis.Ping(timeout(t)).Err(), redis.ErrClosed, name)
		require.NoError(t, c.Close(), "closed twice")
		eventually(t, "all connections are closed", func() bool { return connections(t, server) == 0 })
	}
}

func TestSetupCacheFromTheEnvironment(t *testing.T) { // sets the environment, so not in parallel
	server := redistest.Start(t, redistest.WithPassword("hunter2"))
	t.Setenv("REDIS_HOST", server.Host())
	t.Setenv("REDIS_PORT", server.Port())
	t.Setenv("REDIS_PASSWORD", "hunter2")
	c, err := cache.SetupCache(timeout(t), nil)
	require.NoError(t, err)
	require.NoError(t, c.Close())
}

func TestSetupCacheTwoOnOneServerExcludeEachOther(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	ctx := timeout(t)
	one, err := cache.SetupCache(ctx, configOf(server))
	require.NoError(t, err)
	defer one.Close()
	two, err := cache.SetupCache(ctx, configOf(server))
	require.NoError(t, err)
	defer two.Close()

	lock, err := one.LockManager.Acquire(ctx, "shared", time.Minute)
	require.NoError(t, err)
	_, err = two.LockManager.Acquire(ctx, "shared", time.Minute)
	require.ErrorIs(t, err, cache.ErrLockNotAcquired)
	require.NoError(t, lock.Release(ctx))
	_, err = two.LockManager.Acquire(ctx, "shared", time.Minute)
	require.NoError(t, err)
}

func TestSetupCacheFailsCleanly(t *testing.T) {
	t.Parallel()
	t.Run("redis down", func(t *testing.T) {
		t.Parallel()
		server := redistest.Start(t)
		server.Kill()
		ctx, cancel := context.WithTimeout(t.Context(), startBudget)
		defer cancel()
		_, err := cache.SetupCache(ctx, configOf(server))
		require.ErrorContains(t, err, server.Addr())
		require.NoError(t, ctx.Err(), "half of the budget is left to others")
	})
	t.Run("cancelled", func(t *testing.T) {
		t.Parallel()
		server := redistest.Start(t)
		server.Kill()
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(50*time.Millisecond, cancel)
		_, err := cache.SetupCache(ctx, configOf(server))
		require.ErrorIs(t, err, context.Canceled)
	})
	t.Run("wrong password", func(t *testing.T) {
		t.Parallel()
		server := redistest.Start(t, redistest.WithPassword("right"))
		cfg := &cache.Config{Host: server.Host(), Port: server.Port(), Password: "hunter2"}
		_, err := cache.SetupCache(timeout(t), cfg)
		require.ErrorContains(t, err, "WRONGPASS")
		assert.NotContains(t, err.Error(), "hunter2")
	})
	t.Run("bad config", func(t *testing.T) {
		t.Parallel()
		_, err := cache.SetupCache(t.Context(), &cache.Config{Port: "x"})
		var invalid *cache.ConfigError
		require.ErrorAs(t, err, &invalid)
	})
	t.Run("nil context", func(t *testing.T) {
		t.Parallel()
		//nolint:staticcheck // a nil context is what is tested
		_, err := cache.SetupCache(nil, nil)
		require.ErrorIs(t, err, cache.ErrInvalidArgument)
		//nolint:staticcheck // likewise
		_, err = cache.NewRedis(nil, nil)
		require.ErrorIs(t, err, cache.ErrInvalidArgument)
		//nolint:staticcheck // likewise
		require.ErrorIs(t, (&cache.Redis{}).HealthCheck(nil), cache.ErrInvalidArgument)
		//nolint:staticcheck // likewise
		require.ErrorIs(t, (&cache.Cache{}).HealthCheck(nil), cache.ErrInvalidArgument)
	})
}

// What SetupCache did not make is never healthy, and no method of it panics.
func TestCacheThatSetupCacheDidNotMake(t *testing.T) {
	t.Parallel()
	ended, end := context.WithCancel(t.Context())
	end()
	for name, c := range map[string]*cache.Cache{
		"nil":                    nil,
		"zero":                   {},
		"a part that is nil":     {Redis: nil, Notification: (*cache.RedisNotificationSystem)(nil)},
		"a part that is zero":    {Redis: &cache.Redis{}},
		"a store that is zero":   {Store: &cache.Store{}},
		"parts without a health": {LockManager: fakeLocks{}, Notification: &fakeNotifications{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var bad *cache.ArgumentError
			require.ErrorAs(t, c.HealthCheck(t.Context()), &bad)
			require.ErrorIs(t, c.HealthCheck(t.Context()), cache.ErrInvalidArgument)
			require.Error(t, c.HealthCheck(ended))
			//nolint:staticcheck // a nil context is what is tested
			require.ErrorIs(t, c.HealthCheck(nil), cache.ErrInvalidArgument)
			require.ErrorIs(t, c.Close(), cache.ErrInvalidArgument)
			require.ErrorIs(t, c.Close(), cache.ErrInvalidArgument, "closed twice")
			assert.Empty(t, c.Collectors())

			assert.Equal(t, http.StatusServiceUnavailable, status(c.Health().Handler(), "/readyz"))
			require.ErrorIs(t, c.Health().Run(t.Context()).Err(), cache.ErrInvalidArgument)
			assert.Equal(t, http.StatusOK, status(c.Health().Handler(), "/livez"), "a restart mends nothing")
		})
	}
}

// With the race detector: a Cache may be printed while it is closed.
func TestPrintedCache(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	c, err := cache.SetupCache(timeout(t), configOf(server))
	require.NoError(t, err)
	want := "cache.Cache(client.Redis(single " + server.Addr() + "))"
	var closing sync.WaitGroup
	closing.Go(func() { assert.NoError(t, c.Close()) })
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%d"} {
		assert.Equal(t, want, fmt.Sprintf(verb, c))
	}
	closing.Wait()
	assert.Equal(t, want, fmt.Sprint(c))
	assert.Equal(t, "<nil>", fmt.Sprint((*cache.Cache)(nil)))
	assert.Equal(t, "cache.Cache(<nil>)", fmt.Sprint(&cache.Cache{}))
}
