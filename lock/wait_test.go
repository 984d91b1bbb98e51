package lock_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/embedded"
	"github.com/compozy/cache/internal/faultproxy"
	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/lock"
)

// queueLength returns how many waiters for "job" a server knows.
func queueLength(t testing.TB, server *redistest.Server) func() int64 {
	t.Helper()
	client := server.Client(t)
	return func() int64 { return client.ZCard(t.Context(), "cache:lock:{job}:queue").Val() }
}

// traces returns the keys of "job" that must not outlive its users.
func traces(t testing.TB, server *redistest.Server) []string {
	t.Helper()
	client := server.Client(t)
	var left []string
	for _, suffix := range []string{"", ":queue", ":next"} {
		key := "cache:lock:{job}" + suffix
		if client.Exists(t.Context(), key).Val() > 0 {
			left = append(left, key)
		}
	}
	return left
}

func TestWaitersAreServedInOrderAcrossManagers(t *testing.T) {
	t.Parallel()
	type service struct {
		order    []int
		woken    bool // rather than polling
		handOffs int64
		rising   bool // the tokens
		traces   int
	}
	const waiting = 8
	want := service{order: []int{0, 1, 2, 3, 4, 5, 6, 7}, woken: true, handOffs: waiting, rising: true}
	undisturbed(t, want, func() (got service) { // who does not confirm the lock in the time of a grant is passed over
		server, holder := setup(t)
		l := acquire(t, holder, "job", longTTL)
		length := queueLength(t, server)
		managers := []*lock.RedisLockManager{holder}
		var mu sync.Mutex
		tokens := []int64{l.Token()}
		var all sync.WaitGroup
		for i := range waiting {
			m := newManager(t, newClient(t, server.Addr()))
			managers = append(managers, m)
			all.Go(func() {
				w, err := m.AcquireWait(t.Context(), "job", longTTL)
				if !assert.NoError(t, err) {
					return
				}
				mu.Lock()
				got.order, tokens = append(got.order, i), append(tokens, w.Token())
				mu.Unlock()
				assert.NoError(t, w.Release(t.Context()))
			})
			require.Eventually(t, func() bool { return length() == int64(i+1) }, patience, tick)
		}
		begin := time.Now()
		require.NoError(t, l.Release(t.Context()))
		all.Wait()
		got.woken = time.Since(begin) < 5*time.Second
		for _, m := range managers {
			got.handOffs += m.GetMetrics().HandOffs
		}
		got.traces = len(traces(t, server))
		got.rising = slices.IsSorted(tokens)
		return got
	})
}

func TestWaitersOfOneProcessTakeTurns(t *testing.T) {
	t.Parallel()
	server, m := setup(t)
	l := acquire(t, m, "job", longTTL)
	var all sync.WaitGroup
	var held atomic.Int32
	for range 20 {
		all.Go(func() {
			got, err := m.AcquireWait(t.Context(), "job", time.Minute)
			if !assert.NoError(t, err) {
				return
			}
			assert.Equal(t, int32(1), held.Add(1))
			assert.NoError(t, got.Refresh(t.Context())) // a while
			assert.Equal(t, int32(0), held.Add(-1))
			assert.NoError(t, got.Release(t.Context()))
		})
	}
	require.Eventually(t, func() bool { return m.GetMetrics().Waiting == 20 }, patience, tick)
	length := queueLength(t, server)
	require.Eventually(t, func() bool { return length() == 1 }, patience, tick, "one waiter in Redis for all")
	require.NoError(t, l.Release(t.Context()))
	all.Wait()
	require.Eventually(t, func() bool { return len(traces(t, server)) == 0 }, patience, tick)
}

func TestCallersOfOneProcessAreServedInOrder(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, _ *embedded.Server, client *redis.Client) { //nolint:thelper // a test
		m, err := lock.NewRedisLockManager(client)
		require.NoError(t, err)
		defer func() { _ = m.Close(t.Context()) }()
		l := acquire(t, m, "job", longTTL)
		const waiting = 10
		served := make(chan int, waiting)
		for i := range waiting {
			go func() {
				assert.NoError(t, m.WithLock(t.Context(), "job", longTTL, func(context.Context, lock.FencedLock) error {
					served <- i
					return nil
				}))
			}()
			time.Sleep(10 * time.Millisecond) // in a bubble: it waits
		}
		require.NoError(t, l.Release(t.Context()))
		for i := range waiting {
			require.Equal(t, i, <-served)
		}
		time.Sleep(10 * time.Millisecond) // in a bubble: all have released
	})
}

