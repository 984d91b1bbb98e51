package lock_test

import (
	"context"
	"math"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/faultproxy"
	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/lock"
)

// maxTTL is the longest Duration.
const maxTTL = time.Duration(math.MaxInt64)

// onOneAndThree runs a test on one server and on three masters.
func onOneAndThree(t *testing.T, test func(t *testing.T, count int)) {
	t.Helper()
	for name, count := range map[string]int{"one server": 1, "three masters": 3} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, count)
		})
	}
}

// managerOn returns a manager on one server or several.
func managerOn(t *testing.T, clients []redis.UniversalClient, opts ...lock.Option) *lock.RedisLockManager {
	t.Helper()
	if len(clients) == 1 {
		return newManager(t, clients[0], opts...)
	}
	return newManager(t, nil, append(opts, lock.WithNodes(clients...))...)
}

// clientsOf returns a client for each server.
func clientsOf(t *testing.T, servers []*redistest.Server) (clients []redis.UniversalClient) {
	t.Helper()
	for _, s := range servers {
		clients = append(clients, newClient(t, s.Addr()))
	}
	return clients
}

// warmUp has a manager open its connections, and load the scripts: what is sent from then on can be executed.
func warmUp(t *testing.T, m *lock.RedisLockManager) {
	t.Helper()
	require.NoError(t, acquire(t, m, "other", longTTL).Release(t.Context()))
	l, err := m.AcquireWait(t.Context(), "other", longTTL)
	require.NoError(t, err)
	require.NoError(t, l.Release(t.Context()))
}

// TestCommandHeldUpForSeconds: the network delivers it long after its caller was given an error and the cleaning up is
// over, the manager is closed even. What it leaves ends soon, however long the lock was to last.
func TestCommandHeldUpForSeconds(t *testing.T) {
	t.Parallel()
	ways := map[string]func(ctx context.Context, m *lock.RedisLockManager, resource string, ttl time.Duration) error{
		"Acquire": func(ctx context.Context, m *lock.RedisLockManager, resource string, ttl time.Duration) error {
			_, err := m.Acquire(ctx, resource, ttl)
			return err
		},
		"AcquireWait": func(ctx context.Context, m *lock.RedisLockManager, resource string, ttl time.Duration) error {
			_, err := m.AcquireWait(ctx, resource, ttl)
			return err
		},
		"without renewal": func(ctx context.Context, m *lock.RedisLockManager, resource string, ttl time.Duration) error {
			_, err := m.With(lock.WithRenewal(false), lock.WithHoldAtLeast(ttl)).TryAcquire(ctx, resource, ttl)
			return err
		},
	}
	onOneAndThree(t, func(t *testing.T, count int) { //nolint:thelper // a test
		servers := redistest.StartN(t, count)
		proxies := make([]*faultproxy.Proxy, count)
		for i, s := range servers {
			proxies[i] = faultproxy.New(t, s.Addr())
		}
		managers := make(map[string]*lock.RedisLockManager)
		ttls := []time.Duration{24 * time.Hour, maxTTL}
		var resources []string
		for way := range ways {
			for _, ttl := range ttls {
				clients := make([]redis.UniversalClient, count)
				for i, p := range proxies {
					clients[i] = single(t, p)
				}
				resource := way + " " + ttl.String()
				managers[resource] = managerOn(t, clients, lock.WithNodeTimeout(time.Second))
				warmUp(t, managers[resource])
				resources = append(resources, resource)
			}
		}
		lets := make([]func(), count)
		for i, p := range proxies {
			lets[i] = p.HoldToServer()
			p.Refuse(true)
		}
		var trying sync.WaitGroup
		for way, try := range ways {
			for _, ttl := range ttls {
				resource := way + " " + ttl.String()
				trying.Go(func() { assert.ErrorIs(t, try(t.Context(), managers[resource], resource, ttl), lock.ErrRedis) })
			}
		}
		trying.Wait()
		for _, p := range proxies {
			p.Refuse(false)
		}
		hold(4 * time.Second)
		for _, m := range managers {
			_ = m.Close(t.Context())
		}
		tokens := func(resource string) (count int) {
			for _, s := range servers {
				count += int(s.Client(t).Exists(t.Context(), "cache:lock:{"+resource+"}:fence").Val())
			}
			return count
		}
		for _, resource := range resources {
			require.Zero(t, tokens(resource))
		}
		for _, let := range lets {
			let()
		}
		for _, resource := range resources {
			// Two of three: the third may not have been asked for anything before, and then has no script to run.
			require.Eventually(t, func() bool { return tokens(resource) > count/2 }, patience, tick, "acquired for nobody")
			for _, s := range servers {
				left := s.Client(t).PTTL(t.Context(), "cache:lock:{"+resource+"}").Val()
				assert.LessOrEqual(t, left, 10*time.Second)
				assert.NotEqual(t, time.Duration(-1), left)
			}
		}
	})
}

// TestQuestionHeldUpForSeconds: that of a waiter, whose name is in the queue though nobody waits any more.
func TestQuestionHeldUpForSeconds(t *testing.T) {
	t.Parallel()
	server, holder := setup(t)
	proxy := faultproxy.New(t, server.Addr())
	m := newManager(t, single(t, proxy), lock.WithNodeTimeout(time.Second))
	warmUp(t, m)
	l := acquire(t, holder, "job", longTTL)
	let := proxy.HoldToServer()
	proxy.Refuse(true)
	_, err := m.AcquireWait(t.Context(), "job", maxTTL)
	require.ErrorIs(t, err, lock.ErrRedis)
	proxy.Refuse(false)
	require.NoError(t, m.Close(t.Context()))
	let()
	length := queueLength(t, server)
	require.Eventually(t, func() bool { return length() == 1 }, patience, tick)
	require.NoError(t, l.Release(t.Context()))
	begin := time.Now()
	next, err := holder.AcquireWait(t.Context(), "job", longTTL)
	require.NoError(t, err)
	assert.Less(t, time.Since(begin), 5*time.Second, "two, on a busy machine more")
	require.NoError(t, next.Release(t.Context()))
	require.Eventually(t, func() bool { return len(traces(t, server)) == 0 }, patience, tick)
}

