package lock

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// LockMetrics is a snapshot of what a manager has counted.
//
//revive:disable-next-line:exported the name is part of the published API
type LockMetrics struct {
	// AcquisitionsTotal counts locks that were acquired.
	AcquisitionsTotal int64
	// AcquisitionsFailed counts calls of Acquire, TryAcquire, AcquireWait and WithLock with valid arguments that got none.
	AcquisitionsFailed int64
	// AcquisitionsRefused counts those of them that failed because somebody else held the lock.
	AcquisitionsRefused int64
	// ReleasesTotal counts releases of held locks, failed ones and those by Close included.
	ReleasesTotal int64
	// ReleasesFailed counts those that Redis did not confirm.
	ReleasesFailed int64
	// RefreshesTotal counts calls of Refresh, failed ones included. Automatic renewals are not among them.
	RefreshesTotal int64
	// RefreshesFailed counts those that did not extend the lock.
	RefreshesFailed int64
	// RenewalsTotal counts automatic renewals, failed ones included.
	RenewalsTotal int64
	// RenewalsFailed counts those that will be tried again.
	RenewalsFailed int64
	// LostExpired, LostStolen and LostClosed count lost locks by cause.
	LostExpired, LostStolen, LostClosed int64
	// HandOffs counts releases that reserved the lock for a waiter.
	HandOffs int64
	// Held is how many locks are held now.
	Held int
	// Waiting is how many callers wait for a lock now.
	Waiting int
	// AcquisitionTime is the mean time that successful acquisitions took, waiting included.
	AcquisitionTime time.Duration
}

// GetMetrics returns a snapshot of what was counted since the manager was made. Safe for concurrent use.
func (m *RedisLockManager) GetMetrics() *LockMetrics {
	if m.none() {
		return &LockMetrics{}
	}
	c := m.keeper.metrics
	acquired, refused := c.outcomes[outcomeAcquired].Load(), c.outcomes[outcomeRefused].Load()
	s := &LockMetrics{
		AcquisitionsTotal:   acquired,
		AcquisitionsFailed:  refused + c.outcomes[outcomeCanceled].Load() + c.outcomes[outcomeError].Load(),
		AcquisitionsRefused: refused,
		ReleasesTotal:       c.releases.Load(),
		ReleasesFailed:      c.releasesFailed.Load(),
		RefreshesTotal:      c.refreshes.Load(),
		RefreshesFailed:     c.refreshesFailed.Load(),
		RenewalsTotal:       c.renewals.Load(),
		RenewalsFailed:      c.renewalsFailed.Load(),
		LostExpired:         c.losses[lossExpired].Load(),
		LostStolen:          c.losses[lossStolen].Load(),
		LostClosed:          c.losses[lossClosed].Load(),
		HandOffs:            c.handOffs.Load(),
		Held:                m.keeper.count(),
		Waiting:             int(c.waiting.Load()),
	}
	if acquired > 0 {
		s.AcquisitionTime = time.Duration(c.acquireTime.Load() / acquired)
	}
	return s
}

// Values of the label outcome.
const (
	outcomeAcquired = iota
	outcomeRefused
	outcomeCanceled
	outcomeError
	outcomes
)

// outcomeName returns the label of an outcome.
func outcomeName(outcome int) string {
	return [outcomes]string{"acquired", "refused", "canceled", "error"}[outcome]
}

// Values of the label cause.
const (
	lossExpired = iota
	lossStolen
	lossClosed
	losses
)

// metrics is what a manager counts.
type metrics struct {
	outcomes                   [outcomes]atomic.Int64
	acquireTime                atomic.Int64 // nanoseconds, of those acquired
	releases, releasesFailed   atomic.Int64
	refreshes, refreshesFailed atomic.Int64
	renewals, renewalsFailed   atomic.Int64
	losses                     [losses]atomic.Int64
	handOffs                   atomic.Int64
	waiting                    atomic.Int64
	waitSeconds, holdSeconds   prometheus.Histogram
}

func newMetrics(name string) *metrics {
	histogram := func(what, help string) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "cache_lock_" + what, Help: help,
			// From less than a round trip on one machine to what is held through a job.
			Buckets:     []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 1800},
			ConstLabels: prometheus.Labels{"cache": name},
		})
	}
	return &metrics{
		waitSeconds: histogram("wait_seconds", "Time from the call to the lock, of successful acquisitions."),
		holdSeconds: histogram("hold_seconds", "Time from acquisition to release or loss."),
	}
}

