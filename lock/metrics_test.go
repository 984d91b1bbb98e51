package lock_test

import (
	"context"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/lock"
)

func TestMetrics(t *testing.T) {
	t.Parallel()
	server, m := setup(t, lock.WithName("jobs"))
	other := newManager(t, newClient(t, server.Addr()), lock.WithName("other"))
	registry := prometheus.NewPedanticRegistry()
	require.NoError(t, registry.Register(m.Collector()))
	require.NoError(t, registry.Register(other.Collector()), "two managers in one registry")

	l := acquire(t, m, "job", longTTL)
	_, err := m.Acquire(t.Context(), "job", longTTL)
	require.ErrorIs(t, err, lock.ErrLockNotAcquired)
	require.NoError(t, l.Refresh(t.Context()))
	require.NoError(t, l.Release(t.Context()))
	require.Error(t, l.Release(t.Context()))
	held := acquire(t, m, "kept", longTTL)

	problems, err := testutil.GatherAndLint(registry)
	require.NoError(t, err)
	assert.Empty(t, problems)
	require.NoError(t, testutil.GatherAndCompare(registry, strings.NewReader(`
# HELP cache_lock_acquisitions_total Tries to acquire a lock, by outcome.
# TYPE cache_lock_acquisitions_total counter
cache_lock_acquisitions_total{cache="jobs",class="",outcome="acquired"} 2
cache_lock_acquisitions_total{cache="jobs",class="",outcome="canceled"} 0
cache_lock_acquisitions_total{cache="jobs",class="",outcome="error"} 0
cache_lock_acquisitions_total{cache="jobs",class="",outcome="refused"} 1
cache_lock_acquisitions_total{cache="other",class="",outcome="acquired"} 0
cache_lock_acquisitions_total{cache="other",class="",outcome="canceled"} 0
cache_lock_acquisitions_total{cache="other",class="",outcome="error"} 0
cache_lock_acquisitions_total{cache="other",class="",outcome="refused"} 0
# HELP cache_lock_held Locks held now.
# TYPE cache_lock_held gauge
cache_lock_held{cache="jobs"} 1
cache_lock_held{cache="other"} 0
`), "cache_lock_acquisitions_total", "cache_lock_held"))

	metrics := m.GetMetrics()
	assert.Equal(t, int64(2), metrics.AcquisitionsTotal)
	assert.Equal(t, int64(1), metrics.AcquisitionsFailed)
	assert.Equal(t, int64(1), metrics.ReleasesTotal)
	assert.Zero(t, metrics.ReleasesFailed)
	assert.Equal(t, int64(1), metrics.RefreshesTotal)
	assert.Zero(t, metrics.RefreshesFailed)
	assert.Equal(t, 1, metrics.Held)
	assert.Positive(t, metrics.AcquisitionTime)
	assert.Less(t, metrics.AcquisitionTime, time.Minute)
	assert.True(t, held.IsHeld())
}

