package providers

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/fx"

	"github.com/compozy/cache/internal/arguments"
	"github.com/compozy/cache/lifecycle"
)

// RegisterMetrics registers all collectors of the metrics group with the graph's
// Registerer while the application runs.
func RegisterMetrics() fx.Option { return fx.Invoke(registerMetrics) }

// registration is what RegisterMetrics needs.
type registration struct {
	fx.In
	Lifecycle  fx.Lifecycle
	Registerer prometheus.Registerer
	Collectors []prometheus.Collector `group:"metrics"`
}

func registerMetrics(in registration) error {
	if arguments.IsNil(in.Registerer) {
		return fmt.Errorf("%w: RegisterMetrics: the prometheus.Registerer is nil", ErrInvalidOption)
	}
	lifecycle.AppendMetrics(in.Lifecycle, &lifecycle.Metrics{Registerer: in.Registerer, Collectors: in.Collectors})
	return nil
}
