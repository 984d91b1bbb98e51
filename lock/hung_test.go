package lock_test

import (
	"context"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/faultproxy"
	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/lock"
)

// rate is what remains of a rate that was counted before something happened. Much less than what is promised, as a test
// shares its machine with others; what it would find costs far more.
const rate = 0.3

// window is for how long is counted.
const window = 2 * time.Second

// counted returns by how much a counter grows.
func counted(counter *atomic.Int64) int64 {
	before := counter.Load()
	hold(window)
	return counter.Load() - before
}

// TestHungMasterCostsNoLockElsewhere: of a cluster's masters one hangs, with many locks on it, whose renewals and callers
// wait. The locks on the others are kept, be they ever so short, and are acquired and released as before.
func TestHungMasterCostsNoLockElsewhere(t *testing.T) {
	t.Parallel()
	type result struct {
		lost int
		fast bool
	}
	undisturbed(t, result{0, true}, func() result {
		cluster := redistest.StartCluster(t, 3, redistest.WithConfig("cluster-require-full-coverage", "no"))
		m := newManager(t, clusterClient(t, cluster))
		hung := cluster.MasterOf(t, "cache:lock:{job 0}")
		var there, elsewhere []string
		for i := 0; len(there) < 40 || len(elsewhere) < 5+8; i++ {
			resource := "job " + strconv.Itoa(i)
			if cluster.MasterOf(t, "cache:lock:{"+resource+"}") == hung {
				there = append(there, resource)
			} else {
				elsewhere = append(elsewhere, resource)
			}
		}
		for _, resource := range there[:40] {
			acquire(t, m, resource, 20*time.Second)
		}
		var short []*lock.RedisLock
		for _, resource := range elsewhere[:5] {
			short = append(short, acquire(t, m, resource, 1500*time.Millisecond))
		}

		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		var cycles atomic.Int64
		for _, resource := range elsewhere[5:13] {
			all.Go(func() {
				for ctx.Err() == nil {
					l, err := m.Acquire(t.Context(), resource, longTTL)
					if assert.NoError(t, err) && assert.NoError(t, l.Release(t.Context())) {
						cycles.Add(1)
					}
				}
			})
		}
		before := counted(&cycles)
		hung.Stop()
		for _, resource := range there[:20] {
			all.Go(func() {
				for ctx.Err() == nil {
					_, err := m.Acquire(ctx, resource, longTTL)
					assert.Error(t, err)
				}
			})
		}
		// First grants are renewed after a third of ten seconds.
		require.Eventually(t, func() bool { return m.GetMetrics().RenewalsFailed > 0 }, patience, tick)
		after := counted(&cycles)
		r := result{fast: float64(after) >= rate*float64(before)}
		for _, l := range short {
			if !l.IsHeld() {
				r.lost++
			}
		}
		t.Logf("%d cycles, %d with one hung", before, after)
		cancel()
		hung.Continue()
		all.Wait()
		return r
	})
}

