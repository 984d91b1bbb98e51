package client

import (
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"

	"github.com/compozy/cache/internal/arguments"
)

// Option changes how New builds a client.
type Option func(*settings)

// settings collects the options.
type settings struct {
	log    *zap.Logger
	name   string
	tracer trace.TracerProvider
}

// WithLogger sets where the client logs. The default, also for nil, is nowhere.
func WithLogger(log *zap.Logger) Option {
	return func(s *settings) {
		if log != nil {
			s.log = log
		}
	}
}

// WithName names the instance in metrics, overriding "default". An empty name is ignored.
func WithName(name string) Option {
	return func(s *settings) {
		if name != "" {
			s.name = name
		}
	}
}

// WithTracerProvider turns tracing on. The default, also for nil, is no tracing:
// the global provider is not used.
func WithTracerProvider(tp trace.TracerProvider) Option {
	return func(s *settings) {
		if !arguments.IsNil(tp) {
			s.tracer = tp
		}
	}
}

// newSettings applies opts to the defaults.
func newSettings(opts []Option) (settings, error) {
	s := settings{log: zap.NewNop(), name: "default"}
	for _, opt := range opts {
		if opt == nil {
			return s, &ArgumentError{Argument: "opts", Reason: "contains nil"}
		}
		opt(&s)
	}
	return s, nil
}
