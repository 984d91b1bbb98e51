package cache_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/fx"

	"github.com/compozy/cache"
)

// Fx would ignore what is in a group in another form than the one that is asked for.
func TestMisplacedInGroups(t *testing.T) {
	t.Parallel()
	base := fx.Options(fx.NopLogger, cache.Module, cache.WithConfig(&cache.Config{Host: "redis.internal"}), cache.RegisterMetrics,
		fx.Supply(fx.Annotate(prometheus.NewRegistry(), fx.As(new(prometheus.Registerer)))))
	type forms map[string]any
	for group, in := range map[string]struct {
		wrong forms
		right []fx.Option
	}{
		"health": {forms{
			"*health.Check":   func() *cache.Check { return new(cache.Check) },
			"[]health.Check":  func() []cache.Check { return nil },
			"[]*health.Check": func() []*cache.Check { return nil },
		}, []fx.Option{
			// A group of the application's own may have the name.
			fx.Provide(fx.Annotated{Group: "health", Target: func() func(context.Context) error { return nil }}),
			fx.Provide(fx.Annotated{Group: "health", Target: func() cache.Check { return cache.Check{} }}),
			fx.Provide(fx.Annotated{Group: "health,flatten", Target: func() []cache.Check { return nil }}),
		}},
		"metrics": {forms{
			"[]prometheus.Collector": func() []prometheus.Collector { return nil },
		}, []fx.Option{
			fx.Provide(fx.Annotate(func() prometheus.Counter {
				return prometheus.NewCounter(prometheus.CounterOpts{Name: "ours_total", Help: "1"})
			}, fx.As(fx.Self()), fx.As(new(prometheus.Collector)), fx.ResultTags(`group:"metrics"`))),
			fx.Provide(fx.Annotate(func() prometheus.Gauge { return prometheus.NewGauge(prometheus.GaugeOpts{Name: "mine", Help: "1"}) },
				fx.As(new(prometheus.Collector)), fx.ResultTags(`group:"metrics"`))),
			fx.Provide(fx.Annotated{Group: "metrics,flatten", Target: func() []prometheus.Collector { return nil }}),
		}},
	} {
		for form, target := range in.wrong {
			err := fx.New(base, fx.Provide(fx.Annotated{Group: group, Target: target})).Err()
			require.ErrorIs(t, err, cache.ErrInvalidOption, form)
			require.ErrorContains(t, err, fmt.Sprintf("a %s in the group %q has no effect: provide a ", form, group))
		}
		pointers := fx.Annotated{Group: "health,flatten", Target: func() []*cache.Check { return []*cache.Check{{}} }}
		require.ErrorContains(t, fx.New(base, fx.Provide(pointers)).Err(), "a *health.Check in the group")
		require.NoError(t, fx.New(base, fx.Options(in.right...)).Err())
	}
}
