package fxtest

import (
	"context"
	"sync"
	"testing"
	"time"

	"go.uber.org/fx"
	uberfxtest "go.uber.org/fx/fxtest"

	"github.com/compozy/cache"
	"github.com/compozy/cache/embedded"
)

// closeTime bounds how long a test that failed waits for the release of locks.
const closeTime = 5 * time.Second

// App is an application that runs on an embedded server of its own.
type App struct {
	Redis        *cache.Redis
	LockManager  cache.LockManager
	Locker       cache.Locker // the LockManager; nil if a fake is in its place that is no Locker
	Notification cache.NotificationSystem
	Store        *cache.Store
	Health       *cache.Health
	Config       *cache.Config

	// Server is where the data is. Its methods Fail and FastForward make all parts
	// meet what happens to Redis in production. A second application that is to share it is
	// made of cache.Module and cache.WithConfig(app.Server.Config()).
	Server *embedded.Server

	// The concrete types, for what the interfaces lack. They are there even when
	// an option replaced the interfaces by fakes.
	RedisLockManager        *cache.RedisLockManager
	RedisNotificationSystem *cache.RedisNotificationSystem

	stop    func()
	stopped bool // cleanly
}

// New starts an application made of cache.Module, an embedded server and opts,
// and stops it when the test ends. The test fails at once if the application
// cannot be built or started, and also if it does not stop cleanly. A hook that
// hangs fails it when fx.StartTimeout or fx.StopTimeout, 15 s each by default, is
// over. What Fx logs goes to the log of the test.
//
// Among opts may be everything that fx.New takes: the modules under test,
// fx.Populate to get at what they provide, fakes by cache.ReplaceLockManager,
// settings by cache.WithConfig. They must not include cache.Module again; for an
// application that brings its own, use Fx's fxtest with embedded.Module.
//
// It can be called inside a testing/synctest bubble; everything then runs on the
// bubble's clock.
func New(t testing.TB, opts ...fx.Option) *App {
	t.Helper()
	a := &App{}
	app := uberfxtest.New(t, Module(t), fx.Options(opts...), fx.Populate(
		&a.Redis, &a.LockManager, &a.Notification, &a.Store, &a.Health, &a.Config, &a.Server,
		&a.RedisLockManager, &a.RedisNotificationSystem,
	))
	t.Cleanup(a.close)
	a.Locker, _ = a.LockManager.(cache.Locker) // not from the graph, where asking may be an error
	app.RequireStart()
	a.stop = sync.OnceFunc(func() {
		app.RequireStop() // ends the test if it fails
		a.stopped = true
	})
	t.Cleanup(a.stop)
	return a
}

// Stop stops the application before the test ends, for tests of what happens
// then. It fails the test if the application does not stop cleanly. Repeating it
// does nothing.
func (a *App) Stop() { a.stop() }

// close closes what Fx leaves open when a hook has used up the time of all: it runs
// no stop hook of the others then. Whatever it
// may have to report, the test has failed already.
func (a *App) close() {
	if a.stopped {
		return // what was put into the graph, and is used on, is its owner's to close
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	_ = a.Store.Close(ctx)
	_ = a.RedisNotificationSystem.Close()
	_ = a.RedisLockManager.Close(ctx)
	_ = a.Redis.Close()
}

// Module is cache.Module together with an embedded server, for tests that build
// the application themselves. The server is closed when the test ends, even if
// the application was never started or stopped.
func Module(t testing.TB) fx.Option {
	t.Helper()
	return fx.Options(
		cache.Module,
		embedded.Module(),
		fx.Invoke(func(s *embedded.Server) {
			// Close has nothing to report, and after the application's own stop
			// nothing to do.
			t.Cleanup(func() { _ = s.Close() })
		}),
	)
}
