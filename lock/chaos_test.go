package lock_test

import (
	"context"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/faultproxy"
	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/lock"
)

// work takes and gives back "job" until the time is over, and records when it held it.
func work(t testing.TB, m *lock.RedisLockManager, ttl time.Duration, h *history, over <-chan struct{}) {
	t.Helper()
	for {
		select {
		case <-over:
			return
		default:
		}
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		l, err := m.AcquireWait(ctx, "job", ttl)
		cancel()
		if err != nil {
			continue // the fault of the moment
		}
		entry := tenure{start: time.Now(), token: l.Token()}
		hold := time.NewTimer(rand.N(20 * time.Millisecond))
		if rand.N(10) == 0 {
			hold.Reset(ttl) // through some renewals
		}
		select {
		case <-hold.C:
			entry.end = time.Now()
			if !l.IsHeld() {
				entry.lost = true
			}
		case <-l.Lost():
			entry.end, entry.lost = time.Now(), true
		}
		hold.Stop()
		entry.until = l.Until()
		h.add(entry)
		_ = l.Release(context.Background())
	}
}

const (
	// enoughTenures is how often the lock must be held for a history to say something.
	enoughTenures = 6
	// chaosLimit is for a machine on which everything takes ten times as long.
	chaosLimit = time.Minute
)

// runChaos lets managers compete while faults happen, and checks the history. On a machine so busy that few tenures fit
// in between, the faults happen again until there are enough.
func runChaos(t *testing.T, managers []*lock.RedisLockManager, ttl time.Duration, faults func()) {
	t.Helper()
	var h history
	over := make(chan struct{})
	var all sync.WaitGroup
	for _, m := range managers {
		for range 2 {
			all.Go(func() { work(t, m, ttl, &h, over) })
		}
	}
	rounds := 0
	for begun := time.Now(); rounds == 0 || h.len() < enoughTenures && time.Since(begun) < chaosLimit; rounds++ {
		faults()
	}
	close(over)
	all.Wait()
	h.check(t)
	t.Logf("%d tenures, %d lost, in %d rounds of faults", len(h.all), h.lost, rounds)
	assert.GreaterOrEqual(t, len(h.all), enoughTenures, "the lock can be had between faults")
}

// hold is a pause between faults. It is bounded by the faults themselves; nothing is waited for.
func hold(d time.Duration) { <-time.After(d) }

func TestChaosOnOneServer(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	proxies := make([]*faultproxy.Proxy, 3)
	managers := make([]*lock.RedisLockManager, 3)
	for i := range managers {
		proxies[i] = faultproxy.New(t, server.Addr())
		managers[i] = newManager(t, newClient(t, proxies[i].Addr()))
	}
	const ttl = 2 * time.Second
	runChaos(t, managers, ttl, func() {
		for round := range 6 {
			p := proxies[rand.N(len(proxies))]
			switch round {
			case 0:
				p.Cut()
			case 1:
				p.DropReplies(3)
			case 2:
				p.SwallowToClient(true)
				hold(ttl / 2)
				p.SwallowToClient(false)
				p.Cut()
			case 3:
				p.SwallowToServer(true)
				hold(ttl)
				p.SwallowToServer(false)
				p.Cut()
			case 4:
				server.Stop()
				hold(ttl / 4)
				server.Continue()
			case 5:
				c := server.Client(t)
				_ = c.Do(t.Context(), "CLIENT", "PAUSE", "700", "ALL").Err()
			}
			hold(300 * time.Millisecond)
		}
	})
	require.Eventually(t, func() bool { return len(traces(t, server)) == 0 }, patience, tick)
}

