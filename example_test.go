package cache_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/fx"
	"go.uber.org/zap"

	"github.com/compozy/cache"
	"github.com/compozy/cache/embedded"
	"github.com/compozy/cache/lock"
	"github.com/compozy/cache/notification"
)

// One line adds Redis to an application. Here an embedded server stands in for
// the one that REDIS_URL would name.
func Example() {
	app := fx.New(fx.NopLogger,
		cache.Module,
		embedded.Module(),
		fx.Invoke(func(lc fx.Lifecycle, rdb *cache.Redis) {
			lc.Append(fx.StartHook(func(ctx context.Context) {
				rdb.Set(ctx, "greeting", "hello", 0)
				fmt.Println(rdb.Get(ctx, "greeting").Val())
			}))
		}),
	)
	run(app)
	// Output: hello
}

// run starts and stops an application, as app.Run does on a signal.
func run(app *fx.App) {
	ctx := context.Background()
	if err := app.Start(ctx); err != nil {
		fmt.Println(err)
		return
	}
	if err := app.Stop(ctx); err != nil {
		fmt.Println(err)
	}
}

// Programs without Fx get the same parts from SetupCache.
func ExampleSetupCache() {
	ctx := context.Background()
	server := embedded.New()
	defer server.Close()

	c, err := cache.SetupCache(ctx, server.Config()) // nil: the environment
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()

	held, err := c.LockManager.Acquire(ctx, "invoice-7", 10*time.Second)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(held.Resource(), held.IsHeld())

	_, err = c.LockManager.Acquire(ctx, "invoice-7", 10*time.Second)
	fmt.Println(errors.Is(err, cache.ErrLockNotAcquired))
	fmt.Println(held.Release(ctx))
	// Output:
	// invoice-7 true
	// true
	// <nil>
}

// What Fx takes from the graph, SetupCache takes as options.
func ExampleSetupCache_options() {
	ctx := context.Background()
	server := embedded.New()
	defer server.Close()
	registry := prometheus.NewRegistry()

	c, err := cache.SetupCache(ctx, server.Config(),
		cache.SetupWithName("sessions"), // in metrics, logs and health checks
		cache.SetupWithLogger(zap.NewNop()),
		cache.SetupWithRegisterer(registry))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()

	for _, check := range c.Health().Run(ctx).Checks { // or its handlers: /livez, /readyz, /healthz
		fmt.Println(check.Name, check.Kind, check.Status)
	}
	// Output:
	// sessions.locks liveness ok
	// sessions.notifications liveness ok
	// sessions.redis readiness ok
	// sessions.running readiness ok
	// sessions.store readiness ok
	// sessions.subscriptions readiness ok
}

// The constructors take any go-redis client, and the options of their packages.
func ExampleNewRedisLockManager() {
	ctx := context.Background()
	server := embedded.New()
	defer server.Close()
	rdb, err := cache.NewRedis(ctx, server.Config())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer rdb.Close()

	manager, err := cache.NewRedisLockManager(rdb.Client(), lock.WithKeyPrefix("billing:"))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = manager.Close(ctx) }()
	held, err := manager.Acquire(ctx, "invoice-7", time.Minute)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(held.Resource(), rdb.Exists(ctx, "billing:lock:{invoice-7}").Val())
	// Output: invoice-7 1
}

// Handle decodes events until its context ends.
func ExampleHandle() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	server := embedded.New()
	defer server.Close()
	rdb, err := cache.NewRedis(ctx, server.Config())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer rdb.Close()
	system, err := cache.NewRedisNotificationSystem(rdb, notification.WithPolicy(cache.PolicyDisconnect))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer system.Close()

	handled := make(chan error)
	go func() {
		handled <- cache.Handle(ctx, system, cache.TaskEvents, func(_ context.Context, task cache.TaskEvent) error {
			fmt.Println(task.ID, task.Status)
			cancel()
			return nil
		})
	}()
	for ctx.Err() == nil { // until the subscription is there
		_ = system.PublishTaskEvent(ctx, &cache.TaskEvent{ID: "t1", WorkflowID: "w1", Status: "done"})
	}
	fmt.Println(<-handled)
	// Output:
	// t1 done
	// <nil>
}

