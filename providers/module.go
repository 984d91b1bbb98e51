package providers

import (
	"cmp"
	"context"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/fx"
	"go.uber.org/zap"

	"github.com/compozy/cache/client"
	"github.com/compozy/cache/config"
	"github.com/compozy/cache/health"
	"github.com/compozy/cache/lock"
	"github.com/compozy/cache/notification"
	"github.com/compozy/cache/store"
)

// Module is the unnamed instance.
func Module() fx.Option {
	return fx.Module("cache",
		onlyOnce(`include cache.Module once (fxtest.New and fxtest.Module contain it); a second server is cache.Named("name")`),
		fx.Provide(useWithConfigToSetTheConfig, func() unnamed { return unnamed{included: true} }),
		provideParts(Instance{}),
		fx.Provide(newHealth),
		fx.Provide(inputOf[*health.Health](Instance{}), newUnnamedLocker, fx.Private),
		// What is appended last is the first to run at stop.
		fx.Invoke(construct, constructHealth, refuseMisplacedChecks, refuseIgnored, refuseByValue, oneWorldOfLocks, appendDrains),
	)
}

// Named is a further instance, for a second Redis server. All that the unnamed
// one provides is there under name:"<name>". Its configuration comes from
// opts, which take WithConfig and WithEnvPrefix, or else from the environment
// with the upper-case name as prefix: SESSIONS_REDIS_URL for "sessions". NewCache and
// NewState among them are on its Store, and provided under the same name.
func Named(name string, opts ...fx.Option) fx.Option {
	if reason := CheckName(name); reason != "" {
		return fx.Error(fmt.Errorf("%w: Named: the name %s", ErrInvalidOption, reason))
	}
	var settings []Setting
	var parts []fx.Option
	for _, opt := range opts {
		o, ok := opt.(Option)
		if !ok {
			return fx.Error(fmt.Errorf("%w: Named(%q) takes WithConfig, WithEnvPrefix, NewCache and NewState, not %v",
				ErrInvalidOption, name, opt))
		}
		if o.err != nil {
			return fx.Error(fmt.Errorf("cache: instance %q: %w", name, o.err))
		}
		if o.part != nil {
			parts = append(parts, o.part(Instance{Name: name}))
			continue
		}
		settings = append(settings, o.setting)
	}
	return fx.Module("cache."+name,
		onlyOnce(fmt.Sprintf("include cache.Named(%q) once; each server needs a name of its own", name)),
		fx.Provide(fx.Annotated{Name: name, Target: useWithConfigInNamedToSetTheConfig(name, settings)}),
		fx.Provide(fx.Annotated{Group: namesGroup, Target: func() *reader { return &reader{name: name} }}),
		provideParts(Instance{Name: name}),
		fx.Options(parts...),
		fx.Invoke(construct, refuseNamedByValue(Instance{Name: name}, settings), oneNamedWorldOfLocks(Instance{Name: name}), appendDrains),
	)
}

// provideParts provides what an instance consists of. The constructors take their
// inputs through [input], which is the same for named instances and the unnamed one, and
// are private; only what they made is provided to the application.
func provideParts(i Instance) fx.Option {
	named := func(target any) any { return fx.Annotated{Name: i.Name, Target: target} }
	return fx.Options(
		fx.Provide(
			inputOf[*config.Config](i), inputOf[*client.Redis](i), inputOf[redis.UniversalClient](i),
			inputOf[*lock.RedisLockManager](i), inputOf[lock.LockManager](i), inputOf[lock.Locker](i),
			inputOf[*notification.RedisNotificationSystem](i), inputOf[notification.NotificationSystem](i),
			inputOf[*store.Store](i),
			newSource, newByValue(i), newProvidedByValue(i), newRedis(i), newLocks(i), newNotifications(i), newStore(i),
			fx.Private,
		),
		fx.Provide(
			named(useFxReplaceForRedis), named(useFxReplaceForUniversalClient),
			named(useFxReplaceForRedisLockManager), named(useReplaceLockManager),
			named(useReplaceLockManagerForLocker(i)),
			named(useFxReplaceForRedisNotificationSystem), named(useReplaceNotificationSystem),
			named(useFxReplaceForStore),
		),
		groups[*client.Redis](), groups[*lock.RedisLockManager](), groups[*notification.RedisNotificationSystem](),
		groups[*store.Store](), fx.Provide(newDrain(i)),
	)
}

// parts are those of one instance as the application gets them, by interface or type.
type parts struct {
	fx.In
	Config        input[*config.Config]
	Redis         input[*client.Redis]
	Universal     input[redis.UniversalClient]
	Locks         input[lock.LockManager]
	Notifications input[notification.NotificationSystem]
	Store         input[*store.Store] // the last to be made is the first to be stopped
}

