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
	cachetest "github.com/compozy/cache/fxtest"
	"github.com/compozy/cache/internal/redistest"
)

// fakeLocks is as small as a fake of a user's is meant to be.
type fakeLocks struct{}

func (fakeLocks) Acquire(context.Context, string, time.Duration) (cache.Lock, error) {
	return nil, cache.ErrLockNotAcquired
}

// wrappedLocks is a decoration that shows Acquire only.
type wrappedLocks struct{ cache.LockManager }

// wrappedLocker is a decoration that shows everything.
type wrappedLocker struct{ cache.Locker }

type fakeNotifications struct{ cache.NotificationSystem }

func TestReplaceWins(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	nowhere := cache.WithConfig(&cache.Config{Host: "127.0.0.1", Port: "1"})
	for name, replace := range map[string]fx.Option{
		"ReplaceConfig": cache.ReplaceConfig(configOf(server)),
		"fx.Replace":    fx.Replace(configOf(server)),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var rdb *cache.Redis
			app := uberfxtest.New(t, cache.Module, nowhere, replace, fx.Populate(&rdb))
			app.RequireStart()
			defer app.RequireStop()
			require.NoError(t, rdb.HealthCheck(timeout(t)))
		})
	}
}

func TestReplaceReachesAUsersModule(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	var got cache.LockManager
	users := fx.Module("orders", fx.Invoke(func(m cache.LockManager) { got = m }))
	startApp(t, server, users, cache.ReplaceLockManager(fakeLocks{}))
	assert.Equal(t, fakeLocks{}, got)
}

// A Locker is the LockManager that the graph has, whatever was put in its place: one world
// of locks and never two.
func TestLockerFollowsTheLockManager(t *testing.T) {
	t.Parallel()
	fake := cachetest.NewLockManager()
	concrete := &cache.RedisLockManager{}
	wrap := func(l *cache.RedisLockManager) cache.LockManager { return wrappedLocker{l} }
	for name, opt := range map[string]fx.Option{
		"nothing":            fx.Options(),
		"ReplaceLockManager": cache.ReplaceLockManager(fake),
		"decorated":          fx.Decorate(wrap),
		"replaced as one":    fx.Replace(fx.Annotate(fake, fx.As(new(cache.LockManager)))),
		"the concrete one":   fx.Replace(concrete),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var locks cache.LockManager
			var locker cache.Locker
			app := fx.New(fx.NopLogger, cache.Module, opt, fx.Populate(&locks, &locker))
			require.NoError(t, app.Err())
			assert.Equal(t, locks, locker)
			if name == "ReplaceLockManager" {
				assert.Same(t, fake, locker)
			}
		})
	}
}

// A fake that is no Locker is an error only where a Locker is asked for, and named
// instances keep their own.
func TestLockManagerThatIsNoLocker(t *testing.T) {
	t.Parallel()
	named := cache.Named("sessions", cache.WithConfig(&cache.Config{Host: "redis.internal"}))
	replaced := []fx.Option{fx.NopLogger, cache.Module, named, cache.ReplaceLockManager(fakeLocks{})}
	var second sessions
	require.NoError(t, fx.New(append(replaced, fx.Invoke(func(s sessions) { second = s }))...).Err())
	assert.Same(t, second.RedisLockManager, second.Locker)
	err := fx.New(append(replaced, fx.Invoke(func(cache.Locker) {}))...).Err()
	require.ErrorIs(t, err, cache.ErrInvalidOption)
	require.ErrorContains(t, err, "is no cache.Locker")
	err = fx.New(fx.NopLogger, fx.Module("infrastructure", cache.Module, cache.ReplaceLockManager(fakeLocks{})),
		fx.Invoke(func(cache.Locker) {})).Err()
	require.ErrorContains(t, err, "is no cache.Locker")
}