// TestBadMasterDoesNotSpoilCleaningUp: there is more to be removed from a master that hangs than is remembered. What an
// attempt of unknown fate has left on the others is removed as ever.
func TestBadMasterDoesNotSpoilCleaningUp(t *testing.T) {
	t.Parallel()
	servers := redistest.StartN(t, 3)
	proxies := []*faultproxy.Proxy{faultproxy.New(t, servers[0].Addr()), faultproxy.New(t, servers[1].Addr())}
	m := newManager(t, nil, lock.WithNodes(
		newClient(t, proxies[0].Addr()), newClient(t, proxies[1].Addr()), newClient(t, servers[2].Addr())))
	require.NoError(t, acquire(t, m, "warm", longTTL).Release(t.Context()))
	servers[2].Stop()
	defer servers[2].Continue()
	const workers, cycles = 32, 350 // 11,200 in all, more than the 10,000 that are remembered
	var all sync.WaitGroup
	for i := range workers {
		all.Go(func() {
			resource := "other " + strconv.Itoa(i)
			for range cycles {
				l, err := m.Acquire(t.Context(), resource, longTTL)
				if !assert.NoError(t, err) || !assert.NoError(t, l.Release(t.Context())) {
					return
				}
			}
		})
	}
	all.Wait()

	for _, p := range proxies {
		p.SwallowToClient(true)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	begin := time.Now()
	done := make(chan error, 1)
	go func() {
		_, err := m.Acquire(ctx, "job", time.Hour)
		done <- err
	}()
	everywhere(t, servers[:2], true)
	for _, p := range proxies {
		p.SwallowToServer(true) // nor can it be undone for now
	}
	require.ErrorIs(t, <-done, context.DeadlineExceeded)
	for _, s := range servers[:2] {
		require.NotEmpty(t, value(t, s))
		require.LessOrEqual(t, s.Client(t).PTTL(t.Context(), "cache:lock:{job}").Val(), 10*time.Second, "whatever happens")
	}
	for _, p := range proxies {
		p.SwallowToServer(false)
		p.SwallowToClient(false)
		p.Cut()
	}
	for _, s := range servers[:2] {
		require.Eventually(t, func() bool { return value(t, s) == "" }, soon-time.Since(begin), tick)
	}
}

// TestTenuresWithAHungMaster: one lock goes through six managers, whether or not one of three masters hangs.
func TestTenuresWithAHungMaster(t *testing.T) {
	t.Parallel()
	type result struct{ fast, prompt bool }
	undisturbed(t, result{true, true}, func() result {
		servers, manager := setupNodes(t)
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		var tenures atomic.Int64
		var mu sync.Mutex // guards longest
		var longest time.Duration
		for range 6 {
			m := manager()
			all.Go(func() {
				for ctx.Err() == nil {
					begin := time.Now()
					l, err := m.AcquireWait(ctx, "job", longTTL)
					if err != nil {
						assert.ErrorIs(t, err, context.Canceled)
						return
					}
					mu.Lock()
					longest = max(longest, time.Since(begin))
					mu.Unlock()
					tenures.Add(1)
					if err := l.Release(t.Context()); err != nil { // the master that hangs has been one of the majority
						assert.ErrorIs(t, err, lock.ErrRedis)
					}
				}
			})
		}
		require.Eventually(t, func() bool { return tenures.Load() > 10 }, patience, tick)
		before := counted(&tenures)
		mu.Lock()
		longest = 0
		mu.Unlock()
		servers[1].Stop()
		hold(time.Second)
		after := counted(&tenures)
		cancel()
		servers[1].Continue()
		all.Wait()
		t.Logf("%d tenures, %d with one hung, the longest wait %v", before, after, longest)
		return result{float64(after) >= rate*float64(before), longest < 3*time.Second}
	})
}

// TestSlowMasterWhoseTokenIsRaised: the masters give different tokens, and one of them is slow. The largest is written back,
// and the lock is granted.
func TestSlowMasterWhoseTokenIsRaised(t *testing.T) {
	t.Parallel()
	const rounds = 4
	for _, down := range []bool{false, true} {
		for slow := range 3 {
			t.Run("down "+strconv.FormatBool(down)+", slow "+strconv.Itoa(slow), func(t *testing.T) {
				t.Parallel()
				servers := redistest.StartN(t, 3)
				clients := make([]redis.UniversalClient, len(servers))
				for i, s := range servers {
					addr := s.Addr()
					if i == slow {
						p := faultproxy.New(t, addr)
						p.SetLatency(30 * time.Millisecond)
						addr = p.Addr()
					}
					clients[i] = newClient(t, addr)
				}
				asked := servers
				if down {
					servers[(slow+1)%3].Kill()
					asked = []*redistest.Server{servers[slow], servers[(slow+2)%3]}
				}
				m := newManager(t, nil, lock.WithNodes(clients...))
				var all sync.WaitGroup
				for _, fences := range [][]int64{{9, 9, 0}, {9, 0, 9}, {0, 9, 9}, {0, 0, 9}, {0, 9, 0}, {9, 0, 0}, {0, 5, 9}, {9, 5, 0}, {5, 9, 0}} {
					all.Go(func() {
						resource := "job"
						for _, fence := range fences {
							resource += itoa(fence)
						}
						last := int64(0)
						for round := range rounds {
							for i, s := range asked {
								fence := 1_000_000 + 100*int64(round) + fences[i]
								assert.NoError(t, s.Client(t).Set(t.Context(), "cache:lock:{"+resource+"}:fence", max(fence, last), 0).Err())
							}
							l, err := m.AcquireWait(t.Context(), resource, longTTL)
							if !assert.NoError(t, err, fences) {
								return
							}
							assert.Greater(t, l.Token(), last)
							last = l.Token()
							assert.NoError(t, l.Release(t.Context()))
						}
					})
				}
				all.Wait()
			})
		}
	}
}
