package lock

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
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
	s := &LockMetrics{
		ReleasesTotal:   c.releases.Load(),
		ReleasesFailed:  c.releasesFailed.Load(),
		RefreshesTotal:  c.refreshes.Load(),
		RefreshesFailed: c.refreshesFailed.Load(),
		RenewalsTotal:   c.renewals.Load(),
		RenewalsFailed:  c.renewalsFailed.Load(),
		HandOffs:        c.handOffs.Load(),
		Held:            m.keeper.count(),
		Waiting:         int(c.waiting.Load()),
	}
	var took int64
	for _, one := range c.all() {
		refused := one.outcomes[outcomeRefused].Load()
		s.AcquisitionsTotal += one.outcomes[outcomeAcquired].Load()
		s.AcquisitionsFailed += refused + one.outcomes[outcomeCanceled].Load() + one.outcomes[outcomeError].Load()
		s.AcquisitionsRefused += refused
		s.LostExpired += one.losses[lossExpired].Load()
		s.LostStolen += one.losses[lossStolen].Load()
		s.LostClosed += one.losses[lossClosed].Load()
		took += one.acquireTime.Load()
	}
	if s.AcquisitionsTotal > 0 {
		s.AcquisitionTime = time.Duration(took / s.AcquisitionsTotal)
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

// lossName returns the label of a cause.
func lossName(loss int) string {
	return [losses]string{"expired", "stolen", "closed"}[loss]
}

const (
	// maxClasses bounds the values of the label class, "" included. All classes beyond count as otherClass: a label is no
	// reason to refuse a lock.
	maxClasses = 50
	otherClass = "other"
)

// metrics is what a manager counts.
type metrics struct {
	releases, releasesFailed   atomic.Int64
	refreshes, refreshesFailed atomic.Int64
	renewals, renewalsFailed   atomic.Int64
	handOffs                   atomic.Int64
	waiting                    atomic.Int64
	waitSeconds, holdSeconds   *prometheus.HistogramVec // by class

	mu      sync.Mutex // guards classes
	classes map[string]*class
}

// class is what a manager counts of the locks of one class, see [WithClass].
type class struct {
	name                     string
	outcomes                 [outcomes]atomic.Int64
	acquireTime              atomic.Int64 // nanoseconds, of those acquired
	losses                   [losses]atomic.Int64
	waitSeconds, holdSeconds prometheus.Observer
}

func newMetrics(name string) *metrics {
	histogram := func(what, help string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "cache_lock_" + what, Help: help,
			// From less than a round trip on one machine to what is held through a job.
			Buckets:     []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 1800},
			ConstLabels: prometheus.Labels{"cache": name},
		}, []string{"class"})
	}
	return &metrics{
		waitSeconds: histogram("wait_seconds", "Time from the call to the lock, of successful acquisitions."),
		holdSeconds: histogram("hold_seconds", "Time from acquisition to release or loss."),
		classes:     make(map[string]*class),
	}
}

// class returns what is counted of the class of that name.
func (c *metrics) class(name string) *class {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.classes[name] == nil && len(c.classes) >= maxClasses {
		name = otherClass
	}
	if c.classes[name] == nil {
		c.classes[name] = &class{
			name: name, waitSeconds: c.waitSeconds.WithLabelValues(name), holdSeconds: c.holdSeconds.WithLabelValues(name),
		}
	}
	return c.classes[name]
}

// all returns the classes in the order of their names.
func (c *metrics) all() []*class {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.SortedFunc(maps.Values(c.classes), func(a, b *class) int { return strings.Compare(a.name, b.name) })
}

// attempted counts an attempt to acquire a lock that began then, and returns how it ended.
func (c *class) attempted(ctx context.Context, err error, begin time.Time) (outcome int) {
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
func (c *metrics) released(err error) {
	c.releases.Add(1)
	if err != nil {
		c.releasesFailed.Add(1)
	}
}

// held notes how long a lock was held.
func (c *class) held(d time.Duration) { c.holdSeconds.Observe(d.Seconds()) }

// lost counts a loss.
func (c *class) lost(cause error) {
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
}

// collector shows a manager's metrics to Prometheus.
type collector struct {
	metrics     *metrics
	tries, lost *prometheus.Desc // by class
	series      []series
}

// Collector returns the metrics that the package comment lists, for a registerer of the caller's choice. Collectors of
// several managers can be registered together if the managers have different names, see WithName. Safe for concurrent
// use.
func (m *RedisLockManager) Collector() prometheus.Collector {
	if m.none() {
		return prometheus.NewRegistry() // collects nothing
	}
	k := m.keeper.metrics
	labels := prometheus.Labels{"cache": m.name}
	desc := func(name, help string, variable ...string) *prometheus.Desc {
		return prometheus.NewDesc("cache_lock_"+name, help, variable, labels)
	}
	c := &collector{
		metrics: k,
		tries:   desc("acquisitions_total", "Tries to acquire a lock, by outcome.", "class", "outcome"),
		lost:    desc("lost_total", "Locks lost while held, by cause.", "class", "cause"),
	}
	counter := func(name, help string, n *atomic.Int64) {
		c.series = append(c.series, series{desc(name, help), prometheus.CounterValue, func() float64 { return float64(n.Load()) }})
	}
	gauge := func(name, help string, read func() float64) {
		c.series = append(c.series, series{desc(name, help), prometheus.GaugeValue, read})
	}
	counter("releases_total", "Releases of held locks, failed ones included.", &k.releases)
	counter("release_errors_total", "Releases that Redis did not confirm.", &k.releasesFailed)
	counter("refreshes_total", "Explicit refreshes, failed ones included.", &k.refreshes)
	counter("refresh_errors_total", "Explicit refreshes that did not extend the lock.", &k.refreshesFailed)
	counter("renewals_total", "Automatic renewals, failed ones included.", &k.renewals)
	counter("renewal_errors_total", "Automatic renewals that failed.", &k.renewalsFailed)
	counter("hand_offs_total", "Releases that reserved the lock for a waiter.", &k.handOffs)
	gauge("held", "Locks held now.", func() float64 { return float64(m.keeper.count()) })
	gauge("waiting", "Callers that wait for a lock now.", func() float64 { return float64(k.waiting.Load()) })
	return c
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	ch <- c.tries
	ch <- c.lost
	for _, s := range c.series {
		ch <- s.desc
	}
	c.metrics.waitSeconds.Describe(ch)
	c.metrics.holdSeconds.Describe(ch)
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	count := func(d *prometheus.Desc, n *atomic.Int64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n.Load()), labels...)
	}
	for _, one := range c.metrics.all() {
		for i := range one.outcomes {
			count(c.tries, &one.outcomes[i], one.name, outcomeName(i))
		}
		for i := range one.losses {
			count(c.lost, &one.losses[i], one.name, lossName(i))
		}
	}
	for _, s := range c.series {
		ch <- prometheus.MustNewConstMetric(s.desc, s.kind, s.read())
	}
	c.metrics.waitSeconds.Collect(ch)
	c.metrics.holdSeconds.Collect(ch)
}