func TestCommandsPerHandOff(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	const managers, rounds = 20, 5
	var all sync.WaitGroup
	start := make(chan struct{})
	warm := make(chan struct{}, managers)
	for range managers {
		m := newManager(t, newClient(t, server.Addr()))
		all.Go(func() {
			for round := range rounds + 1 {
				if round == 1 {
					warm <- struct{}{}
					<-start
				}
				got, err := m.AcquireWait(t.Context(), "job", longTTL)
				if !assert.NoError(t, err) {
					return
				}
				assert.NoError(t, got.Release(t.Context()))
			}
		})
	}
	for range managers {
		<-warm
	}
	server.ResetCommands(t)
	close(start)
	all.Wait()
	counts := server.Commands(t)
	perHandOff := float64(counts["evalsha"]+counts["eval"]) / (managers * rounds)
	t.Logf("%.2f scripts per hand-off", perHandOff)
	assert.LessOrEqual(t, perHandOff, 3.0)
}

func TestWaitingEndsWithTheContextAndLeavesNothing(t *testing.T) {
	t.Parallel()
	server, holder := setup(t)
	other := newManager(t, newClient(t, server.Addr()))
	l := acquire(t, holder, "job", longTTL)
	length := queueLength(t, server)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := other.AcquireWait(ctx, "job", longTTL)
		done <- err
	}()
	require.Eventually(t, func() bool { return length() == 1 }, patience, tick)
	cancel()
	err := <-done
	require.ErrorIs(t, err, context.Canceled)
	require.NotErrorIs(t, err, lock.ErrLockNotAcquired)
	require.Eventually(t, func() bool { return length() == 0 }, patience/2, tick, "before it goes with its TTL")
	require.NoError(t, other.Close(t.Context())) // an ask that was under way is over, and was undone
	require.NoError(t, l.Release(t.Context()))
	assert.Empty(t, traces(t, server))
	assert.Zero(t, holder.GetMetrics().HandOffs)
}

func TestCloseWakesWaiters(t *testing.T) {
	t.Parallel()
	undisturbed(t, 0, func() int64 { // who is left in the queue: Close gives it a moment only to take its waiters off
		server, holder := setup(t)
		other := newManager(t, newClient(t, server.Addr()))
		acquire(t, holder, "job", longTTL)
		done := make(chan error, 3)
		for range 3 {
			go func() {
				_, err := other.AcquireWait(t.Context(), "job", longTTL)
				done <- err
			}()
		}
		length := queueLength(t, server)
		require.Eventually(t, func() bool { return length() == 1 && other.GetMetrics().Waiting == 3 }, patience, tick)
		require.NoError(t, other.Close(t.Context()))
		for range 3 {
			require.ErrorIs(t, <-done, lock.ErrManagerClosed)
		}
		return length()
	})
}

// TestDeadWaiterCostsAReservation: a waiter whose process was killed is in the queue still. The next one has the lock when
// the reservation has ended.
func TestDeadWaiterCostsAReservation(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, _ *embedded.Server, client *redis.Client) { //nolint:thelper // a test
		holder, err := lock.NewRedisLockManager(client)
		require.NoError(t, err)
		defer func() { _ = holder.Close(t.Context()) }()
		l := acquire(t, holder, "job", longTTL)
		require.NoError(t, client.ZAdd(t.Context(), "cache:lock:{job}:queue", z(1, "dead:1")).Err())
		done := make(chan error, 1)
		go func() {
			done <- holder.WithLock(t.Context(), "job", longTTL, func(context.Context, lock.FencedLock) error { return nil })
		}()
		time.Sleep(10 * time.Millisecond) // in a bubble: it waits
		start := time.Now()
		require.NoError(t, l.Release(t.Context()))
		_, err = holder.Acquire(t.Context(), "job", longTTL)
		require.ErrorIs(t, err, lock.ErrLockNotAcquired, "it is reserved")
		require.NoError(t, <-done)
		assert.InDelta(t, 1.7, time.Since(start).Seconds(), .2)
	})
}

