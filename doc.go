// Package cache gives an Uber Fx application everything it needs from Redis: a
// client, distributed locks, notifications, typed caches and versioned state, with
// health checks, metrics and a graceful life cycle.
//
// # With Fx
//
// [Module] is all that is needed. It is configured by REDIS_URL and its
// siblings, or by [WithConfig]:
//
//	fx.New(cache.Module, fx.Invoke(func(lc fx.Lifecycle, locks cache.LockManager) {
//		lc.Append(fx.StartHook(func(ctx context.Context) error {
//			lock, err := locks.Acquire(ctx, "invoice-7", 10*time.Second)
//			if err != nil {
//				return err // errors.Is(err, cache.ErrLockNotAcquired): somebody else has it
//			}
//			defer lock.Release(context.WithoutCancel(ctx))
//			return pay(ctx)
//		}))
//	})).Run()
//
// # Typed values
//
// [NewState] and [NewCache] provide typed values of one name. The values of a State have
// versions, and refuse a writer that has lost its lock; those of a Cache are loaded when
// they are missing, by one process for all. Package store says how to use them.
//
//	fx.New(cache.Module,
//		cache.NewState[Workflow]("workflows"),
//		cache.NewCache[User]("users", store.WithTTL(time.Minute)),
//		fx.Provide(newService), // func newService(flows *cache.State[Workflow], users *cache.StoreCache[User]) *Service
//	)
//
// # Without Fx
//
// [SetupCache] builds the same parts and returns them as a [Cache]:
//
//	c, err := cache.SetupCache(ctx, nil, cache.SetupWithLogger(log), cache.SetupWithRegisterer(registry))
//	defer c.Close()
//	http.Handle("/", c.Health().Handler())
//	users, err := store.NewCache[User](c.Store, "users")
//
// # In tests
//
// Package fxtest starts an application on an embedded server and has fakes.
// [ReplaceConfig], [ReplaceLockManager] and [ReplaceNotificationSystem] replace
// parts of an application; they belong in the fx.New of the test, since
// Fx does not let a replacement in one module reach into its sibling; there it is an
// error.
//
// # Health
//
// Every part contributes its checks to the group [HealthGroup], and *[Health]
// serves them. Redis is a matter of readiness; liveness says only that the
// goroutines of this module run, so that no orchestrator restarts a process
// because Redis is down:
//
//	fx.Invoke(func(h *cache.Health) { mux.Handle("/", h.Handler()) }) // /livez, /readyz, /healthz
//
// # Metrics
//
// Every part contributes its collectors to the group [MetricsGroup];
// [RegisterMetrics] registers them. The packages client, lock, notification and store
// list their metrics. All carry the label "cache", which is "default" or the
// name of a [Named] instance.
//
// # What failure means
//
// Redis down at start: the start fails within half of its budget with an error
// that names the instance, where its configuration came from and the address, or goes
// on with a warning when REDIS_REQUIRED is false.
// Redis down later: commands fail with their error, locks are lost on time,
// subscriptions resume by themselves, caches load by themselves or return what is stale
// if they may. At stop, loads end, buffered messages are delivered, held locks released
// and connections closed within half of the budget.
package cache

//go:generate go run ./internal/metricsdoc/cmd
