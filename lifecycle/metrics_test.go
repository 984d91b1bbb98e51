package lifecycle_test

import (
	"runtime"
	"strings"
	"testing"
	"testing/synctest"

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

	require.ErrorContains(t, m.Start(), "already registered: taken (")
	assert.Equal(t, []string{"taken"}, names(t, registry))

	m.Collectors = []prometheus.Collector{gauge("a"), gauge("b")}
	require.NoError(t, m.Start())
	assert.Equal(t, []string{"a", "b", "taken"}, names(t, registry))
	require.NoError(t, m.Stop())
	assert.Equal(t, []string{"taken"}, names(t, registry))
	require.NoError(t, m.Start(), "and again")
}

// Each collector is named once, and so is the advice, however many of them a registry
// refuses and for whatever reason.
func TestMetricsThatAreRefusedAreNamedOnce(t *testing.T) {
	t.Parallel()
	gauge := func(name, help, instance string) prometheus.Collector {
		opts := prometheus.GaugeOpts{Name: name, Help: help}
		if instance != "" {
			opts.ConstLabels = prometheus.Labels{"cache": instance}
		}
		return prometheus.NewGauge(opts)
	}
	registry := prometheus.NewPedanticRegistry()
	first := &lifecycle.Metrics{Registerer: registry, Collectors: []prometheus.Collector{
		gauge("a", "1", "default"), gauge("a", "1", "sessions"), gauge("b", "1", ""),
	}}
	require.NoError(t, first.Start())
	twice := gauge("a", "1", "default")
	second := &lifecycle.Metrics{Registerer: registry, Collectors: []prometheus.Collector{
		twice, twice, gauge("a", "1", "sessions"), gauge("b", "1", ""), gauge("b", "another", ""), gauge("c", "1", ""),
	}}

	err := second.Start()

	require.ErrorAs(t, err, new(prometheus.AlreadyRegisteredError))
	require.ErrorContains(t, err, `already registered: a{cache="default"}, a{cache="sessions"}, b (include cache.RegisterMetrics once`)
	require.ErrorContains(t, err, `; a previously registered descriptor with the same fully-qualified name as Desc{fqName: "b"`)
	for _, once := range []string{"cache.RegisterMetrics", "registering metrics", `a{cache="default"}`, "fully-qualified name"} {
		assert.Equal(t, 1, strings.Count(err.Error(), once), once)
	}
	assert.Equal(t, []string{"a", "b"}, names(t, registry), "nothing is added")
}

// unchecked is a collector without descriptors.
type unchecked struct{ prometheus.Collector }

func (unchecked) Describe(chan<- *prometheus.Desc) {}

// refusing is a registry that has everything already.
type refusing struct{ *prometheus.Registry }

func (refusing) Register(c prometheus.Collector) error {
	return prometheus.AlreadyRegisteredError{ExistingCollector: c, NewCollector: c}
}

func TestMetricsWithoutDescriptorsAreNamedByType(t *testing.T) {
	t.Parallel()
	m := &lifecycle.Metrics{Registerer: refusing{prometheus.NewRegistry()}, Collectors: []prometheus.Collector{unchecked{}}}
	require.ErrorContains(t, m.Start(), "already registered: lifecycle_test.unchecked (")
}

// panicking is a registerer that panics at the second collector.
type panicking struct {
	prometheus.Registerer
	calls int
}

func (p *panicking) Register(c prometheus.Collector) error {
	if p.calls++; p.calls == 2 {
		panic("boom")
	}
	return p.Registerer.Register(c)
}

func TestMetricsLeaveNothingWhenTheRegistererPanics(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewPedanticRegistry()
	gauge := func(name string) prometheus.Collector { return prometheus.NewGauge(prometheus.GaugeOpts{Name: name}) }
	m := &lifecycle.Metrics{Registerer: &panicking{Registerer: registry}, Collectors: []prometheus.Collector{gauge("a"), gauge("b")}}
	require.PanicsWithValue(t, "boom", func() { _ = m.Start() })
	assert.Empty(t, names(t, registry))
}

// unwilling is a registerer that calls a function in place of unregistering.
type unwilling struct {
	prometheus.Registerer

	unregister func()
}

func (u unwilling) Unregister(prometheus.Collector) bool { u.unregister(); return true }

// What a registerer does must not keep Redis open.
func TestMetricsOfARegistererThatDoesNotReturn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		defer close(release)
		for want, end := range map[string]func(){"does not return within 1s": func() { <-release }, "has called runtime.Goexit": runtime.Goexit} {
			gauge := prometheus.NewGauge(prometheus.GaugeOpts{Name: "a", Help: "1"})
			m := &lifecycle.Metrics{
				Registerer: unwilling{prometheus.NewRegistry(), end}, Collectors: []prometheus.Collector{gauge},
			}
			require.NoError(t, m.Start())
			require.ErrorContains(t, m.Stop(), want)
			m = &lifecycle.Metrics{
				Registerer: unwilling{prometheus.NewRegistry(), end}, Collectors: []prometheus.Collector{gauge, gauge},
			}
			err := m.Start()
			require.ErrorContains(t, err, "already registered: a (")
			require.ErrorContains(t, err, want, "it is left registered")
		}
	})
}
