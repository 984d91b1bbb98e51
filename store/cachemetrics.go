package store

import (
	"github.com/prometheus/client_golang/prometheus"
)

// cacheMetrics is what Caches count, with the label name.
type cacheMetrics struct {
	requests *prometheus.CounterVec // by source
	loads    *prometheus.CounterVec // by outcome
	seconds  *prometheus.HistogramVec
	waits    *prometheus.CounterVec
	refused  *prometheus.CounterVec
	unfilled *prometheus.CounterVec
	stale    *prometheus.CounterVec // by cause
	writes   *prometheus.CounterVec // by op and outcome
	gauges   *gauges
	near     *nearMetrics
}

// Values of the label source of requests that have no [Source].
const (
	sourceNone  = "none"
	sourceError = "error"
)

func newCacheMetrics(store string, counter func(what, help string, labels ...string) *prometheus.CounterVec) cacheMetrics {
	labels := prometheus.Labels{"cache": store}
	return cacheMetrics{
		requests: counter("requests_total", "Keys that were asked for, by where their values came from.", "source"),
		loads:    counter("loads_total", "Loads, by outcome.", "outcome"),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "cache_store_load_seconds", Help: "Time that loaders took.", ConstLabels: labels,
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}, []string{"name"}),
		waits:    counter("lease_waits_total", "Keys for whose load in another process this one has waited."),
		refused:  counter("fills_refused_total", "Loaded values that were not stored, as somebody else had written or deleted."),
		unfilled: counter("fills_failed_total", "Loaded values that Redis has not confirmed to have stored."),
		stale:    counter("stale_served_total", "Stale values that were returned, by cause.", "cause"),
		writes:   counter("cache_writes_total", "Keys, tags and whole Caches that writes were about, by outcome.", "op", "outcome"),
		gauges: &gauges{
			open:    prometheus.NewDesc("cache_store_breakers_open", "Redis servers that Caches do without just now.", nil, labels),
			pending: prometheus.NewDesc("cache_store_deletes_pending", "Keys whose delete failed and is to be repeated.", nil, labels),
			loading: prometheus.NewDesc("cache_store_loads_without_redis", "Loaders that run without Redis just now.", nil, labels),
		},
		near: newNearMetrics(labels),
	}
}

func (m *cacheMetrics) all() collectors {
	return collectors{m.requests, m.loads, m.seconds, m.waits, m.refused, m.unfilled, m.stale, m.writes, m.gauges, m.near}
}

// gauges shows what is so at the moment.
type gauges struct {
	open, pending, loading *prometheus.Desc
	shared                 *shared
}

// Describe implements prometheus.Collector.
func (m *gauges) Describe(ch chan<- *prometheus.Desc) {
	ch <- m.open
	ch <- m.pending
	ch <- m.loading
}

// Collect implements prometheus.Collector.
func (m *gauges) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, n int) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(n))
	}
	gauge(m.open, m.shared.breakers.Open())
	gauge(m.pending, m.shared.repeats.count())
	gauge(m.loading, m.shared.limit.Running())
}
