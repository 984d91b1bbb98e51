package lock

import "github.com/prometheus/client_golang/prometheus"

// collector shows a manager's metrics to Prometheus.
type collector struct {
	keeper *keeper

	acquisitions, releases, releaseErrors, refreshes, refreshErrors, renewals, renewalErrors,
	lost, handOffs, held, waiting *prometheus.Desc
}

var _ prometheus.Collector = (*collector)(nil)

// Collector returns the metrics that the package comment lists, for a registerer of the caller's choice. Collectors of
// several managers can be registered together if the managers have different names, see WithName. Safe for concurrent
// use.
func (m *RedisLockManager) Collector() prometheus.Collector {
	if m.none() {
		return prometheus.NewRegistry() // collects nothing
	}
	labels := prometheus.Labels{"cache": m.set.name}
	desc := func(name, help string, variable ...string) *prometheus.Desc {
		return prometheus.NewDesc("cache_lock_"+name, help, variable, labels)
	}
	return &collector{
		keeper:        m.keeper,
		acquisitions:  desc("acquisitions_total", "Tries to acquire a lock, by outcome.", "outcome"),
		releases:      desc("releases_total", "Releases of held locks, failed ones included."),
		releaseErrors: desc("release_errors_total", "Releases that Redis did not confirm."),
		refreshes:     desc("refreshes_total", "Explicit refreshes, failed ones included."),
		refreshErrors: desc("refresh_errors_total", "Explicit refreshes that did not extend the lock."),
		renewals:      desc("renewals_total", "Automatic renewals, failed ones included."),
		renewalErrors: desc("renewal_errors_total", "Automatic renewals that failed."),
		lost:          desc("lost_total", "Locks lost while held, by cause.", "cause"),
		handOffs:      desc("hand_offs_total", "Releases that reserved the lock for a waiter."),
		held:          desc("held", "Locks held now."),
		waiting:       desc("waiting", "Callers that wait for a lock now."),
	}
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		c.acquisitions, c.releases, c.releaseErrors, c.refreshes, c.refreshErrors, c.renewals, c.renewalErrors,
		c.lost, c.handOffs, c.held, c.waiting,
	} {
		ch <- d
	}
	c.keeper.metrics.waitSeconds.Describe(ch)
	c.keeper.metrics.holdSeconds.Describe(ch)
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	m := c.keeper.metrics
	counter := func(d *prometheus.Desc, v int64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	gauge := func(d *prometheus.Desc, v float64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v)
	}
	for i := range m.outcomes {
		counter(c.acquisitions, m.outcomes[i].Load(), outcomeName(i))
	}
	for i, cause := range [losses]string{"expired", "stolen", "closed"} {
		counter(c.lost, m.losses[i].Load(), cause)
	}
	counter(c.releases, m.releases.Load())
	counter(c.releaseErrors, m.releasesFailed.Load())
	counter(c.refreshes, m.refreshes.Load())
	counter(c.refreshErrors, m.refreshesFailed.Load())
	counter(c.renewals, m.renewals.Load()+m.renewalsFailed.Load())
	counter(c.renewalErrors, m.renewalsFailed.Load())
	counter(c.handOffs, m.handOffs.Load())
	gauge(c.held, float64(c.keeper.held.len()))
	gauge(c.waiting, float64(m.waiting.Load()))
	m.waitSeconds.Collect(ch)
	m.holdSeconds.Collect(ch)
}
