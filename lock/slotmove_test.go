package lock_test

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/lock"
)

// another returns a master that does not have a key.
func another(t testing.TB, cluster *redistest.Cluster, key string) *redistest.Server {
	t.Helper()
	for _, node := range cluster.Nodes() {
		if node != cluster.MasterOf(t, key) {
			return node
		}
	}
	return nil
}

// TestRenewalsWhileTheirSlotMoves: a lock is renewed wherever its key is.
func TestRenewalsWhileTheirSlotMoves(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, 3)
	m := newManager(t, clusterClient(t, cluster))
	const key = "cache:lock:{job}"
	l := acquire(t, m, "job", 3*time.Second)
	halfWay := 0
	renewed := func() {
		halfWay++
		until := l.Until()
		require.Eventually(t, func() bool { return l.Until().After(until) }, patience, tick)
	}
	cluster.MoveSlot(t, key, another(t, cluster, key), renewed)
	assert.GreaterOrEqual(t, halfWay, 2, "with the key here and there")
	renewed()
	assert.True(t, l.IsHeld())
	require.NoError(t, l.Release(t.Context()))
	metrics := m.GetMetrics()
	assert.Zero(t, metrics.RenewalsFailed)
	assert.Zero(t, metrics.LostExpired+metrics.LostStolen)
	assert.Zero(t, clusterClient(t, cluster).Exists(t.Context(), key, key+":queue", key+":next").Val())
}

// TestLocksWhileTheirSlotMoves: while a slot moves its keys are on two masters, or torn apart, and scripts are sent back and
// forth. All callers get through: who tries, who waits, who releases, and renewals.
func TestLocksWhileTheirSlotMoves(t *testing.T) {
	t.Parallel()
	for name, halfWay := range map[string]time.Duration{
		"at once": 0, "slowly": 50 * time.Millisecond, "with breaks": 200 * time.Millisecond,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cluster := redistest.StartCluster(t, 3)
			managers := []*lock.RedisLockManager{
				newManager(t, clusterClient(t, cluster)), newManager(t, clusterClient(t, cluster)),
			}
			held := acquire(t, managers[0], "held", 6*time.Second)
			over := make(chan struct{})
			going := func() bool {
				select {
				case <-over:
					return false
				default:
					return true
				}
			}
			var all sync.WaitGroup
			var tried, waited atomic.Int64
			var mu sync.Mutex // guards last
			last := make(map[string]int64)
			tokens := func(resource string, token int64) {
				mu.Lock()
				defer mu.Unlock()
				assert.Greater(t, token, last[resource])
				last[resource] = token
			}
			all.Go(func() { // alone
				for going() {
					l, err := managers[1].TryAcquire(t.Context(), "tried", longTTL)
					if assert.NoError(t, err, "acquire") {
						tokens("tried", l.Token())
						assert.True(t, l.IsHeld())
						assert.NoError(t, l.Refresh(t.Context()), "refresh")
						assert.NoError(t, l.Release(t.Context()), "release")
						tried.Add(1)
					}
				}
			})
			for i := range 4 {
				all.Go(func() {
					for going() {
						l, err := managers[i%2].AcquireWait(t.Context(), "handed", longTTL)
						if assert.NoError(t, err, "wait") {
							tokens("handed", l.Token())
							assert.NoError(t, l.Release(t.Context()), "release of who has waited")
							waited.Add(1)
						}
					}
				})
			}
			key := func(resource string) string { return "cache:lock:{" + resource + "}" }
			for range 3 {
				for _, resource := range []string{"held", "tried", "handed"} {
					enough := tried.Load() + 5
					cluster.MoveSlot(t, key(resource), another(t, cluster, key(resource)), func() { hold(halfWay) })
					handed := waited.Load() + 5
					require.Eventually(t, func() bool { return tried.Load() > enough && waited.Load() > handed }, patience, tick)
				}
			}
			renewed := held.Until()
			require.Eventually(t, func() bool { return held.Until().After(renewed) }, patience, tick, "renewed where it is now")
			close(over)
			all.Wait()
			assert.True(t, held.IsHeld())
			require.NoError(t, held.Release(t.Context()))
			for i, m := range managers {
				metrics := m.GetMetrics()
				assert.Zero(t, metrics.LostExpired+metrics.LostStolen, i)
				t.Logf("%d: %d of %d renewals failed", i, metrics.RenewalsFailed, metrics.RenewalsTotal)
			}
			t.Logf("%d tried, %d waited", tried.Load(), waited.Load())
			rdb := clusterClient(t, cluster)
			for resource := range map[string]bool{"held": true, "tried": true, "handed": true} {
				k := key(resource)
				require.Eventually(t, func() bool {
					return rdb.Exists(t.Context(), k, k+":queue", k+":next").Val() == 0
				}, soon, tick, resource)
			}
		})
	}
}
