// Package cache gives an Uber Fx application everything it needs from Redis: a
// client, distributed locks and notifications, with health checks, metrics and
// a graceful life cycle.
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
// # Without Fx
//
// [SetupCache] builds the same parts and returns them as a [Cache]:
//
//	c, err := cache.SetupCache(ctx, nil, cache.SetupWithLogger(log), cache.SetupWithRegisterer(registry))
//	defer c.Close()
//	http.Handle("/", c.Health().Handler())
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
// [RegisterMetrics] registers them. The packages client, lock and notification
// list their metrics. All carry the label "cache", which is "default" or the
// name of a [Named] instance.
//
// # What failure means
//
// Redis down at start: the start fails within half of its budget with an error
// that names the instance, where its configuration came from and the address, or goes
// on with a warning when REDIS_REQUIRED is false.
// Redis down later: commands fail with their error, locks are lost on time,
// subscriptions resume by themselves. At stop, buffered messages are delivered,
// held locks released and connections closed within half of the budget.
package cache

//go:generate go run ./internal/metricsdoc/cmd
