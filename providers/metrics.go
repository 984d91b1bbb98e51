package providers

import (
	"fmt"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/fx"

	"github.com/compozy/cache/internal/arguments"
	"github.com/compozy/cache/lifecycle"
)

// RegisterMetrics registers all collectors of the metrics group with the graph's
// Registerer while the application runs.
func RegisterMetrics() fx.Option { return fx.Invoke(refuseMisplacedMetrics, registerMetrics) }

// registration is what RegisterMetrics needs.
type registration struct {
	fx.In
	Lifecycle  fx.Lifecycle
	Registerer prometheus.Registerer
	Collectors []prometheus.Collector `group:"metrics"`
	Unnamed    unnamed                `optional:"true"`
	Named      readers
}

func registerMetrics(in registration) error {
	if !in.Unnamed.included && len(in.Named.All) == 0 {
		return fmt.Errorf("%w: RegisterMetrics has no effect without cache.Module or an instance of cache.Named", ErrInvalidOption)
	}
	if arguments.IsNil(in.Registerer) {
		return fmt.Errorf("%w: RegisterMetrics: the prometheus.Registerer is nil", ErrInvalidOption)
	}
	if slices.ContainsFunc(in.Collectors, func(c prometheus.Collector) bool { return arguments.IsNil(c) }) {
		return fmt.Errorf("%w: RegisterMetrics: a prometheus.Collector in the group %q is nil: provide one that is not, or none",
			ErrInvalidOption, MetricsGroup)
	}
	lifecycle.AppendMetrics(in.Lifecycle, &lifecycle.Metrics{Registerer: in.Registerer, Collectors: in.Collectors})
	return nil
}
