package cache

import (
	"log/slog"

	"go.uber.org/fx"

	"github.com/compozy/cache/lifecycle"
	"github.com/compozy/cache/providers"
)

// Names of the value groups to which the module contributes, and in which an
// application can put its own.
const (
	// HealthGroup holds values of type health.Check.
	HealthGroup = providers.HealthGroup
	// MetricsGroup holds values of type prometheus.Collector.
	MetricsGroup = providers.MetricsGroup
)

// Errors of module options, and of the stop. The former come out of fx.New, that is of app.Err and
// app.Start.
var (
	// ErrConflictingOptions means that two options, such as WithConfig and
	// WithEnvPrefix, both say where the configuration comes from.
	ErrConflictingOptions = providers.ErrConflictingOptions
	// ErrInvalidOption means that an option was given an unusable value, such as
	// a nil config, or that what was put into the graph would be ignored or is nil.
	ErrInvalidOption = providers.ErrInvalidOption
	// ErrStopping is what the readiness check "running" fails with while the application stops.
	ErrStopping = lifecycle.ErrStopping
)

// Module gives an application a Redis client, locks, notifications and a store of
// typed values, configured from the environment (REDIS_URL and so on).
//
// It provides *Config, *Redis, redis.UniversalClient, LockManager, Locker,
// *RedisLockManager, NotificationSystem, *RedisNotificationSystem, *Store and *Health,
// and contributes to the groups [HealthGroup] and [MetricsGroup]. It takes a
// *zap.Logger and a trace.TracerProvider where there are any.
//
// The client connects when the application starts, and checks that the server is fit
// for use. Locks, notifications and the store do nothing before they are first used. Use
// all of them in a start hook or later: in a constructor or an fx.Invoke they fail with ErrClientNotStarted, and a
// subscription is late.
//
// Include it once. A second Redis server is a [Named] instance. The types it provides
// cannot be provided beside it; fx.New then names the constructor that does, whose name
// says what to write instead. What Fx would ignore is an error as well (see
// [ErrInvalidOption]): a Config by value, a decorator that returns nil, a Replace option
// that does not reach the module, a Locker that is replaced or decorated beside the
// LockManager. It cannot see a bare fx.Replace of an interface or in
// a sibling module, nor a Config by value without any field set.
//
// The Locker is the LockManager, decorations included: locks taken through either exclude
// each other. Decorate LockManager with a type that is a Locker to decorate both. A
// decorated LockManager that is no Locker makes a Locker whose methods to wait and to try
// return an error (ErrInvalidOption).
var Module = fx.Options(providers.Module())

// Named is a further instance for another Redis server. It provides what
// [Module] provides (other than *Health, which covers all instances), under
// name:"<name>", and adds its checks and collectors to the same groups; their
// names and the label "cache" tell the instances apart.
//
// Among opts may be [WithConfig] or [WithEnvPrefix]. Without them the prefix is
// the name in upper case: Named("sessions") reads SESSIONS_REDIS_URL. [NewCache] and
// [NewState] among opts are on the Store of this instance, and provided under its name.
func Named(name string, opts ...fx.Option) fx.Option { return providers.Named(name, opts...) }

// WithConfig makes the module use cfg instead of the environment. Zero fields
// of cfg mean their defaults. It cannot stand together with WithEnvPrefix
// (ErrConflictingOptions); ReplaceConfig and fx.Replace win over it.
func WithConfig(cfg *Config) fx.Option { return providers.WithConfig(cfg) }

// WithEnvPrefix makes the module put prefix before the names of its environment
// variables: with "APP_" it reads APP_REDIS_URL and so on.
func WithEnvPrefix(prefix string) fx.Option { return providers.WithEnvPrefix(prefix) }

// RegisterMetrics registers all collectors of the group [MetricsGroup] with the
// prometheus.Registerer in the graph, which the application has to provide, at start,
// and takes them out again at stop or when the start fails. (When the start timeout of
// Fx is over, Fx stops nothing, and they stay.) Do not register them a second time by
// hand. In the group is a prometheus.Collector, or with flatten a slice of them: a prometheus.Gauge, or another type
// that Fx would ignore, is an error of fx.New (ErrInvalidOption).
var RegisterMetrics = providers.RegisterMetrics()

// WithSlog makes the module, and all named instances, log to log, at its levels: what would go to a *zap.Logger goes
// there. It wins over a *zap.Logger in the graph, which then is for the application alone. Use it once, and not among the
// options of [Named]. A nil log is an error of fx.New that matches ErrInvalidOption and is an *ArgumentError.
func WithSlog(log *slog.Logger) fx.Option { return providers.WithSlog(log) }

// DrainOnStop stands last in fx.New, and makes a stop begin by taking the application out of traffic: the readiness checks
// fail ([ErrStopping]), and the stop waits for the DrainDelay of the Config, for at most half of the stop timeout, while
// servers, locks and all else go on.
//
// Without it the same happens before anything of the module closes. But Fx stops in the reverse order of construction: an
// HTTP server that was constructed after the module is gone by then, and the delay is of no use to it. So are servers of
// an fx.Invoke that stands behind DrainOnStop.
var DrainOnStop = providers.DrainOnStop()

// ReplaceConfig makes the module use cfg, whatever WithConfig or the
// environment say. It works where it is passed to fx.New itself, and once; inside a
// module beside this one Fx would ignore it, which is an error (ErrInvalidOption).
func ReplaceConfig(cfg *Config) fx.Option { return providers.ReplaceConfig(cfg) }

// ReplaceLockManager makes the graph give m, in tests a fake, wherever a LockManager is
// needed, and wherever a Locker is, if m is one, as the fake of package fxtest is. If it
// is none, an application that asks for a Locker cannot be built (ErrInvalidOption).
// A bare fx.Replace(m) would be ignored, as Fx goes by the concrete type.
// The *RedisLockManager in the graph stays what it was. The caller closes m.
// It stands where ReplaceConfig does.
func ReplaceLockManager(m LockManager) fx.Option { return providers.ReplaceLockManager(m) }

// ReplaceNotificationSystem makes the graph give s wherever a NotificationSystem is
// needed, just as ReplaceLockManager does for locks.
func ReplaceNotificationSystem(s NotificationSystem) fx.Option {
	return providers.ReplaceNotificationSystem(s)
}
