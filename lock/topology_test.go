package lock_test

import (
	"context"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/client"
	"github.com/compozy/cache/config"
	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/lock"
)

// failoverClient returns a client that follows the master.
func failoverClient(t testing.TB, s *redistest.Sentinel) *redis.Client {
	t.Helper()
	c := redis.NewFailoverClient(&redis.FailoverOptions{
		MasterName: s.MasterName(), SentinelAddrs: s.Addrs(), ContextTimeoutEnabled: true, MaxRetries: 10,
	})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestLocksAndQueueSurviveAFailover(t *testing.T) {
	t.Parallel()
	sentinel := redistest.StartSentinel(t)
	first := newManager(t, failoverClient(t, sentinel))
	second := newManager(t, failoverClient(t, sentinel))
	l := acquire(t, first, "job", longTTL)
	got := make(chan lock.FencedLock, 1)
	go func() {
		w, err := second.AcquireWait(context.Background(), "job", longTTL)
		if assert.NoError(t, err) {
			got <- w
		}
	}()
	length := queueLength(t, sentinel.Master())
	require.Eventually(t, func() bool { return length() == 1 }, patience, tick)
	sentinel.Failover(t)
	require.Eventually(t, func() bool { return l.Refresh(t.Context()) == nil }, patience, tick)
	assert.True(t, l.IsHeld())
	require.NoError(t, l.Release(t.Context()))
	select {
	case w := <-got:
		assert.Greater(t, w.Token(), l.Token())
		require.NoError(t, w.Release(t.Context()))
	case <-time.After(2 * patience):
		require.FailNow(t, "the waiter got lost in the failover")
	}
}

// TestFailoverCanLoseALock shows what asynchronous replication cannot promise: a replica that had not heard of a lock
// becomes master, and a second holder gets the lock while the first one still believes in it. What helps is that the
// token grows even so, and that the first one learns of it with its next renewal.
func TestFailoverCanLoseALock(t *testing.T) {
	t.Parallel()
	sentinel := redistest.StartSentinel(t)
	m := newManager(t, failoverClient(t, sentinel))
	// The replica stands still and its link is cut while the lock is taken, so it never hears of it.
	master, replica := sentinel.Master(), sentinel.Replica()
	replica.Stop()
	require.NoError(t, master.Client(t).Do(t.Context(), "CLIENT", "KILL", "TYPE", "replica").Err())
	l := acquire(t, m, "job", time.Minute)
	master.Kill()
	replica.Continue()
	promoted := replica.Client(t)
	require.Eventually(t, func() bool { return promoted.ReplicaOf(t.Context(), "NO", "ONE").Err() == nil }, patience, tick)

	other := newManager(t, newClient(t, replica.Addr()))
	second := acquire(t, other, "job", time.Minute)
	assert.True(t, l.IsHeld(), "two holders: this is what is not promised")
	assert.Greater(t, second.Token(), l.Token(), "but the fence tells them apart")
}

// clusterClient returns what applications of the module have: a cluster client inside another one.
func clusterClient(t testing.TB, c *redistest.Cluster) *client.Redis {
	t.Helper()
	r, err := client.NewRedis(t.Context(), &config.Config{Cluster: true, Addrs: c.Addrs()})
	require.NoError(t, err)
	t.Cleanup(func() { _ = r.Close() })
	return r
}

func TestCluster(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, 3)
	bare := redis.NewClusterClient(&redis.ClusterOptions{Addrs: cluster.Addrs(), ContextTimeoutEnabled: true})
	t.Cleanup(func() { _ = bare.Close() })
	first, second := newManager(t, bare), newManager(t, clusterClient(t, cluster))
	// Many resources, so that each node has some, and names that are hard for hash tags.
	resources := []string{"}", "{}", "a}b", "{a}{b}", "%", "}{"}
	for i := range 30 {
		resources = append(resources, "job "+strconv.Itoa(i))
	}
	var all sync.WaitGroup
	for _, resource := range resources {
		all.Go(func() {
			l, err := first.Acquire(t.Context(), resource, longTTL)
			if !assert.NoError(t, err, resource) {
				return
			}
			_, err = second.Acquire(t.Context(), resource, longTTL)
			assert.ErrorIs(t, err, lock.ErrLockNotAcquired, resource)
			done := make(chan lock.FencedLock, 1)
			go func() {
				w, err := second.AcquireWait(t.Context(), resource, longTTL)
				assert.NoError(t, err, resource)
				done <- w
			}()
			assert.NoError(t, l.Refresh(t.Context()))
			assert.NoError(t, l.Release(t.Context()))
			if w := <-done; assert.NotNil(t, w) {
				assert.Greater(t, w.Token(), concrete(t, l).Token())
				assert.NoError(t, w.Release(t.Context()))
			}
		})
	}
	all.Wait()
	// Renewed by pipelines that go to several nodes.
	untils := make(map[*lock.RedisLock]time.Time)
	for _, resource := range resources {
		l := acquire(t, first, resource, 6*time.Second)
		untils[l] = l.Until()
	}
	for l, until := range untils {
		require.Eventually(t, func() bool { return l.Until().After(until) }, patience, tick)
	}
	assert.Equal(t, len(resources), first.GetMetrics().Held)
	require.NoError(t, first.Close(t.Context()))
	for _, resource := range resources {
		acquire(t, second, resource, longTTL)
	}
}