// A decoration that hides the Locker, which only its run can show, makes one that refuses.
// The locks of an application that asks for no Locker work on.
func TestDecoratedLockManagerThatIsNoLocker(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	var locks cache.LockManager
	var locker cache.Locker
	startApp(t, server, fx.Decorate(func(m cache.LockManager) cache.LockManager { return wrappedLocks{m} }),
		fx.Populate(&locks, &locker))
	ctx := timeout(t)
	held, err := locks.Acquire(ctx, "x", time.Minute)
	require.NoError(t, err)
	_, err = locker.Acquire(ctx, "x", time.Minute)
	require.ErrorIs(t, err, cache.ErrLockNotAcquired, "one world")
	require.NoError(t, held.Release(ctx))

	never := func(context.Context, cache.FencedLock) error { panic("no lock") }
	_, tried := locker.TryAcquire(ctx, "x", time.Minute)
	_, waited := locker.AcquireWait(ctx, "x", time.Minute)
	for _, err := range []error{tried, waited, locker.WithLock(ctx, "x", time.Minute, never)} {
		require.ErrorIs(t, err, cache.ErrInvalidOption)
		require.ErrorContains(t, err, `the LockManager of instance "default", a cache_test.wrappedLocks, is no cache.Locker`)
	}
}

// Beside the module a replacement is refused, see TestMisuse; around it, it works.
func TestReplaceInTheModuleAroundTheModule(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	var got cache.LockManager
	app := uberfxtest.New(t, fx.Module("infrastructure", cache.Module,
		cache.ReplaceConfig(configOf(server)), cache.ReplaceLockManager(fakeLocks{}),
		fx.Invoke(func(m cache.LockManager) { got = m })))
	app.RequireStart().RequireStop()
	assert.Equal(t, fakeLocks{}, got)
}

func TestReplacedInterfacesNeverConstructTheOriginals(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	fake := &fakeNotifications{}
	var locks cache.LockManager
	var notifications cache.NotificationSystem
	startApp(t, server, cache.ReplaceLockManager(fakeLocks{}), cache.ReplaceNotificationSystem(fake),
		fx.Populate(&locks, &notifications))

	_, err := locks.Acquire(t.Context(), "x", time.Second)
	require.ErrorIs(t, err, cache.ErrLockNotAcquired)
	assert.Same(t, fake, notifications)
}

func TestReplacedConcreteTypesShowThroughTheInterfaces(t *testing.T) {
	t.Parallel()
	server, other := redistest.Start(t), redistest.Start(t)
	replacement, err := cache.NewRedis(timeout(t), configOf(other))
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, replacement.Close()) }) // who made it closes it
	var locks cache.LockManager
	app := uberfxtest.New(t, cache.Module, cache.WithConfig(configOf(server)), fx.Replace(replacement), fx.Populate(&locks))
	app.RequireStart()

	other.ResetCommands(t)
	_, err = locks.Acquire(timeout(t), "x", time.Minute)
	require.NoError(t, err)
	assert.Positive(t, other.Commands(t)["evalsha"]+other.Commands(t)["eval"], "the lock lives on the replaced client's server")
	app.RequireStop()
	require.NoError(t, replacement.HealthCheck(timeout(t)), "the application does not close what it did not make")
}

// A configuration by value is refused only where it would be ignored: not one made out
// of the module's own, nor one that a decorator uses.
func TestConfigByValueThatIsUsed(t *testing.T) {
	t.Parallel()
	var own cache.Config
	app := fx.New(fx.NopLogger, cache.Module,
		fx.Provide(func(c *cache.Config) cache.Config { return *c }), fx.Populate(&own))
	require.NoError(t, app.Err())
	assert.NotEmpty(t, own.Host)

	var used *cache.Config
	app = fx.New(fx.NopLogger, cache.Module, fx.Supply(cache.Config{Host: "redis.internal"}),
		fx.Decorate(func(c cache.Config) *cache.Config { return &c }), fx.Populate(&used))
	require.NoError(t, app.Err())
	assert.Equal(t, "redis.internal", used.Host)

	// The application's own code takes the value, and a test replaces what the module uses.
	for _, opts := range [][]fx.Option{
		{cache.WithConfig(used), fx.Supply(*used)},
		{cache.WithConfig(used), fx.Supply(*used), cache.ReplaceConfig(&cache.Config{Host: "fake"})},
		{fx.Supply(*cache.DefaultConfig()), cache.ReplaceConfig(&cache.Config{Host: "fake"})},
		{cache.Named("sessions", cache.WithConfig(used)), fx.Supply(fx.Annotate(*used, fx.ResultTags(`name:"sessions"`)))},
	} {
		require.NoError(t, fx.New(append(opts, fx.NopLogger, cache.Module)...).Err())
	}
}
