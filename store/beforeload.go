package store

import "context"

// WithBeforeLoad has f called before each load of the Caches of a Store, with the name of the Cache and the context of the
// load. If f returns an error the loader is not called, and counts as having failed with that error. So a program can stop
// loading from a database of which it knows that it is down, and a test can make loads fail. f must be safe for concurrent
// use. Given several times, all are called, in that order, until one returns an error. The default, also for nil, is to call
// nothing. For [New].
func WithBeforeLoad(f func(ctx context.Context, cache string) error) Option {
	return option("WithBeforeLoad", inNew, nil, func(s *settings) {
		if first := s.store.beforeLoad; first == nil {
			s.store.beforeLoad = f
		} else if f != nil {
			s.store.beforeLoad = func(ctx context.Context, cache string) error {
				if err := first(ctx, cache); err != nil {
					return err
				}
				return f(ctx, cache)
			}
		}
	})
}

// guarded returns a loader that begins with what WithBeforeLoad has set.
func (c *Cache[V]) guarded(loader func(context.Context) (V, error)) func(context.Context) (V, error) {
	before := c.core.set.beforeLoad
	if before == nil {
		return loader
	}
	return func(ctx context.Context) (V, error) {
		if err := before(ctx, c.name); err != nil {
			var none V
			return none, err
		}
		return loader(ctx)
	}
}

// guardedMany is guarded for a loader of many keys.
func (c *Cache[V]) guardedMany(
	loader func(context.Context, []string) (map[string]V, error),
) func(context.Context, []string) (map[string]V, error) {
	before := c.core.set.beforeLoad
	if before == nil {
		return loader
	}
	return func(ctx context.Context, missing []string) (map[string]V, error) {
		if err := before(ctx, c.name); err != nil {
			return nil, err
		}
		return loader(ctx, missing)
	}
}