// TestVanishedWaiterCostsTheOthersAGrant: the lock is passed on to a waiter whom the server believes to be there, though
// its machine is gone; the next one does not wait for longer than the grant.
func TestVanishedWaiterCostsTheOthersAGrant(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	holder := newUnhurriedManager(t, server)
	proxy := faultproxy.New(t, server.Addr())
	vanished := newManager(t, newClient(t, proxy.Addr()))
	next := newManager(t, newClient(t, server.Addr()))
	l := acquire(t, holder, "job", longTTL)
	length := queueLength(t, server)

	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()
	all.Go(func() {
		_, err := vanished.AcquireWait(ctx, "job", longTTL)
		assert.ErrorIs(t, err, context.Canceled)
	})
	require.Eventually(t, func() bool { return length() == 1 }, patience, tick)
	got := make(chan lock.FencedLock, 1)
	all.Go(func() {
		w, err := next.AcquireWait(t.Context(), "job", longTTL)
		assert.NoError(t, err)
		got <- w
	})
	require.Eventually(t, func() bool { return length() == 2 }, patience, tick)
	proxy.SwallowToClient(true)
	proxy.SwallowToServer(true)

	begin := time.Now()
	require.NoError(t, l.Release(t.Context()))
	w := <-got
	require.NotNil(t, w)
	assert.Less(t, time.Since(begin), 5*time.Second, "two seconds, on a busy machine more")
	assert.Greater(t, w.Token(), l.Token())
	assert.Equal(t, int64(1), holder.GetMetrics().HandOffs)
}

func TestDeadHolderIsFollowedByTheFirstWaiter(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, _ *embedded.Server, client *redis.Client) { //nolint:thelper // a test
		start := time.Now()
		const left = 3 * time.Second
		require.NoError(t, client.Set(t.Context(), "cache:lock:{job}", "killed process", left).Err())
		const waiting = 4
		served := make(chan int, waiting)
		for i := range waiting {
			m, err := lock.NewRedisLockManager(client)
			require.NoError(t, err)
			defer func() { _ = m.Close(t.Context()) }()
			go func() {
				assert.NoError(t, m.WithLock(t.Context(), "job", longTTL, func(context.Context, lock.FencedLock) error {
					served <- i
					return nil
				}))
			}()
			time.Sleep(10 * time.Millisecond) // in a bubble: it waits
		}
		assert.EqualValues(t, waiting, client.ZCard(t.Context(), "cache:lock:{job}:queue").Val())
		assert.Equal(t, "killed process", client.Get(t.Context(), "cache:lock:{job}").Val(), "not ours to change")
		for i := range waiting {
			require.Equal(t, i, <-served)
		}
		assert.GreaterOrEqual(t, time.Since(start), left)
		assert.Less(t, time.Since(start), left+time.Second)
		time.Sleep(10 * time.Millisecond) // in a bubble: all have released
	})
}

func TestWithLock(t *testing.T) {
	t.Parallel()
	server, m := setup(t)
	err := m.WithLock(t.Context(), "job", longTTL, func(ctx context.Context, l lock.FencedLock) error {
		assert.True(t, l.IsHeld())
		assert.NoError(t, ctx.Err())
		_, err := m.Acquire(ctx, "job", longTTL)
		return err
	})
	require.ErrorIs(t, err, lock.ErrLockNotAcquired, "the function's error comes back")
	assert.Empty(t, traces(t, server))

	err = m.WithLock(t.Context(), "job", 2*time.Second, func(ctx context.Context, _ lock.FencedLock) error {
		if err := server.Client(t).FlushAll(ctx).Err(); err != nil {
			return err
		}
		<-ctx.Done()
		return fmt.Errorf("stopped: %w", context.Cause(ctx))
	})
	require.ErrorIs(t, err, lock.ErrLockExpired)

	assert.Panics(t, func() {
		_ = m.WithLock(t.Context(), "job", longTTL, func(context.Context, lock.FencedLock) error { panic("bug") })
	})
	assert.Empty(t, traces(t, server), "released by a panic too")
}
