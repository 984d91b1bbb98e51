package cache

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/compozy/cache/health"
	"github.com/compozy/cache/lifecycle"
	"github.com/compozy/cache/providers"
)

// closeBudget bounds Cache.Close. It is the stop timeout that Fx has by default.
const closeBudget = 15 * time.Second

// Cache is what the module provides, for programs without Fx. [SetupCache] makes it. It
// is safe for concurrent use.
type Cache struct {
	Redis        *Redis
	LockManager  LockManager
	Locker       Locker // the LockManager, with all that it can do
	Notification NotificationSystem
	Store        *Store // for store.NewCache and store.NewState

	health     *Health // never nil if SetupCache made the Cache
	collectors []prometheus.Collector
	drains     lifecycle.Drains
	hooks      lifecycle.Hooks
	closeOnce  sync.Once
}

var _ fmt.Formatter = (*Cache)(nil)

// Format writes the kind and the address of the server, whatever the verb: fmt would read fields
// that Close changes.
func (c *Cache) Format(s fmt.State, _ rune) {
	text := "<nil>"
	if c != nil {
		text = "cache.Cache(" + c.Redis.String() + ")"
	}
	_, _ = io.WriteString(s, text)
}

// SetupCache builds and starts the parts with the constructors and hooks of
// [Module]. A nil cfg means defaults and environment; zero fields of cfg mean
// their defaults. Without options nothing is logged, traced or registered, and the
// instance is called "default".
//
// It returns when Redis answers. It gives up after half of the time that ctx
// has left (of 15 s where ctx has no deadline), with an error that names the
// instance, where its configuration came from and the address, or when ctx is
// cancelled; nothing is left running or registered then. A bad configuration is a
// *ConfigError, a nil ctx or a bad option an *ArgumentError, before anything is dialed.
func SetupCache(ctx context.Context, cfg *Config, opts ...SetupOption) (*Cache, error) {
	if ctx == nil {
		return nil, &ArgumentError{Argument: "ctx", Reason: "is nil"}
	}
	s, err := newSetup(cfg, opts)
	if err != nil {
		return nil, err
	}
	var settings []providers.Setting
	if cfg != nil {
		settings = append(settings, providers.Setting{Source: "the Config given to SetupCache", Config: cfg})
	}
	from, err := providers.Resolve(ctx, s.envPrefix, settings)
	if err != nil {
		return nil, err
	}
	c, err := s.build(from)
	if err != nil {
		return nil, err
	}
	if err := c.hooks.Start(ctx); err != nil {
		return nil, err
	}
	return c, nil
}

// build constructs the parts in the order in which they start.
func (s *setup) build(from *providers.Source) (*Cache, error) {
	c := &Cache{}
	env := providers.Environment{Lifecycle: &c.hooks, Logger: cmp.Or(s.slog, s.log), Tracing: s.tracing}
	redis, err := s.instance.Redis(env, from.Config(), from)
	if err != nil {
		return nil, err
	}
	locks, err := s.instance.Locks(env, from.Config(), redis.Value, redis.Value)
	if err != nil {
		return nil, errors.Join(err, redis.Value.Close())
	}
	notifications, err := s.instance.Notifications(env, from.Config(), redis.Value)
	if err != nil {
		return nil, errors.Join(err, redis.Value.Close())
	}
	store, err := s.instance.Store(env, from.Config(), redis.Value)
	if err != nil {
		return nil, errors.Join(err, redis.Value.Close())
	}
	c.Redis, c.LockManager, c.Locker, c.Notification = redis.Value, locks.Value, locks.Value, notifications.Value
	c.Store = store.Value

	drain, running := s.instance.Drain(env, from.Config())
	c.drains = lifecycle.Drains{drain}

	checks := []Check{running}
	checks = append(checks, redis.Checks...)
	checks = append(checks, locks.Checks...)
	checks = append(checks, notifications.Checks...)
	checks = append(checks, store.Checks...)
	c.health = health.New(checks...)
	c.collectors = []prometheus.Collector{redis.Collector, locks.Collector, notifications.Collector, store.Collector}
	if s.registerer != nil {
		lifecycle.AppendMetrics(&c.hooks, &lifecycle.Metrics{Registerer: s.registerer, Collectors: c.collectors})
	}
	lifecycle.AppendDrains(&c.hooks, c.drains) // what is appended last is the first to run at Close
	return c, nil
}