// attempted counts an attempt to acquire a lock that began then, and returns how it ended.
func (c *metrics) attempted(ctx context.Context, err error, begin time.Time) (outcome int) {
	switch {
	case err == nil:
		outcome = outcomeAcquired
		took := time.Since(begin)
		c.acquireTime.Add(int64(took))
		c.waitSeconds.Observe(took.Seconds())
	case errors.Is(err, ErrLockNotAcquired):
		outcome = outcomeRefused
	case ctx.Err() != nil && errors.Is(err, ctx.Err()), errors.Is(err, ErrManagerClosed):
		outcome = outcomeCanceled
	default:
		outcome = outcomeError
	}
	c.outcomes[outcome].Add(1)
	return outcome
}

// released counts a release.
func (c *metrics) released(err error, begin, acquired time.Time) {
	c.releases.Add(1)
	if err != nil {
		c.releasesFailed.Add(1)
	}
	c.holdSeconds.Observe(begin.Sub(acquired).Seconds())
}

// lost counts a loss.
func (c *metrics) lost(cause error, held time.Duration) {
	c.countLoss(cause)
	c.holdSeconds.Observe(held.Seconds())
}

// countLoss counts a loss that was found by the release, which has counted how long the lock was held.
func (c *metrics) countLoss(cause error) {
	switch {
	case errors.Is(cause, ErrLockStolen):
		c.losses[lossStolen].Add(1)
	case errors.Is(cause, ErrManagerClosed):
		c.losses[lossClosed].Add(1)
	default:
		c.losses[lossExpired].Add(1)
	}
}

// series is one of the metrics that Prometheus sees.
type series struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
	read func() float64
	vary []string // the value of the variable label, if it has one
}

// collector shows a manager's metrics to Prometheus.
type collector struct {
	series     []series
	histograms []prometheus.Collector
}

// Collector returns the metrics that the package comment lists, for a registerer of the caller's choice. Collectors of
// several managers can be registered together if the managers have different names, see WithName. Safe for concurrent
// use.
func (m *RedisLockManager) Collector() prometheus.Collector {
	if m.none() {
		return prometheus.NewRegistry() // collects nothing
	}
	k := m.keeper.metrics
	c := &collector{histograms: []prometheus.Collector{k.waitSeconds, k.holdSeconds}}
	labels := prometheus.Labels{"cache": m.name}
	desc := func(name, help string, variable ...string) *prometheus.Desc {
		return prometheus.NewDesc("cache_lock_"+name, help, variable, labels)
	}
	counter := func(d *prometheus.Desc, n *atomic.Int64, label ...string) {
		c.series = append(c.series, series{d, prometheus.CounterValue, func() float64 { return float64(n.Load()) }, label})
	}
	gauge := func(d *prometheus.Desc, read func() float64) {
		c.series = append(c.series, series{d, prometheus.GaugeValue, read, nil})
	}
	tries := desc("acquisitions_total", "Tries to acquire a lock, by outcome.", "outcome")
	for i := range k.outcomes {
		counter(tries, &k.outcomes[i], outcomeName(i))
	}
	lost := desc("lost_total", "Locks lost while held, by cause.", "cause")
	for i, cause := range [losses]string{"expired", "stolen", "closed"} {
		counter(lost, &k.losses[i], cause)
	}
	counter(desc("releases_total", "Releases of held locks, failed ones included."), &k.releases)
	counter(desc("release_errors_total", "Releases that Redis did not confirm."), &k.releasesFailed)
	counter(desc("refreshes_total", "Explicit refreshes, failed ones included."), &k.refreshes)
	counter(desc("refresh_errors_total", "Explicit refreshes that did not extend the lock."), &k.refreshesFailed)
	counter(desc("renewals_total", "Automatic renewals, failed ones included."), &k.renewals)
	counter(desc("renewal_errors_total", "Automatic renewals that failed."), &k.renewalsFailed)
	counter(desc("hand_offs_total", "Releases that reserved the lock for a waiter."), &k.handOffs)
	gauge(desc("held", "Locks held now."), func() float64 { return float64(m.keeper.count()) })
	gauge(desc("waiting", "Callers that wait for a lock now."), func() float64 { return float64(k.waiting.Load()) })
	return c
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	var last *prometheus.Desc
	for _, s := range c.series {
		if s.desc != last { // the series of one metric follow each other
			ch <- s.desc
		}
		last = s.desc
	}
	for _, h := range c.histograms {
		h.Describe(ch)
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	for _, s := range c.series {
		ch <- prometheus.MustNewConstMetric(s.desc, s.kind, s.read(), s.vary...)
	}
	for _, h := range c.histograms {
		h.Collect(ch)
	}
}
