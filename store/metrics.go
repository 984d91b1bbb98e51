package store

import (
	"context"
	"errors"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics is what a Store counts. All of it has the labels cache, which is the name of the Store, and name, which is that
// of the Cache or State.
type metrics struct {
	stateCalls *prometheus.CounterVec // by name, op, outcome
	conflicts  *prometheus.CounterVec // by name
	oversize   *prometheus.CounterVec // by name
	cache      cacheMetrics
}

func newMetrics(name string) *metrics {
	counter := func(what, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cache_store_" + what, Help: help, ConstLabels: prometheus.Labels{"cache": name},
		}, append([]string{"name"}, labels...))
	}
	return &metrics{
		stateCalls: counter("state_calls_total", "Calls of States, by what they do and how they ended.", "op", "outcome"),
		conflicts:  counter("conflicts_total", "Writes that found another version, repetitions within Update included."),
		oversize:   counter("oversize_total", "Values that were too large to be stored or read."),
		cache:      newCacheMetrics(name, counter),
	}
}

// all returns the metrics.
func (m *metrics) all() collectors {
	return append(collectors{m.stateCalls, m.conflicts, m.oversize}, m.cache.all()...)
}

// collectors is several as one.
type collectors []prometheus.Collector

// Describe implements prometheus.Collector.
func (c collectors) Describe(ch chan<- *prometheus.Desc) {
	for _, one := range c {
		one.Describe(ch)
	}
}

// Collect implements prometheus.Collector.
func (c collectors) Collect(ch chan<- prometheus.Metric) {
	for _, one := range c {
		one.Collect(ch)
	}
}

// Collector returns the metrics that the package comment lists, for a registerer of the caller's choice. Collectors of
// several Stores can be registered together if the Stores have different names, see [WithName]. Safe for concurrent use.
func (s *Store) Collector() prometheus.Collector {
	if s.ready() != nil {
		return prometheus.NewRegistry() // collects nothing
	}
	return slices.Clone(s.metrics.all())
}

// outcomeOf is the label for how a call has ended.
func outcomeOf(err error) string {
	if err == nil {
		return "ok"
	}
	for _, one := range []struct {
		err  error
		name string
	}{
		{ErrUncertain, "uncertain"},
		{ErrNotFound, "not_found"},
		{ErrExists, "conflict"},
		{ErrConflict, "conflict"},
		{ErrFenced, "fenced"},
		{ErrTooLarge, "too_large"},
		{ErrCodec, "codec"},
		{ErrUnavailable, "unavailable"},
		{context.Canceled, "canceled"},
		{context.DeadlineExceeded, "canceled"},
	} {
		if errors.Is(err, one.err) {
			return one.name
		}
	}
	return "error"
}
