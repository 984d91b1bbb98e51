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
	"github.com/compozy/cache/internal/redistest"
)

// fakeLocks is as small as a fake of a user's is meant to be.
type fakeLocks struct{}

func (fakeLocks) Acquire(context.Context, string, time.Duration) (cache.Lock, error) {
	return nil, cache.ErrLockNotAcquired
}

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
}