// construct makes the parts, which finds what is nil or cannot work while the
// application is built. Only the client does anything at start; the others begin to
// work when they are first used.
func construct(parts) {}

// constructHealth does the same for the health report, with the checks of the application.
func constructHealth(input[*health.Health]) {}

// newSource makes the record that the constructor of the configuration fills.
func newSource() *Source { return &Source{} }

// The constructors of what the application sees. When somebody provides such a type a
// second time, the names of the two constructors are all that the error of Fx says of
// them. Ours say what to write instead.

// unnamedSettings are the settings of the unnamed instance.
type unnamedSettings struct {
	fx.In
	Settings []Setting `group:"cache.settings"`
}

func useWithConfigToSetTheConfig(in unnamedSettings, from *Source) (*config.Config, error) {
	resolved, err := Resolve(context.Background(), "", in.Settings)
	if err != nil {
		return nil, err
	}
	*from = *resolved
	return from.cfg, nil
}

func useWithConfigInNamedToSetTheConfig(name string, settings []Setting) any {
	return func(from *Source, all readers) (*config.Config, error) {
		if len(settings) == 0 {
			if err := all.readByName(name); err != nil {
				return nil, err
			}
		}
		resolved, err := Resolve(context.Background(), envPrefix(name), settings)
		if err != nil {
			return nil, fmt.Errorf("cache: instance %q: %w", name, err)
		}
		*from = *resolved
		return from.cfg, nil
	}
}

func useFxReplaceForRedis(p Part[*client.Redis]) *client.Redis { return p.Value }

// useFxReplaceForUniversalClient lets a replaced *client.Redis show through, as
// useReplaceLockManager and useReplaceNotificationSystem do for their types.
func useFxReplaceForUniversalClient(r input[*client.Redis]) redis.UniversalClient { return r.value }

func useFxReplaceForRedisLockManager(p Part[*lock.RedisLockManager]) *lock.RedisLockManager {
	return p.Value
}

func useReplaceLockManager(m input[*lock.RedisLockManager]) lock.LockManager { return m.value }

func useFxReplaceForRedisNotificationSystem(
	p Part[*notification.RedisNotificationSystem],
) *notification.RedisNotificationSystem {
	return p.Value
}

func useReplaceNotificationSystem(s input[*notification.RedisNotificationSystem]) notification.NotificationSystem {
	return s.value
}

func useFxReplaceForStore(p Part[*store.Store]) *store.Store { return p.Value }

// environment is an [Environment] out of the graph.
type environment struct {
	fx.In
	Lifecycle fx.Lifecycle
	Logger    *zap.Logger          `optional:"true"`
	Slog      slogged              `optional:"true"`
	Tracing   trace.TracerProvider `optional:"true"`
}

func (e environment) plain() Environment {
	return Environment{Lifecycle: e.Lifecycle, Logger: cmp.Or(e.Slog.log, e.Logger), Tracing: e.Tracing}
}

// These return closures and not methods of the instance, which errors would place in
// an autogenerated file.

func newRedis(i Instance) any {
	return func(env environment, cfg input[*config.Config], from *Source) (Part[*client.Redis], error) {
		return i.Redis(env.plain(), cfg.value, from)
	}
}

func newLocks(i Instance) any {
	return func(
		env environment, cfg input[*config.Config], rdb input[redis.UniversalClient], owner input[*client.Redis],
	) (Part[*lock.RedisLockManager], error) {
		return i.Locks(env.plain(), cfg.value, rdb.value, owner.value)
	}
}

func newNotifications(i Instance) any {
	return func(
		env environment, cfg input[*config.Config], rdb input[redis.UniversalClient],
	) (Part[*notification.RedisNotificationSystem], error) {
		return i.Notifications(env.plain(), cfg.value, rdb.value)
	}
}

func newStore(i Instance) any {
	return func(
		env environment, cfg input[*config.Config], rdb input[redis.UniversalClient],
	) (Part[*store.Store], error) {
		return i.Store(env.plain(), cfg.value, rdb.value)
	}
}

// groups contributes the checks and the collector of a part.
func groups[T any]() fx.Option {
	return fx.Provide(
		fx.Annotated{Group: HealthGroup + ",flatten", Target: func(p Part[T]) []health.Check { return p.Checks }},
		fx.Annotated{Group: MetricsGroup, Target: func(p Part[T]) prometheus.Collector { return p.Collector }},
	)
}

// allChecks are those of all instances and of the application.
type allChecks struct {
	fx.In
	Checks []health.Check `group:"health"`
}

func newHealth(in allChecks) *health.Health { return health.New(in.Checks...) }
