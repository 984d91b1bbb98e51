package cache

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/compozy/cache/config"
	"github.com/compozy/cache/lifecycle"
	"github.com/compozy/cache/providers"
)

// closeBudget bounds Cache.Close. It is the stop timeout that Fx has by default.
const closeBudget = 15 * time.Second

// Cache is what the module provides, for programs without Fx. It is safe for
// concurrent use.
type Cache struct {
	Redis        *Redis
	LockManager  LockManager
	Notification NotificationSystem

	hooks     lifecycle.Hooks
	closeOnce sync.Once
}

// SetupCache builds and starts the parts with the constructors and hooks of
// [Module]. A nil cfg means defaults and environment; zero fields of cfg mean
// their defaults.
//
// It returns when Redis answers. It gives up after half of the time that ctx
// has left (of 15 s where ctx has no deadline), with an error that names the
// address, or when ctx is cancelled; nothing is left running then. A bad
// configuration is a *ConfigError, a nil ctx an *ArgumentError, before anything is
// dialed.
func SetupCache(ctx context.Context, cfg *Config) (*Cache, error) {
	if ctx == nil {
		return nil, &ArgumentError{Argument: "ctx", Reason: "is nil"}
	}
	cfg, err := loaded(ctx, cfg)
	if err != nil {
		return nil, err
	}

	c := &Cache{}
	var i providers.Instance
	r, _, _, err := i.Redis(&c.hooks, cfg, nil, nil)
	if err != nil {
		return nil, err
	}
	locks, _, _, err := i.Locks(&c.hooks, cfg, r, r, nil)
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	notifications, _, _, err := i.Notifications(&c.hooks, cfg, r, nil)
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	c.Redis, c.LockManager, c.Notification = r, locks, notifications
	if err := c.hooks.Start(ctx); err != nil {
		return nil, err
	}
	return c, nil
}

// loaded returns the environment for a nil cfg, and otherwise cfg with its
// defaults.
func loaded(ctx context.Context, cfg *Config) (*Config, error) {
	if cfg == nil {
		return config.Load(ctx, "")
	}
	cfg = cfg.WithDefaults()
	return cfg, cfg.Validate()
}

// HealthCheck asks Redis, the lock nodes and the subscribing connection, all at
// once, and returns what is wrong with each, joined; nil means that all is well.
func (c *Cache) HealthCheck(ctx context.Context) error {
	var checks []func(context.Context) error
	if c.Redis != nil {
		checks = append(checks, c.Redis.HealthCheck, c.Redis.CheckLockNodes)
	}
	for _, part := range []any{c.LockManager, c.Notification} {
		// A fake need not know its health.
		if p, ok := part.(interface{ HealthCheck(context.Context) error }); ok {
			checks = append(checks, p.HealthCheck)
		}
	}

	errs := make([]error, len(checks))
	var wg sync.WaitGroup
	for n, check := range checks {
		wg.Go(func() { errs[n] = check(ctx) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Close delivers buffered notifications, releases held locks and closes all
// connections, within 15 s. Only the first call does so and may return an
// error; the others wait for it and return nil.
func (c *Cache) Close() error {
	var err error
	c.closeOnce.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), closeBudget)
		defer cancel()
		err = c.hooks.Stop(ctx)
	})
	return err
}
