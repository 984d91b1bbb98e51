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
	// AcquisitionsTotal counts calls of Acquire, AcquireWait and WithLock with valid arguments, failed ones included.
	AcquisitionsTotal int64
	// AcquisitionsFailed counts those that got no lock.
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
	// HandOffs counts releases that passed the lock on to a waiter.
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
	c := m.metrics
	s := &LockMetrics{
		AcquisitionsRefused: c.outcomes[outcomeRefused].Load(),
		ReleasesTotal:       c.releases.Load(),
		ReleasesFailed:      c.releasesFailed.Load(),
		RefreshesTotal:      c.refreshes.Load(),
		RefreshesFailed:     c.refreshesFailed.Load(),
		RenewalsTotal:       c.renewals.Load() + c.renewalsFailed.Load(),
		RenewalsFailed:      c.renewalsFailed.Load(),
		LostExpired:         c.losses[lossExpired].Load(),
		LostStolen:          c.losses[lossStolen].Load(),
		LostClosed:          c.losses[lossClosed].Load(),
		HandOffs:            c.handOffs.Load(),
		Held:                m.held.len(),
		Waiting:             int(c.waiting.Load()),
	}
	for i := range c.outcomes {
		s.AcquisitionsTotal += c.outcomes[i].Load()
	}
	acquired := c.outcomes[outcomeAcquired].Load()
	s.AcquisitionsFailed = s.AcquisitionsTotal - acquired
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

func newMetrics(m *RedisLockManager) *metrics {
	histogram := func(name, help string) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "cache_lock_" + name, Help: help,
			// From less than a round trip on one machine to what is held through a job.
			Buckets:     []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 1800},
			ConstLabels: prometheus.Labels{"cache": m.set.name},
		})
	}
	return &metrics{
		waitSeconds: histogram("wait_seconds", "Time from the call to the lock, of successful acquisitions."),
		holdSeconds: histogram("hold_seconds", "Time from acquisition to release or loss."),
	}
}

// acquired counts an acquisition and the time it took.
func (c *metrics) acquired(took time.Duration) {
	c.outcomes[outcomeAcquired].Add(1)
	c.acquireTime.Add(int64(took))
	c.waitSeconds.Observe(took.Seconds())
}

// failed counts an acquisition that came to nothing.
func (c *metrics) failed(ctx context.Context, err error) {
	switch {
	case errors.Is(err, ErrLockNotAcquired):
		c.outcomes[outcomeRefused].Add(1)
	case ctx.Err() != nil && errors.Is(err, ctx.Err()), errors.Is(err, ErrManagerClosed):
		c.outcomes[outcomeCanceled].Add(1)
	default:
		c.outcomes[outcomeError].Add(1)
	}
}

// released counts a release.
func (c *metrics) released(err error, begin, acquired time.Time) {
	c.releases.Add(1)
	if err != nil {
		c.releasesFailed.Add(1)
	}
	c.holdSeconds.Observe(begin.Sub(acquired).Seconds())
}

// refreshed counts a Refresh.
func (c *metrics) refreshed(err error) {
	c.refreshes.Add(1)
	if err != nil {
		c.refreshesFailed.Add(1)
	}
}

// lost counts a loss.
func (c *metrics) lost(cause error, held time.Duration) {
	switch {
	case errors.Is(cause, ErrLockStolen):
		c.losses[lossStolen].Add(1)
	case errors.Is(cause, ErrManagerClosed):
		c.losses[lossClosed].Add(1)
	default:
		c.losses[lossExpired].Add(1)
	}
	c.holdSeconds.Observe(held.Seconds())
}
