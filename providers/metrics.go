package providers

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/fx"
)

// RegisterMetrics registers all collectors of the metrics group with the
// graph's Registerer, and takes them out again at stop, so that an application
// can be started again in the same process.
func RegisterMetrics() fx.Option {
	return fx.Invoke(fx.Annotate(registerMetrics, fx.ParamTags("", "", group(MetricsGroup))))
}

func registerMetrics(lc fx.Lifecycle, reg prometheus.Registerer, collectors []prometheus.Collector) error {
	var registered []prometheus.Collector
	unregister := func() {
		for _, c := range registered {
			reg.Unregister(c)
		}
	}
	var errs []error
	for _, c := range collectors {
		if err := reg.Register(c); err != nil {
			errs = append(errs, fmt.Errorf("cache: registering metrics: %w", err))
			continue
		}
		registered = append(registered, c)
	}
	if err := errors.Join(errs...); err != nil {
		unregister()
		return err
	}
	lc.Append(fx.StopHook(unregister))
	return nil
}
