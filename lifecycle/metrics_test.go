package lifecycle_test

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/lifecycle"
)

// names are the metrics that a registry has.
func names(t *testing.T, registry *prometheus.Registry) []string {
	t.Helper()
	families, err := registry.Gather()
	require.NoError(t, err)
	found := []string{}
	for _, family := range families {
		found = append(found, family.GetName())
	}
	return found
}

// Registered are all collectors or none, and what was there before stays.
func TestMetricsAreRegisteredTogether(t *testing.T) {
	t.Parallel()
	gauge := func(name string) prometheus.Collector { return prometheus.NewGauge(prometheus.GaugeOpts{Name: name}) }
	registry := prometheus.NewPedanticRegistry()
	require.NoError(t, registry.Register(gauge("taken")))
	m := &lifecycle.Metrics{Registerer: registry, Collectors: []prometheus.Collector{gauge("a"), gauge("taken"), gauge("b")}}

	require.ErrorContains(t, m.Start(), "duplicate")
	assert.Equal(t, []string{"taken"}, names(t, registry))

	m.Collectors = []prometheus.Collector{gauge("a"), gauge("b")}
	require.NoError(t, m.Start())
	assert.Equal(t, []string{"a", "b", "taken"}, names(t, registry))
	m.Stop()
	assert.Equal(t, []string{"taken"}, names(t, registry))
	require.NoError(t, m.Start(), "and again")
}