// TestHandOffInACluster: the inbox of a waiter is on one node, the locks are on all of them. A node that counts its own
// listeners only must not take the waiters on other nodes for dead.
func TestHandOffInACluster(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, 3)
	rdb := clusterClient(t, cluster)
	holder, waiter := newManager(t, rdb), newManager(t, clusterClient(t, cluster))
	const resources = 12
	undisturbed(t, resources, func() int64 { // how many were told, none of them had to look by itself
		before := holder.GetMetrics().HandOffs
		for i := range resources {
			resource := "job " + strconv.Itoa(i)
			l := acquire(t, holder, resource, longTTL)
			done := make(chan lock.FencedLock, 1)
			go func() {
				w, err := waiter.AcquireWait(t.Context(), resource, longTTL)
				assert.NoError(t, err)
				done <- w
			}()
			require.Eventually(t, func() bool {
				return rdb.ZCard(t.Context(), "cache:lock:{"+resource+"}:queue").Val() == 1
			}, patience, tick)
			require.NoError(t, l.Release(t.Context()))
			w := <-done
			require.NotNil(t, w)
			assert.Greater(t, w.Token(), l.Token())
			require.NoError(t, w.Release(t.Context()))
		}
		return holder.GetMetrics().HandOffs - before
	})
}

// TestClusterFailoverDuringTraffic: the master of the lock changes, without a loss of data, while it goes from hand to hand;
// then it dies.
func TestClusterFailoverDuringTraffic(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, 3, redistest.WithReplicas(1))
	const key = "cache:lock:{job}"
	rdb := clusterClient(t, cluster)
	managers := []*lock.RedisLockManager{
		newManager(t, rdb), newManager(t, clusterClient(t, cluster)), newManager(t, clusterClient(t, cluster)),
	}
	goesOn := func() {
		acquired := func() (n int64) {
			for _, m := range managers {
				metrics := m.GetMetrics()
				n += metrics.AcquisitionsTotal - metrics.AcquisitionsFailed
			}
			return n
		}
		before := acquired()
		require.Eventually(t, func() bool { return acquired() > before+5 }, patience, tick)
	}
	runChaos(t, managers, time.Second, func() {
		goesOn()
		for range 2 { // there and back
			cluster.Failover(t, key)
			goesOn()
		}
	})
	require.Eventually(t, func() bool { return rdb.Exists(t.Context(), key, key+":queue", key+":next").Val() == 0 }, patience, tick)

	last := acquire(t, managers[0], "job", longTTL)
	require.NoError(t, last.Release(t.Context()))
	cluster.KillMasterOf(t, key)
	var next lock.Lock
	require.Eventually(t, func() bool {
		l, err := managers[1].Acquire(t.Context(), "job", longTTL)
		if err != nil {
			require.ErrorIs(t, err, lock.ErrRedis)
			return false
		}
		next = l
		return true
	}, patience, tick)
	assert.Greater(t, concrete(t, next).Token(), last.Token())
	require.NoError(t, next.Release(t.Context()))
}

// TestHungMasterOfACluster: the locks on the others are renewed as ever.
func TestHungMasterOfACluster(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, 3, redistest.WithConfig("cluster-require-full-coverage", "no"))
	m := newManager(t, clusterClient(t, cluster))
	hung := cluster.MasterOf(t, "cache:lock:{job 0}")
	const ttl = 6 * time.Second
	var sick, healthy []*lock.RedisLock
	for i := range 30 {
		resource := "job " + strconv.Itoa(i)
		l := acquire(t, m, resource, ttl)
		if cluster.MasterOf(t, "cache:lock:{"+resource+"}") == hung {
			sick = append(sick, l)
		} else {
			healthy = append(healthy, l)
		}
	}
	require.NotEmpty(t, healthy)
	hung.Stop()
	defer hung.Continue()
	for _, l := range sick {
		<-l.Lost()
	}
	end := time.Now().Add(ttl) // none of them can last so long without being renewed after the others were lost
	for _, l := range healthy {
		require.Eventually(t, func() bool { return !l.IsHeld() || l.Until().After(end) }, patience, tick)
		require.True(t, l.IsHeld(), l)
	}
}

// TestHungMasterHoldsUpNobodyElse: callers that keep asking a master which hangs fill its pipelines, and not those of the
// others, whose locks are acquired and released as ever.
func TestHungMasterHoldsUpNobodyElse(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, 3, redistest.WithConfig("cluster-require-full-coverage", "no"))
	m := newManager(t, clusterClient(t, cluster))
	hung := cluster.MasterOf(t, "cache:lock:{job 0}")
	var sick, healthy []string
	for i := range 30 {
		resource := "job " + strconv.Itoa(i)
		require.NoError(t, acquire(t, m, resource, longTTL).Release(t.Context()))
		if cluster.MasterOf(t, "cache:lock:{"+resource+"}") == hung {
			sick = append(sick, resource)
		} else {
			healthy = append(healthy, resource)
		}
	}
	hung.Stop()
	ctx, cancel := context.WithCancel(t.Context())
	var asking, working sync.WaitGroup
	for _, resource := range sick {
		for range 5 {
			asking.Go(func() {
				for ctx.Err() == nil {
					_, err := m.Acquire(ctx, resource, longTTL)
					assert.Error(t, err)
				}
			})
		}
	}
	require.Eventually(t, func() bool { // all have asked, and some in vain
		return m.GetMetrics().AcquisitionsFailed > 0
	}, patience, tick)
	limit, end := context.WithTimeout(t.Context(), patience)
	defer end()
	for _, resource := range healthy {
		working.Go(func() {
			for range 50 {
				l, err := m.Acquire(limit, resource, longTTL)
				if !assert.NoError(t, err, resource) || !assert.NoError(t, l.Release(limit)) {
					return
				}
			}
		})
	}
	working.Wait()
	cancel()
	asking.Wait()
	hung.Continue()
}
