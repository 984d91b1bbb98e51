package fxtest_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/fx"
	uberfxtest "go.uber.org/fx/fxtest"

	"github.com/compozy/cache"
	"github.com/compozy/cache/embedded"
	cachetest "github.com/compozy/cache/fxtest"
	"github.com/compozy/cache/health"
)

func TestNewStartsAnApplication(t *testing.T) {
	t.Parallel()
	var universal redis.UniversalClient
	app := cachetest.New(t, fx.Populate(&universal),
		cache.WithConfig(&cache.Config{PingTimeout: time.Minute})) // a busy machine is not ill
	ctx := t.Context()
	require.NoError(t, app.Redis.Set(ctx, "k", "v", time.Minute).Err())
	assert.Equal(t, "v", universal.Get(ctx, "k").Val())

	l, err := app.LockManager.Acquire(ctx, "r", time.Minute)
	require.NoError(t, err)
	_, err = app.RedisLockManager.Acquire(ctx, "r", time.Minute)
	require.ErrorIs(t, err, cache.ErrLockNotAcquired)
	_, err = app.Locker.TryAcquire(ctx, "r", time.Minute)
	require.ErrorIs(t, err, cache.ErrLockNotAcquired)
	require.NoError(t, l.Release(ctx))

	sub := app.Notification.Subscribe(ctx, "workflow:*")
	require.NoError(t, app.RedisNotificationSystem.PublishWorkflowEvent(ctx, &cache.WorkflowEvent{ID: "w"}))
	m := <-sub.Messages()
	assert.Contains(t, m.Payload, "event_id")

	report := app.Health.Run(ctx)
	assert.Equal(t, health.OK, report.Status, "%v", report.Err())
	assert.NotEmpty(t, report.Checks)
	assert.Empty(t, app.Server.Addr(), "no port is open")
}

//nolint:tparallel // the subtest is a test that ends before this one goes on
func TestNewStopsTheApplicationWithTheTest(t *testing.T) {
	t.Parallel()
	var app *cachetest.App
	stops := 0
	t.Run("inner", func(t *testing.T) {
		app = cachetest.New(t, fx.Invoke(func(lc fx.Lifecycle) { lc.Append(fx.StopHook(func() { stops++ })) }))
		require.NoError(t, app.Redis.Ping(t.Context()).Err())
	})
	require.Error(t, app.Redis.Ping(t.Context()).Err())
	_, err := app.Server.Dial(t.Context(), "", "")
	require.ErrorIs(t, err, embedded.ErrClosed)
	app.Stop()
	assert.Equal(t, 1, stops, "and once")
}

func TestNewTakesOptions(t *testing.T) {
	t.Parallel()
	locks, notifications := cachetest.NewLockManager(), cachetest.NewNotificationSystem()
	app := cachetest.New(t,
		cache.WithConfig(&cache.Config{URL: "redis://:secret@production.example:6379/3", KeyPrefix: "mine:", LockNodes: []string{"a:1", "b:1", "c:1"}}),
		cache.ReplaceLockManager(locks),
		cache.ReplaceNotificationSystem(notifications),
	)
	assert.Equal(t, "mine:", app.Config.KeyPrefix)
	require.NoError(t, app.Redis.Ping(t.Context()).Err(), "but the server is the embedded one")
	assert.Same(t, locks, app.LockManager)
	assert.Same(t, locks, app.Locker)
	assert.Same(t, notifications, app.Notification)
	l, err := app.RedisLockManager.Acquire(t.Context(), "r", time.Minute)
	require.NoError(t, err)
	require.NoError(t, l.Release(t.Context()))
}

// everythingIsTaken is a fake that is no Locker.
type everythingIsTaken struct{}

func (everythingIsTaken) Acquire(context.Context, string, time.Duration) (cache.Lock, error) {
	return nil, cache.ErrLockNotAcquired
}

func TestNewTakesFakesThatAreNoLockers(t *testing.T) {
	t.Parallel()
	app := cachetest.New(t, cache.ReplaceLockManager(everythingIsTaken{}))
	assert.Equal(t, everythingIsTaken{}, app.LockManager)
	assert.Nil(t, app.Locker)
}

func TestApplicationsCanShareAServer(t *testing.T) {
	t.Parallel()
	first := cachetest.New(t)
	var locks cache.LockManager
	second := uberfxtest.New(t, cache.Module, cache.WithConfig(first.Server.Config()), fx.Populate(&locks))
	second.RequireStart()
	t.Cleanup(second.RequireStop)
	l, err := first.LockManager.Acquire(t.Context(), "r", time.Minute)
	require.NoError(t, err)
	_, err = locks.Acquire(t.Context(), "r", time.Minute)
	require.ErrorIs(t, err, cache.ErrLockNotAcquired)
	require.NoError(t, l.Release(t.Context()))
}