// A subscription sees what is published after Subscribe has returned.
func ExampleNotificationSystem() {
	ctx := context.Background()
	server := embedded.New()
	defer server.Close()
	c, err := cache.SetupCache(ctx, server.Config())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()

	sub := c.Notification.Subscribe(ctx, "workflow:*")
	defer sub.Close()
	if err := c.Notification.PublishWorkflowEvent(ctx, &cache.WorkflowEvent{ID: "w1", Status: "done"}); err != nil {
		fmt.Println(err)
		return
	}

	event, err := cache.Decode[cache.WorkflowEvent](<-sub.Messages())
	fmt.Println(event.ID, event.Status, err)
	// Output: w1 done <nil>
}

// State is cached with the commands of go-redis.
func ExampleRedis() {
	ctx := context.Background()
	server := embedded.New()
	defer server.Close()
	rdb, err := cache.NewRedis(ctx, server.Config())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer rdb.Close()

	type state struct{ Step string }
	data, err := json.Marshal(state{Step: "charge"})
	if err != nil {
		fmt.Println(err)
		return
	}
	rdb.Set(ctx, "workflow:state:w1", data, time.Hour)

	var s state
	_ = json.Unmarshal([]byte(rdb.Get(ctx, "workflow:state:w1").Val()), &s)
	fmt.Println(s.Step)
	// Output: charge
}

// One mux serves the probes of an orchestrator and the metrics.
func ExampleHealth() {
	var health *cache.Health
	app := fx.New(fx.NopLogger,
		cache.Module, embedded.Module(),
		cache.RegisterMetrics,
		fx.Provide(func() prometheus.Registerer { return prometheus.NewRegistry() }),
		fx.Populate(&health),
		fx.Invoke(func(lc fx.Lifecycle, _ *cache.Redis) {
			lc.Append(fx.StartHook(func() {
				w := httptest.NewRecorder()
				health.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/readyz", nil))
				fmt.Println(w.Code)
			}))
		}),
	)
	run(app)
	// Output: 200
}

// A second server is a named instance. Without WithConfig it reads
// SESSIONS_REDIS_URL and so on.
func ExampleNamed() {
	sessions := embedded.New()
	defer sessions.Close()
	app := fx.New(fx.NopLogger,
		cache.Module, embedded.Module(),
		cache.Named("sessions", cache.WithConfig(sessions.Config())),
		fx.Invoke(fx.Annotate(func(lc fx.Lifecycle, main, sessions *cache.Redis) {
			lc.Append(fx.StartHook(func(ctx context.Context) {
				sessions.Set(ctx, "session:1", "alice", time.Hour)
				fmt.Println(main.Exists(ctx, "session:1").Val(), sessions.Exists(ctx, "session:1").Val())
			}))
		}, fx.ParamTags("", "", `name:"sessions"`))),
	)
	run(app)
	// Output: 0 1
}

// A Locker can do what a LockManager cannot: WithLock queues for the lock and runs a
// function whose context ends with it; the token lets what the lock protects refuse
// holders of the past. In tests the fake of package fxtest is one.
func ExampleLocker() {
	app := fx.New(fx.NopLogger,
		cache.Module, embedded.Module(),
		fx.Invoke(func(lc fx.Lifecycle, locks cache.Locker) {
			lc.Append(fx.StartHook(func(ctx context.Context) error {
				var last int64
				for range 2 {
					err := locks.WithLock(ctx, "invoice-7", 10*time.Second, func(ctx context.Context, l cache.FencedLock) error {
						fmt.Println(l.Resource(), "held:", l.IsHeld(), "newer:", l.Token() > last)
						last = l.Token()
						return ctx.Err() // context.Cause(ctx) says why, if the lock is lost
					})
					if err != nil {
						return err
					}
				}
				return nil
			}))
		}),
	)
	run(app)
	// Output:
	// invoice-7 held: true newer: true
	// invoice-7 held: true newer: true
}

// nobody's lock: a fake is as small as the interface.
type everythingIsTaken struct{}

func (everythingIsTaken) Acquire(context.Context, string, time.Duration) (cache.Lock, error) {
	return nil, cache.ErrLockNotAcquired
}

// Tests replace parts of an application by fakes of their own.
func ExampleReplaceLockManager() {
	app := fx.New(fx.NopLogger,
		cache.Module, embedded.Module(),
		cache.ReplaceLockManager(everythingIsTaken{}),
		fx.Invoke(func(locks cache.LockManager) {
			_, err := locks.Acquire(context.Background(), "invoice-7", time.Second)
			fmt.Println(err)
		}),
	)
	run(app)
	// Output: lock: not acquired
}
