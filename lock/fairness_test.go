package lock_test

import (
	"context"
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

// TestPollersStarveNobodyWhoWaits: those who wait get the lock though others ask for it all the time, and the others get
// it when nobody waits.
func TestPollersStarveNobodyWhoWaits(t *testing.T) {
	t.Parallel()
	onOneAndThree(t, func(t *testing.T, count int) { //nolint:thelper // a test
		servers := redistest.StartN(t, count)
		ctx, cancel := context.WithCancel(t.Context())
		var polling, waiting sync.WaitGroup
		defer polling.Wait()
		defer cancel()
		var polled, holders atomic.Int64
		for range 2 {
			m := managerOn(t, clientsOf(t, servers))
			for range 3 {
				polling.Go(func() {
					for ctx.Err() == nil {
						l, err := m.TryAcquire(ctx, "job", longTTL)
						if err != nil {
							continue
						}
						polled.Add(1)
						assert.Equal(t, int64(1), holders.Add(1))
						hold(20 * time.Millisecond) // it is hardly ever free
						holders.Add(-1)
						_ = l.Release(ctx)
					}
				})
			}
		}
		require.Eventually(t, func() bool { return polled.Load() > 10 }, patience, tick)
		var mu sync.Mutex // guards longest
		var longest time.Duration
		const waiters, turns = 3, 30
		before := polled.Load()
		for range waiters {
			clients := make([]redis.UniversalClient, count)
			for i, s := range servers {
				far := faultproxy.New(t, s.Addr())
				far.SetLatency(10 * time.Millisecond) // whoever polls is always faster
				clients[i] = newClient(t, far.Addr())
			}
			m := managerOn(t, clients)
			waiting.Go(func() {
				for range turns / waiters {
					limit, end := context.WithTimeout(ctx, patience)
					begin := time.Now()
					l, err := m.AcquireWait(limit, "job", longTTL)
					took := time.Since(begin)
					end()
					if !assert.NoError(t, err) {
						return
					}
					mu.Lock()
					longest = max(longest, took)
					mu.Unlock()
					assert.Equal(t, int64(1), holders.Add(1))
					assert.NoError(t, l.Refresh(ctx))
					holders.Add(-1)
					assert.NoError(t, l.Release(ctx))
				}
			})
		}
		waiting.Wait()
		overtook := polled.Load() - before
		t.Logf("overtaken %d times in %d turns, waited for %v at most", overtook, turns, longest)
		assert.Less(t, overtook, int64(turns), "they get it only when nobody is in the queue")
		assert.Less(t, longest, 2*promptly)
		before = polled.Load()
		require.Eventually(t, func() bool { return polled.Load() > before+10 }, patience, tick, "nobody waits any more")
	})
}

// TestPollersDoNotGetAheadOfTheNext: who is first in the queue has a reservation, during which all others are refused.
func TestPollersDoNotGetAheadOfTheNext(t *testing.T) {
	t.Parallel()
	server, holder := setup(t)
	l := acquire(t, holder, "job", longTTL)
	far := faultproxy.New(t, server.Addr())
	got := waiting(t.Context(), t, newManager(t, newClient(t, far.Addr())))
	length := queueLength(t, server)
	require.Eventually(t, func() bool { return length() == 1 }, patience, tick)
	far.SetLatency(50 * time.Millisecond)
	require.NoError(t, l.Release(t.Context()))
	var next lock.FencedLock
	for next == nil {
		_, err := holder.Acquire(t.Context(), "job", longTTL)
		require.ErrorIs(t, err, lock.ErrLockNotAcquired)
		select {
		case next = <-got:
		default:
		}
	}
	require.NoError(t, next.Release(t.Context()))
}