// Health returns the checks of all parts, which are those that *Health has under Fx,
// with its handlers for /livez, /readyz and /healthz. Of a Cache that SetupCache did
// not make it knows the fields that have a method HealthCheck; where there are none, as
// in a Cache that is nil, it has one readiness check that fails.
func (c *Cache) Health() *Health {
	if c.made() {
		return c.health
	}
	checks := c.fieldChecks()
	if len(checks) == 0 {
		checks = []Check{{Name: "cache", Func: func(context.Context) error { return errNoCache() }}}
	}
	return health.New(checks...)
}

// fieldChecks returns the checks of the fields of a Cache that was put together by hand.
func (c *Cache) fieldChecks() []Check {
	if c == nil {
		return nil
	}
	var checks []Check
	add := func(name string, part any) {
		if p, ok := part.(interface{ HealthCheck(context.Context) error }); ok {
			checks = append(checks, Check{Name: name, Func: p.HealthCheck})
		}
	}
	if c.Redis != nil {
		add("redis", c.Redis)
		checks = append(checks, Check{Name: "lock_nodes", Func: c.Redis.CheckLockNodes})
	}
	if c.LockManager != nil {
		add("locks", c.LockManager)
	} else {
		add("locks", c.Locker)
	}
	add("subscriptions", c.Notification)
	if c.Store != nil {
		add("store", c.Store)
	}
	return checks
}

// made reports whether SetupCache made c, so that there is something to close.
func (c *Cache) made() bool { return c != nil && c.health != nil }

// errNoCache is the error of a Cache that SetupCache did not make.
func errNoCache() error {
	return &ArgumentError{Argument: "Cache", Reason: "was not made by SetupCache"}
}

// Collectors returns the metrics of all parts, for a registry of the caller's. With
// [SetupWithRegisterer] they are registered already. Of a Cache that SetupCache did
// not make there are none.
func (c *Cache) Collectors() []prometheus.Collector {
	if c == nil {
		return nil
	}
	return append([]prometheus.Collector(nil), c.collectors...)
}

// HealthCheck runs the readiness checks of [Cache.Health], all at once, and returns
// what is wrong, joined; nil means that all is well. It returns an *ArgumentError
// for a nil ctx, and for a Cache that is nil or has no part to ask.
func (c *Cache) HealthCheck(ctx context.Context) error {
	if ctx == nil {
		return &ArgumentError{Argument: "ctx", Reason: "is nil"}
	}
	return c.Health().Run(ctx, health.Readiness).Err()
}

// Drain makes the readiness checks fail ([ErrStopping]), while liveness and everything else go on, and returns after the
// DrainDelay of the Config, or with the error of ctx if that ends before. A program with an HTTP server calls it on SIGTERM,
// before it shuts the server down, so that load balancers stop sending first. Close does the same, unless Drain was called:
// only the first of all these calls waits. It returns an *ArgumentError for a nil ctx, and for a Cache that SetupCache did
// not make.
func (c *Cache) Drain(ctx context.Context) error {
	switch {
	case ctx == nil:
		return &ArgumentError{Argument: "ctx", Reason: "is nil"}
	case !c.made():
		return errNoCache()
	}
	return c.drains.Wait(ctx)
}

// Close makes the readiness checks fail and waits for the DrainDelay of the Config, for at most 7.5 s (see [Cache.Drain]).
// Then it ends loads, delivers buffered notifications, releases held locks, closes all connections and unregisters what
// SetupWithRegisterer registered, within 15 s in all. Only the first call does so and may return an error; the others wait
// for it and return nil. A Registerer that does not return within a second is an error, and a panic of it goes on once all the rest
// is done. Of a Cache that SetupCache did not make it closes nothing, and returns an *ArgumentError.
func (c *Cache) Close() error {
	if !c.made() {
		return errNoCache()
	}
	var err error
	c.closeOnce.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), closeBudget)
		defer cancel()
		err = c.hooks.Stop(ctx)
	})
	return err
}