func TestChaosOnThreeMasters(t *testing.T) {
	t.Parallel()
	servers, manager := setupNodes(t)
	managers := []*lock.RedisLockManager{manager(), manager(), manager()}
	const ttl = 2 * time.Second
	runChaos(t, managers, ttl, func() {
		for range 2 {
			for _, s := range servers {
				s.Stop()
				hold(200 * time.Millisecond)
				s.Continue()
				hold(100 * time.Millisecond)
			}
			s := servers[rand.N(len(servers))]
			s.Kill()
			hold(ttl) // Redlock's own rule: who has forgotten stays away for a TTL
			s.Restart()
			hold(200 * time.Millisecond)
		}
	})
	for _, s := range servers {
		require.Eventually(t, func() bool { return len(traces(t, s)) == 0 }, patience, tick)
	}
}

func TestCancelingAtAnyMomentLeavesNothing(t *testing.T) {
	t.Parallel()
	for name, wait := range map[string]bool{"acquire": false, "wait": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t)
			managers := []*lock.RedisLockManager{
				newManager(t, newClient(t, server.Addr())), newManager(t, newClient(t, server.Addr())),
			}
			var all sync.WaitGroup
			for i := range 8 {
				all.Go(func() {
					for range 60 {
						ctx, cancel := context.WithTimeout(context.Background(), rand.N(4*time.Millisecond))
						var l lock.Lock
						var err error
						if wait {
							l, err = managers[i%2].AcquireWait(ctx, "job", longTTL)
						} else {
							l, err = managers[i%2].Acquire(ctx, "job", longTTL)
						}
						if err == nil {
							assert.NoError(t, l.Release(ctx))
						}
						cancel()
					}
				})
			}
			all.Wait()
			require.Eventually(t, func() bool { return len(traces(t, server)) == 0 }, patience, tick)
			require.Eventually(t, func() bool { // the last try may have come since, to be undone
				_, err := managers[0].Acquire(t.Context(), "job", longTTL)
				return err == nil
			}, patience, tick)
		})
	}
}

// TestOneProcessorUnderLoad: the renewal of a lock must not starve when the process is busy.
//
//nolint:paralleltest // GOMAXPROCS concerns the whole process
func TestOneProcessorUnderLoad(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	_, m := setup(t)
	// The renewal is due after a third. The rest is for a machine on which others are busy as well.
	l := acquire(t, m, "job", 10*time.Second)
	over := make(chan struct{})
	var all sync.WaitGroup
	defer func() {
		close(over)
		all.Wait()
	}()
	for range 4 {
		all.Go(func() {
			for n := 1; ; n++ {
				select {
				case <-over:
					return
				default:
				}
				for range 10_000 {
					n += n * n
				}
			}
		})
	}
	until := l.Until()
	require.Eventually(t, func() bool { return l.Until().After(until.Add(time.Second)) }, patience, 50*time.Millisecond)
	assert.True(t, l.IsHeld())
	require.NoError(t, l.Release(t.Context()))
}

func TestTenThousandLocks(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client, trips := newClient(t, server.Addr()), newRoundTrips()
	client.AddHook(trips)
	m := newManager(t, client)
	warm := acquire(t, m, "warm", longTTL)
	before := runtime.NumGoroutine()
	const locks, ttl = 10_000, 15 * time.Second
	var all sync.WaitGroup
	for i := range 50 {
		all.Go(func() {
			for j := range locks / 50 {
				_, err := m.Acquire(t.Context(), "job "+itoa(int64(i*locks+j)), ttl)
				assert.NoError(t, err)
			}
		})
	}
	all.Wait()
	trips.count.Store(0)
	require.Eventually(t, func() bool { return m.GetMetrics().RenewalsTotal >= locks }, patience, tick)
	assert.Less(t, trips.count.Load(), int64(locks/10), "they travel together")
	assert.Less(t, runtime.NumGoroutine(), before+locks/4, "no goroutine for each lock; other tests run too")
	assert.Zero(t, m.GetMetrics().LostExpired)
	assert.Equal(t, locks+1, m.GetMetrics().Held)
	assert.True(t, warm.IsHeld())
}
