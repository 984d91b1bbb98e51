package lock_test

import (
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
cache_lock_acquisitions_total{cache="jobs",outcome="acquired"} 2
cache_lock_acquisitions_total{cache="jobs",outcome="canceled"} 0
cache_lock_acquisitions_total{cache="jobs",outcome="error"} 0
cache_lock_acquisitions_total{cache="jobs",outcome="refused"} 1
cache_lock_acquisitions_total{cache="other",outcome="acquired"} 0
cache_lock_acquisitions_total{cache="other",outcome="canceled"} 0
cache_lock_acquisitions_total{cache="other",outcome="error"} 0
cache_lock_acquisitions_total{cache="other",outcome="refused"} 0
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
