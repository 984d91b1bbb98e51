package lifecycle

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/fx"
)

// Metrics registers collectors while an application runs. They are registered at
// start, not when the application is built: one that is never started, or whose start
// fails, has to leave the registry as it was, and only a hook is rolled back.
type Metrics struct {
	Registerer prometheus.Registerer
	Collectors []prometheus.Collector
}

// AppendMetrics appends the hooks of m to lc.
func AppendMetrics(lc fx.Lifecycle, m *Metrics) {
	lc.Append(fx.StartStopHook(m.Start, m.Stop))
}

// Start registers all collectors, or none and returns what is wrong with each that the
// registry refused.
func (m *Metrics) Start() error {
	var registered []prometheus.Collector
	var errs []error
	for _, c := range m.Collectors {
		err := m.Registerer.Register(c)
		switch {
		case err == nil:
			registered = append(registered, c)
		case errors.As(err, new(prometheus.AlreadyRegisteredError)):
			errs = append(errs, fmt.Errorf("cache: registering metrics: %w: include cache.RegisterMetrics once, "+
				"and do not register the same collectors by hand", err))
		default:
			errs = append(errs, fmt.Errorf("cache: registering metrics: %w", err))
		}
	}
	if len(errs) > 0 {
		m.unregister(registered)
	}
	return errors.Join(errs...)
}

// Stop takes the collectors out of the registry, so that an application can be started
// again in the same process.
func (m *Metrics) Stop() { m.unregister(m.Collectors) }

func (m *Metrics) unregister(collectors []prometheus.Collector) {
	for _, c := range collectors {
		m.Registerer.Unregister(c)
	}
}
