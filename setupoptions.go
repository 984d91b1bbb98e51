package cache

import (
	"errors"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"

	"github.com/compozy/cache/internal/arguments"
	"github.com/compozy/cache/internal/slogcore"
	"github.com/compozy/cache/providers"
)

// SetupOption changes what [SetupCache] makes. Under Fx the same is said by what is in
// the graph, and by [WithEnvPrefix] and [Named].
type SetupOption func(*setup)

// setup is what the options add up to.
type setup struct {
	instance   providers.Instance
	log        *zap.Logger
	slog       *zap.Logger // wins over log
	tracing    trace.TracerProvider
	registerer prometheus.Registerer

	envPrefix   string
	prefixGiven bool
	errs        []error // of the options, to be returned together
}

// SetupWithLogger sets where all parts log. The default, also for nil, is nowhere.
func SetupWithLogger(log *zap.Logger) SetupOption {
	return func(s *setup) { s.log = log }
}

// SetupWithSlog makes all parts log to log, at its levels: what would go to a *zap.Logger goes there. It wins over
// SetupWithLogger. Nil is an *ArgumentError.
func SetupWithSlog(log *slog.Logger) SetupOption {
	return func(s *setup) {
		var err error
		if s.slog, err = slogcore.New("SetupWithSlog", log); err != nil {
			s.errs = append(s.errs, err)
		}
	}
}

// SetupWithTracerProvider turns tracing of the client on. The default, also for nil,
// is no tracing: the global provider is not used.
func SetupWithTracerProvider(provider trace.TracerProvider) SetupOption {
	return func(s *setup) {
		s.tracing = nil
		if !arguments.IsNil(provider) {
			s.tracing = provider
		}
	}
}

// SetupWithRegisterer registers the collectors of all parts until Close, or until the
// start fails. The default, also for nil, is to register nothing; see
// [Cache.Collectors].
func SetupWithRegisterer(registerer prometheus.Registerer) SetupOption {
	return func(s *setup) {
		s.registerer = nil
		if !arguments.IsNil(registerer) {
			s.registerer = registerer
		}
	}
}

// SetupWithEnvPrefix puts prefix before the names of the environment variables: with
// "APP_" the address is in APP_REDIS_URL. An empty prefix, and one beside a Config,
// for which no variable is read, is an *ArgumentError.
func SetupWithEnvPrefix(prefix string) SetupOption {
	return func(s *setup) {
		s.envPrefix, s.prefixGiven = prefix, true
		if prefix == "" {
			s.refuse("SetupWithEnvPrefix", "is empty", nil)
		}
	}
}

// SetupWithName is the name of the instance in metrics (label "cache"), logs and
// health checks ("sessions.redis"), overriding "default", for programs with several
// servers. It has letters, digits, - and _, and neither begins with a digit nor is
// "default"; another name is an *ArgumentError. It does not change which variables
// are read: see [SetupWithEnvPrefix].
func SetupWithName(name string) SetupOption {
	return func(s *setup) {
		s.instance.Name = name
		if reason := providers.CheckName(name); reason != "" {
			s.refuse("SetupWithName", reason, nil)
		}
	}
}

func (s *setup) refuse(option, reason string, err error) {
	s.errs = append(s.errs, &ArgumentError{Argument: option, Reason: reason, Err: err})
}

// newSetup applies the options and returns all that is wrong with them.
func newSetup(cfg *Config, opts []SetupOption) (*setup, error) {
	s := &setup{}
	for _, opt := range opts {
		if opt == nil {
			s.refuse("opts", "contains nil", nil)
			continue
		}
		opt(s)
	}
	if cfg != nil && s.prefixGiven {
		s.refuse("SetupWithEnvPrefix", "stands beside a Config, for which no variable is read: use one of them",
			ErrConflictingOptions)
	}
	return s, errors.Join(s.errs...)
}
