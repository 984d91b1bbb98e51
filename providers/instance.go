package providers

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/fx"
	"go.uber.org/zap"

	"github.com/compozy/cache/health"
)

// Instance names what belongs together: the parts of one Redis. Its methods are the
// constructors of these parts, for Fx and for cache.SetupCache alike.
type Instance struct {
	// Name is empty for the unnamed instance.
	Name string
}

// Environment is what the constructors take from the application.
type Environment struct {
	// Lifecycle gets the hooks of the part.
	Lifecycle fx.Lifecycle
	// Logger may be nil: nothing is logged.
	Logger *zap.Logger
	// Tracing may be nil: nothing is traced.
	Tracing trace.TracerProvider
}

// Part is what a constructor makes, with what belongs to it in the health report and
// in the metrics.
type Part[T any] struct {
	Value     T
	Checks    []health.Check
	Collector prometheus.Collector
}

// defaultLabel is what metrics and logs call the unnamed instance.
const defaultLabel = "default"

// label is the name in metrics and logs.
func (i Instance) label() string {
	if i.Name == "" {
		return defaultLabel
	}
	return i.Name
}

// check names a health check of the instance.
func (i Instance) check(part string) string {
	if i.Name == "" {
		return part
	}
	return i.Name + "." + part
}

// logger replaces the missing logger of an application that has none.
func (i Instance) logger(log *zap.Logger) *zap.Logger {
	if log == nil {
		return zap.NewNop()
	}
	return log.With(zap.String("cache", i.label()))
}

// CheckName returns what is wrong with the name of an instance, as the rest of a
// sentence, or "".
func CheckName(name string) string {
	switch name {
	case "":
		return "is empty"
	case defaultLabel:
		return fmt.Sprintf("is %q, which is what metrics and logs call the unnamed instance", name)
	}
	for n, c := range []byte(name) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', c == '_', c == '-':
		case '0' <= c && c <= '9' && n > 0:
		default:
			return fmt.Sprintf("is %q, but may contain letters, digits, - and _ only, and must not begin with a digit", name)
		}
	}
	return ""
}

// envPrefix turns a name into the prefix of its environment variables.
func envPrefix(name string) string {
	prefix := []byte(name)
	for n, c := range prefix {
		switch {
		case 'a' <= c && c <= 'z':
			prefix[n] = c - 'a' + 'A'
		case c == '-':
			prefix[n] = '_'
		}
	}
	return string(prefix) + "_"
}