func TestMetricsByClass(t *testing.T) {
	t.Parallel()
	_, m := setup(t, lock.WithClass("jobs"))
	invoices := m.With(lock.WithClass("invoices"), lock.WithOwner("me"))
	registry := prometheus.NewPedanticRegistry()
	require.NoError(t, registry.Register(m.Collector()))

	require.NoError(t, acquire(t, m, "a", longTTL).Release(t.Context()))
	ended, err := invoices.TryAcquire(t.Context(), "b", longTTL)
	require.NoError(t, err)
	_, err = invoices.Acquire(t.Context(), "b", longTTL)
	require.ErrorIs(t, err, lock.ErrLockNotAcquired)
	require.NoError(t, m.With(lock.WithHoldAtLeast(0)).WithLock(t.Context(), "c", longTTL,
		func(context.Context, lock.FencedLock) error { return nil }), "of the manager's class")
	require.NoError(t, m.With(lock.WithClass("")).WithLock(t.Context(), "d", longTTL,
		func(context.Context, lock.FencedLock) error { return nil }), "of none")
	require.NoError(t, m.Close(t.Context()))
	<-ended.Lost()

	require.NoError(t, testutil.GatherAndCompare(registry, strings.NewReader(`
# HELP cache_lock_acquisitions_total Tries to acquire a lock, by outcome.
# TYPE cache_lock_acquisitions_total counter
cache_lock_acquisitions_total{cache="default",class="",outcome="acquired"} 1
cache_lock_acquisitions_total{cache="default",class="",outcome="canceled"} 0
cache_lock_acquisitions_total{cache="default",class="",outcome="error"} 0
cache_lock_acquisitions_total{cache="default",class="",outcome="refused"} 0
cache_lock_acquisitions_total{cache="default",class="invoices",outcome="acquired"} 1
cache_lock_acquisitions_total{cache="default",class="invoices",outcome="canceled"} 0
cache_lock_acquisitions_total{cache="default",class="invoices",outcome="error"} 0
cache_lock_acquisitions_total{cache="default",class="invoices",outcome="refused"} 1
cache_lock_acquisitions_total{cache="default",class="jobs",outcome="acquired"} 2
cache_lock_acquisitions_total{cache="default",class="jobs",outcome="canceled"} 0
cache_lock_acquisitions_total{cache="default",class="jobs",outcome="error"} 0
cache_lock_acquisitions_total{cache="default",class="jobs",outcome="refused"} 0
# HELP cache_lock_lost_total Locks lost while held, by cause.
# TYPE cache_lock_lost_total counter
cache_lock_lost_total{cache="default",cause="closed",class=""} 0
cache_lock_lost_total{cache="default",cause="closed",class="invoices"} 1
cache_lock_lost_total{cache="default",cause="closed",class="jobs"} 0
cache_lock_lost_total{cache="default",cause="expired",class=""} 0
cache_lock_lost_total{cache="default",cause="expired",class="invoices"} 0
cache_lock_lost_total{cache="default",cause="expired",class="jobs"} 0
cache_lock_lost_total{cache="default",cause="stolen",class=""} 0
cache_lock_lost_total{cache="default",cause="stolen",class="invoices"} 0
cache_lock_lost_total{cache="default",cause="stolen",class="jobs"} 0
`), "cache_lock_acquisitions_total", "cache_lock_lost_total"))
	for _, name := range []string{"cache_lock_wait_seconds", "cache_lock_hold_seconds"} {
		assert.Equal(t, map[string]uint64{"": 1, "invoices": 1, "jobs": 2}, observed(t, registry, name), name)
	}
	metrics := m.GetMetrics()
	assert.Equal(t, int64(4), metrics.AcquisitionsTotal, "of all classes")
	assert.Equal(t, int64(1), metrics.AcquisitionsRefused)
	assert.Equal(t, int64(1), metrics.LostClosed)
}

// observed returns how often the classes of a histogram were observed.
func observed(t *testing.T, g prometheus.Gatherer, name string) map[string]uint64 {
	t.Helper()
	families, err := g.Gather()
	require.NoError(t, err)
	counts := make(map[string]uint64)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if f.GetName() == name && l.GetName() == "class" {
					counts[l.GetValue()] = m.GetHistogram().GetSampleCount()
				}
			}
		}
	}
	return counts
}

// Whatever classes somebody makes up, there is a limit to their number, and no lock is refused for it.
func TestClassesAreBounded(t *testing.T) {
	t.Parallel()
	_, m := setup(t)
	registry := prometheus.NewPedanticRegistry()
	require.NoError(t, registry.Register(m.Collector()))
	for i := range 200 {
		name := strconv.Itoa(i)
		l, err := m.With(lock.WithClass(name)).Acquire(t.Context(), name, longTTL)
		require.NoError(t, err)
		require.NoError(t, l.Release(t.Context()))
	}
	classes := observed(t, registry, "cache_lock_wait_seconds")
	assert.Len(t, classes, 51, "with the default and that of all others")
	assert.EqualValues(t, 1, classes["48"])
	assert.EqualValues(t, 151, classes["other"])
	assert.EqualValues(t, 200, m.GetMetrics().AcquisitionsTotal)
}

func TestClassesThatCannotBeShown(t *testing.T) {
	t.Parallel()
	server, m := setup(t)
	registry := prometheus.NewPedanticRegistry()
	require.NoError(t, registry.Register(m.Collector()))
	for _, name := range []string{strings.Repeat("x", 65), "a\xff"} {
		_, err := m.With(lock.WithClass(name)).Acquire(t.Context(), "job", longTTL)
		var bad *lock.ArgumentError
		require.ErrorAs(t, err, &bad)
		assert.Equal(t, "WithClass", bad.Argument)
		_, err = lock.NewRedisLockManager(newClient(t, server.Addr()), lock.WithClass(name))
		require.ErrorAs(t, err, &bad)
	}
	assert.Len(t, observed(t, registry, "cache_lock_wait_seconds"), 1)
	longest := strings.Repeat("x", 64)
	_, err := m.With(lock.WithClass(longest)).Acquire(t.Context(), "job", longTTL)
	require.NoError(t, err)
	assert.Contains(t, observed(t, registry, "cache_lock_wait_seconds"), longest)
}
