package providers

import (
	"fmt"
	"reflect"

	"github.com/redis/go-redis/v9"
	"go.uber.org/fx"

	"github.com/compozy/cache/config"
	"github.com/compozy/cache/health"
	"github.com/compozy/cache/lifecycle"
	"github.com/compozy/cache/store"
)

// Store constructs the store. It asks Redis for nothing before it is used.
func (i Instance) Store(env Environment, cfg *config.Config, rdb redis.UniversalClient) (Part[*store.Store], error) {
	cfg = cfg.WithDefaults()
	s, err := store.New(rdb, i.storeOptions(env, cfg)...)
	if err != nil {
		return Part[*store.Store]{}, err
	}
	lifecycle.AppendStore(env.Lifecycle, &lifecycle.Store{Store: s})
	return Part[*store.Store]{
		Value: s,
		Checks: []health.Check{{
			Name: i.check("store"), Kind: health.Readiness, Timeout: cfg.PingTimeout, Func: s.HealthCheck,
		}},
		Collector: s.Collector(),
	}, nil
}

// storeOptions turns a complete configuration into options of a store.
func (i Instance) storeOptions(env Environment, cfg *config.Config) []store.Option {
	return []store.Option{
		store.WithName(i.label()), store.WithLogger(i.logger(env.Logger)), store.WithKeyPrefix(cfg.KeyPrefix),
		store.WithTracerProvider(env.Tracing), store.WithTimeout(cfg.StoreTimeout),
		store.WithStateTimeout(cfg.StoreStateTimeout),
		store.WithNear(max(cfg.StoreNearEntries, 0), cfg.StoreNearMaxStaleness), store.WithNearBytes(int64(cfg.StoreNearBytes)),
	}
}

// NewCache provides a *store.Cache[V] on the Store of the unnamed instance or, among the options of Named, on that of the
// named one.
func NewCache[V any](name string, opts ...store.Option) fx.Option {
	return typed("NewCache", name, func(s *store.Store) (*store.Cache[V], error) {
		return store.NewCache[V](s, name, opts...)
	})
}

// NewState provides a *store.State[V], as NewCache does a cache.
func NewState[V any](name string, opts ...store.Option) fx.Option {
	return typed("NewState", name, func(s *store.Store) (*store.State[V], error) {
		return store.NewState[V](s, name, opts...)
	})
}

// typed provides a T that is made on the Store of an instance, and has it made while the application is built, which finds
// an option that cannot be used.
func typed[T any](call, name string, build func(*store.Store) (T, error)) Option {
	on := func(i Instance, s *store.Store) (T, error) {
		v, err := build(s)
		if err != nil {
			err = fmt.Errorf("cache: %s(%q) of instance %q: %w", call, name, i.label(), err)
		}
		return v, err
	}
	once := onlyOnce(fmt.Sprintf("use cache.%s once for a type of value: give the second a type of its own, or a name "+
		"tag as the comment of cache.%s shows; this is about %s", call, call, reflect.TypeFor[T]()))
	return Option{
		Option: fx.Options(
			once,
			fx.Provide(func(s *store.Store) (T, error) { return on(Instance{}, s) }),
			fx.Invoke(func(T) {}),
		),
		part: func(i Instance) fx.Option {
			return fx.Options(
				fx.Provide(fx.Annotated{Name: i.Name, Target: func(s input[*store.Store]) (T, error) { return on(i, s.value) }}),
				fx.Provide(inputOf[T](i), fx.Private),
				fx.Invoke(func(input[T]) {}),
			)
		},
	}
}