// TestLongestTTLs go through all that can happen to a lock.
func TestLongestTTLs(t *testing.T) {
	t.Parallel()
	onOneAndThree(t, func(t *testing.T, count int) { //nolint:thelper // a test
		for _, ttl := range []time.Duration{24 * time.Hour, maxTTL} {
			t.Run(ttl.String(), func(t *testing.T) {
				t.Parallel()
				testLongTTL(t, count, ttl)
			})
		}
	})
}

func testLongTTL(t *testing.T, count int, ttl time.Duration) {
	t.Helper()
	servers := redistest.StartN(t, count)
	m := managerOn(t, clientsOf(t, servers), lock.WithNodeTimeout(patience))
	other := managerOn(t, clientsOf(t, servers), lock.WithNodeTimeout(patience))
	admin := servers[0].Client(t)
	left := func(resource string) time.Duration { return admin.PTTL(t.Context(), "cache:lock:{"+resource+"}").Val() }
	lasts := func(l *lock.RedisLock, resource string) {
		require.Eventually(t, func() bool { return left(resource) > ttl/2 }, patience, tick)
		assert.LessOrEqual(t, left(resource), ttl)
		require.Eventually(t, func() bool { return l.Until().After(time.Now().Add(ttl / 2)) }, patience, tick)
		assert.True(t, l.IsHeld())
	}
	begin := time.Now()
	views := map[string]lock.Locker{
		"plain": m, "max": m.With(lock.WithMaxHold(maxTTL)), "once": m.With(lock.WithRenewal(false)),
		"most": m.With(lock.WithMaxHold(maxTTL-1), lock.WithHoldAtLeast(time.Millisecond)),
	}
	renewed := make(map[string]*lock.RedisLock)
	for name, view := range views {
		l, err := view.TryAcquire(t.Context(), "renewed "+name, ttl)
		require.NoError(t, err)
		renewed[name] = concrete(t, l)
		if name != "once" { // it has been given its TTL at once
			assert.LessOrEqual(t, left("renewed "+name), 10*time.Second)
			assert.True(t, l.Until().Before(begin.Add(patience)))
		}
	}
	stolen := acquire(t, m, "stolen", ttl)
	for _, s := range servers {
		require.NoError(t, s.Client(t).Set(t.Context(), "cache:lock:{stolen}", "thief", 0).Err())
	}

	l := acquire(t, m, "refreshed", ttl)
	require.NoError(t, l.Refresh(t.Context()))
	lasts(l, "refreshed")
	_, err := other.Acquire(t.Context(), "refreshed", ttl)
	require.ErrorIs(t, err, lock.ErrLockNotAcquired)
	var refused *lock.NotAcquiredError
	require.ErrorAs(t, err, &refused)
	assert.Greater(t, refused.RetryAfter, ttl/2)
	done := make(chan error, 1)
	go func() {
		done <- other.WithLock(t.Context(), "refreshed", ttl, func(ctx context.Context, w lock.FencedLock) error {
			return w.Refresh(ctx)
		})
	}()
	require.Eventually(t, func() bool {
		return admin.ZCard(t.Context(), "cache:lock:{refreshed}:queue").Val() == 1
	}, patience, tick)
	require.NoError(t, l.Release(t.Context()))
	require.NoError(t, <-done)

	for name, l := range renewed { // of its own accord
		lasts(l, "renewed "+name)
	}
	wait(t, stolen.Lost(), "the next renewal")
	require.ErrorIs(t, stolen.Release(t.Context()), lock.ErrLockStolen)

	for _, s := range servers {
		require.NoError(t, s.Client(t).Del(t.Context(), "cache:lock:{renewed plain}").Err())
	}
	require.ErrorIs(t, renewed["plain"].Refresh(t.Context()), lock.ErrLockExpired)
	wait(t, renewed["plain"].Lost(), "what the refresh has found")

	require.NoError(t, m.Close(t.Context()))
	for _, s := range servers {
		for _, key := range s.Client(t).Keys(t.Context(), "cache:lock:{*}").Val() {
			assert.Equal(t, "cache:lock:{stolen}", key)
		}
	}
}

// TestFailedAttemptsWithLongestTTLsAreUndone: at once, when the server is back.
func TestFailedAttemptsWithLongestTTLsAreUndone(t *testing.T) {
	t.Parallel()
	onOneAndThree(t, func(t *testing.T, count int) { //nolint:thelper // a test
		servers := redistest.StartN(t, count)
		m := managerOn(t, clientsOf(t, servers), lock.WithNodeTimeout(200*time.Millisecond))
		warmUp(t, m)
		for _, s := range servers {
			s.Stop()
		}
		for _, ttl := range []time.Duration{time.Minute, 24 * time.Hour, maxTTL} {
			_, err := m.Acquire(t.Context(), "job", ttl)
			require.ErrorIs(t, err, lock.ErrRedis)
		}
		for _, s := range servers {
			s.Continue()
		}
		back := time.Now()
		require.Eventually(t, func() bool { // two of three, as above
			executed := 0
			for _, s := range servers {
				if s.Client(t).Exists(t.Context(), "cache:lock:{job}:fence").Val() == 1 {
					executed++
				}
			}
			return executed > count/2
		}, patience, tick)
		everywhere(t, servers, false)
		assert.Less(t, time.Since(back), 9*time.Second, "it did not have to expire")
	})
}