// A whole application on the clock of a bubble.
func TestNewInABubble(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		app := cachetest.New(t)
		ctx := t.Context()
		require.NoError(t, app.Redis.Set(ctx, "hour", 1, time.Hour).Err())
		l, err := app.LockManager.Acquire(ctx, "r", time.Minute)
		require.NoError(t, err)
		sub := app.Notification.Subscribe(ctx, "workflow:*")

		time.Sleep(time.Hour) // in a bubble: its clock
		require.ErrorIs(t, app.Redis.Get(ctx, "hour").Err(), redis.Nil)
		assert.True(t, l.IsHeld(), "it was renewed all the time")
		require.NoError(t, app.Notification.PublishWorkflowEvent(ctx, &cache.WorkflowEvent{ID: "w"}))
		m := <-sub.Messages()
		assert.Nil(t, m.Gap)
		assert.WithinDuration(t, time.Now(), m.Time, time.Second)
		require.NoError(t, l.Release(ctx))
	})
}

//nolint:tparallel // the subtest is a test that ends before this one goes on
func TestModuleClosesTheServerOfAForgottenApplication(t *testing.T) {
	t.Parallel()
	var server *embedded.Server
	t.Run("inner", func(t *testing.T) {
		app := fx.New(cachetest.Module(t), fx.Populate(&server), fx.NopLogger)
		require.NoError(t, app.Err())
		conn, err := server.Dial(t.Context(), "", "")
		require.NoError(t, err)
		t.Cleanup(func() { assert.NoError(t, conn.Close()) })
	})
	_, err := server.Dial(t.Context(), "", "")
	require.ErrorIs(t, err, embedded.ErrClosed)
}

// failures stands for a test that is expected to fail.
type failures struct {
	testing.TB
	mu       sync.Mutex // guards the fields below
	messages int
	cleanups []func()
}

func (f *failures) Errorf(string, ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.messages++
}

func (f *failures) FailNow()         { panic(f) }
func (f *failures) Cleanup(c func()) { f.cleanups = append(f.cleanups, c) }

// run calls test as a test would be called, and reports whether it failed.
func (f *failures) run(test func(t testing.TB)) bool {
	step := func(run func()) {
		defer func() {
			if v := recover(); v != nil && v != any(f) {
				panic(v)
			}
		}()
		run()
	}
	step(func() { test(f) })
	for _, cleanup := range slices.Backward(f.cleanups) {
		step(cleanup)
	}
	return f.messages > 0
}

func TestNewFailsTheTest(t *testing.T) {
	t.Parallel()
	refuse := func(context.Context) error { return errors.New("refused") }
	for name, opt := range map[string]fx.Option{
		"nothing":    fx.Options(),
		"build":      fx.Error(errors.New("refused")),
		"twice":      cache.Module,
		"start":      fx.Invoke(func(lc fx.Lifecycle) { lc.Append(fx.StartHook(refuse)) }),
		"stop":       fx.Invoke(func(lc fx.Lifecycle) { lc.Append(fx.StopHook(refuse)) }),
		"no default": cache.WithConfig(nil),
	} {
		failed := (&failures{TB: t}).run(func(t testing.TB) { cachetest.New(t, opt) })
		assert.Equal(t, name != "nothing", failed, name)
	}
}

// A hook of the code under test that never returns fails the test, instead of holding
// it up. What the application had opened by then is closed all the same: the bubble does
// not end before its last goroutine. By its clock Redis starts in no time, so that it is
// the hook that hangs.
func TestNewGivesUpOnAHangingHook(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		hook  func(func()) fx.Hook
		limit fx.Option
	}{
		"start": {fx.StartHook[func()], fx.StartTimeout(time.Second)},
		"stop":  {fx.StopHook[func()], fx.StopTimeout(time.Second)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				hanging, release := make(chan struct{}), make(chan struct{})
				hang := func() { close(hanging); <-release }
				var rdb *cache.Redis
				failed := (&failures{TB: t}).run(func(t testing.TB) {
					cachetest.New(t, test.limit, fx.Populate(&rdb),
						fx.NopLogger, // or Fx would write to the log of a test that is over
						fx.Invoke(func(lc fx.Lifecycle) { lc.Append(test.hook(hang)) }))
				})
				assert.True(t, failed)
				select {
				case <-hanging: // and not for another reason
				default:
					assert.Fail(t, "the hook was not called")
				}
				assert.ErrorIs(t, rdb.HealthCheck(t.Context()), cache.ErrClientClosed)
				close(release)
			})
		})
	}
}
