// Package fxtest helps to test code that uses package cache.
//
// Fx has a package of the same name, so import this one under another:
//
//	import cachetest "github.com/compozy/cache/fxtest"
//
// # A whole application
//
// [New] starts an application on an embedded server, without a Redis to install,
// and stops it with the test:
//
//	app := cachetest.New(t, fx.Provide(newService), fx.Populate(&service))
//	app.Redis.Set(t.Context(), "key", "value", 0)
//
// [Module] gives the same to tests that build the application themselves.
//
// # Fakes
//
// [LockManager], which is a cache.Locker, and [NotificationSystem] are the interfaces
// in memory. They keep the promises of the interfaces, record what happens, and do on
// request what seldom happens by itself: a lock is lost, Redis fails, events are missed.
//
//	locks := cachetest.NewLockManager()
//	service := newService(locks)
//	locks.Lose("job:1")
//
// In an application they take the place of the real ones by
// cache.ReplaceLockManager, for cache.LockManager and cache.Locker alike, and
// cache.ReplaceNotificationSystem.
//
// # A store with faults
//
// [NewStore] gives tests of code that takes a *store.Store, a *store.Cache or a *store.State
// a real one on an embedded server, and does to it what happens in production: time
// passes, Redis fails, loads fail.
//
//	s := cachetest.NewStore(t)
//	users, err := store.NewCache[User](s.Store, "users")
//	s.Fail(errors.New("connection refused"))
//
// In an application it takes the place of the real one by fx.Replace(s.Store). The server of
// [New] does the same to all parts: app.Server.Fail and app.Server.FastForward.
//
// # Contracts
//
// [LockManagerContract], [LockerContract] and [NotificationSystemContract] check an
// implementation of one's own against what users of the interfaces rely on. Those of
// this module and the fakes pass them. LockerContract contains LockManagerContract.
//
//	func TestMyLocker(t *testing.T) {
//		cachetest.LockerContract(t, func(t testing.TB) cache.Locker {
//			return newMyLocker(t)
//		})
//	}
package fxtest
