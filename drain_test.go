package cache_test

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/fx"
	uberfxtest "go.uber.org/fx/fxtest"

	"github.com/compozy/cache"
	"github.com/compozy/cache/embedded"
	"github.com/compozy/cache/health"
	"github.com/compozy/cache/internal/redistest"
)

// piped is a configuration for a server of its own in the bubble.
func piped(t *testing.T, delay time.Duration) *cache.Config {
	t.Helper()
	server := embedded.New()
	t.Cleanup(func() { assert.NoError(t, server.Close()) })
	cfg := server.Config()
	cfg.DrainDelay = delay
	return cfg
}

// failing returns the readiness checks that fail, with their errors.
func failing(t *testing.T, h http.Handler) map[string]string {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/readyz", nil))
	var report cache.HealthReport
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &report))
	assert.Equal(t, report.Status != health.OK, w.Code == http.StatusServiceUnavailable)
	found := map[string]string{}
	for _, c := range report.Checks {
		if c.Status != health.OK {
			found[c.Name] = c.Error
		}
	}
	return found
}

// aside calls stop, and returns a channel with what it took.
func aside(stop func()) <-chan time.Duration {
	took, begin := make(chan time.Duration, 1), time.Now()
	go func() {
		stop()
		took <- time.Since(begin)
	}()
	return took
}

// web is an HTTP server: what it serves, it serves until its hook stops it.
type web struct{ closed bool }

func newWeb(lc fx.Lifecycle, _ *cache.Health) *web {
	w := &web{}
	lc.Append(fx.StopHook(func() { w.closed = true }))
	return w
}

// During the delay all works as before, only readiness is gone. Whatever the instances and their delays, it is one delay.
func TestReadinessFailsBeforeAnythingCloses(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		delays   []time.Duration // of the unnamed instance, and of further ones
		timeout  time.Duration
		waits    time.Duration
		stopping map[string]string
	}{
		"one instance": {
			[]time.Duration{5 * time.Second}, 15 * time.Second, 5 * time.Second, map[string]string{"running": "cache: stopping"},
		},
		"cut short by the stop timeout": {
			[]time.Duration{time.Hour}, 20 * time.Second, 10 * time.Second, map[string]string{"running": "cache: stopping"},
		},
		"three instances": {
			[]time.Duration{3 * time.Second, 5 * time.Second, 0}, 15 * time.Second, 5 * time.Second,
			map[string]string{"running": "cache: stopping", "b.running": "cache: stopping", "c.running": "cache: stopping"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var parts everything
				var server *web
				opts := []fx.Option{cache.Module, cache.WithConfig(piped(t, tc.delays[0]))}
				for i, delay := range tc.delays[1:] {
					opts = append(opts, cache.Named(string(rune('b'+i)), cache.WithConfig(piped(t, delay))))
				}
				app := uberfxtest.New(t, append(opts, fx.Provide(newWeb), fx.Populate(&server),
					fx.Invoke(func(p everything) { parts = p }), cache.DrainOnStop)...)
				app.RequireStart()
				h := parts.Health.Handler()
				held, err := parts.LockManager.Acquire(t.Context(), "held", time.Hour)
				require.NoError(t, err)
				require.Empty(t, failing(t, h))

				ctx, cancel := context.WithTimeout(t.Context(), tc.timeout)
				defer cancel()
				took := aside(func() { assert.NoError(t, app.Stop(ctx)) })
				for range 2 { // at the beginning of the delay and at its end
					synctest.Wait()
					assert.Equal(t, tc.stopping, failing(t, h))
					assert.Equal(t, http.StatusOK, status(h, "/livez"))
					assert.False(t, server.closed)
					assert.True(t, held.IsHeld())
					require.NoError(t, parts.Redis.Ping(t.Context()).Err())
					other, err := parts.LockManager.Acquire(t.Context(), "other", time.Minute)
					require.NoError(t, err)
					require.NoError(t, other.Release(t.Context()))
					require.NoError(t, parts.Notification.PublishTaskEvent(t.Context(), &cache.TaskEvent{ID: "t", Status: "s"}))
					time.Sleep(tc.waits - time.Millisecond) // in a bubble: its clock
				}

				assert.Equal(t, tc.waits, (<-took).Truncate(time.Second))
				assert.True(t, server.closed)
				assert.False(t, held.IsHeld())
			})
		})
	}
}

// Without DrainOnStop as the last option they come before the module closes, and after what was constructed later.
func TestWithoutDrainOnStop(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var parts everything
		var server *web
		app := uberfxtest.New(t, cache.Module, cache.WithConfig(piped(t, time.Second)), fx.Provide(newWeb), fx.Populate(&server),
			fx.Invoke(func(p everything) { parts = p }))
		app.RequireStart()
		took := aside(func() { app.RequireStop() })
		synctest.Wait()
		assert.True(t, server.closed)
		assert.Equal(t, map[string]string{"running": "cache: stopping"}, failing(t, parts.Health.Handler()))
		require.NoError(t, parts.Redis.Ping(t.Context()).Err())
		assert.Equal(t, time.Second, (<-took).Truncate(time.Second))
	})
}

// The default is no delay; and that a server was replaced, or its parts are fakes, changes nothing.
func TestNoDrainDelay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var h *cache.Health
		app := uberfxtest.New(t, cache.Module, cache.WithConfig(piped(t, 0)), fx.Populate(&h), cache.DrainOnStop,
			cache.ReplaceLockManager(everythingIsTaken{}))
		app.RequireStart()
		begin := time.Now()
		app.RequireStop()
		assert.Less(t, time.Since(begin), time.Second)
		require.ErrorIs(t, h.Run(t.Context(), health.Readiness).Err(), cache.ErrStopping)
		require.NoError(t, h.Run(t.Context(), health.Liveness).Err())
	})
}

func TestDrainOnStopNeedsTheModule(t *testing.T) {
	t.Parallel()
	err := fx.New(fx.NopLogger, cache.DrainOnStop).Err()
	require.ErrorIs(t, err, cache.ErrInvalidOption)
	require.ErrorContains(t, err, "DrainOnStop")
}

// Without Fx, Close does the same, and Drain does it before the program closes its own servers.
func TestCloseDrainsFirst(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		delay, drains, closes time.Duration
	}{
		"delay":     {5 * time.Second, 0, 5 * time.Second},
		"too long":  {time.Hour, 0, 7500 * time.Millisecond},
		"none":      {0, 0, 0},
		"by itself": {time.Minute, time.Minute, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c, err := cache.SetupCache(t.Context(), piped(t, tc.delay), cache.SetupWithName("sessions"))
				require.NoError(t, err)
				other, err := cache.SetupCache(t.Context(), piped(t, tc.delay))
				require.NoError(t, err)
				h := c.Health().Handler()
				require.Empty(t, failing(t, h))
				held, err := c.LockManager.Acquire(t.Context(), "held", time.Hour)
				require.NoError(t, err)
				working := func() {
					synctest.Wait()
					assert.Equal(t, map[string]string{"sessions.running": "cache: stopping"}, failing(t, h))
					assert.Equal(t, http.StatusOK, status(h, "/livez"))
					assert.True(t, held.IsHeld())
					require.NoError(t, c.Redis.Ping(t.Context()).Err())
				}
				if tc.drains > 0 {
					took := aside(func() { assert.NoError(t, c.Drain(t.Context())) })
					working()
					assert.Equal(t, tc.drains, (<-took).Truncate(100*time.Millisecond))
				}
				took := aside(func() { assert.NoError(t, c.Close()) })
				if tc.closes > 0 {
					working()
				}
				assert.Equal(t, tc.closes, (<-took).Truncate(100*time.Millisecond))
				assert.False(t, held.IsHeld())
				require.NoError(t, other.HealthCheck(t.Context()), "another instance without Fx goes on")
				ended, cancel := context.WithCancel(t.Context())
				cancel()
				if tc.delay > 0 {
					require.ErrorIs(t, other.Drain(ended), context.Canceled)
				}
				require.NoError(t, other.Close())
			})
		})
	}
}

func TestDrainRefusesWhatCannotBeDrained(t *testing.T) {
	t.Parallel()
	c, err := cache.SetupCache(timeout(t), configOf(redistest.Start(t)))
	require.NoError(t, err)
	defer c.Close()
	var wrong *cache.ArgumentError
	require.ErrorAs(t, c.Drain(nil), &wrong) //nolint:staticcheck // a nil ctx is what it is about
	require.ErrorAs(t, (*cache.Cache)(nil).Drain(t.Context()), &wrong)
	require.ErrorAs(t, (&cache.Cache{}).Drain(t.Context()), &wrong)
}

// A start that fails is not delayed.
func TestFailedStartDoesNotDrain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cfg := &cache.Config{DrainDelay: time.Hour, Dialer: func(context.Context, string, string) (net.Conn, error) {
			return nil, errors.New("refused")
		}}
		begin := time.Now()
		_, err := cache.SetupCache(t.Context(), cfg)
		require.ErrorContains(t, err, "refused")
		app := fx.New(fx.NopLogger, cache.Module, cache.WithConfig(cfg), cache.DrainOnStop)
		require.ErrorContains(t, app.Start(t.Context()), "refused")
		assert.Less(t, time.Since(begin), time.Minute)
	})
}
