package lock_test

import (
	"context"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/faultproxy"
	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/lock"
)

// newHeedlessClient returns a client that heeds no context, as go-redis' own default has it, and waits for longer than any
// test does.
func newHeedlessClient(t testing.TB, addr string) *redis.Client {
	t.Helper()
	c := redis.NewClient(&redis.Options{Addr: addr, ReadTimeout: 3 * patience})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// TestCallsReturnThoughTheClientDoesNot: the server hangs after it has been quick.
func TestCallsReturnThoughTheClientDoesNot(t *testing.T) {
	t.Parallel()
	for name, call := range map[string]func(context.Context, *lock.RedisLockManager, *lock.RedisLock) error{
		"acquire": func(ctx context.Context, m *lock.RedisLockManager, _ *lock.RedisLock) error {
			_, err := m.Acquire(ctx, "job", longTTL)
			return err
		},
		"wait": func(ctx context.Context, m *lock.RedisLockManager, _ *lock.RedisLock) error {
			_, err := m.AcquireWait(ctx, "job", longTTL)
			return err
		},
		"release": func(ctx context.Context, _ *lock.RedisLockManager, l *lock.RedisLock) error { return l.Release(ctx) },
		"refresh": func(ctx context.Context, _ *lock.RedisLockManager, l *lock.RedisLock) error { return l.Refresh(ctx) },
		"inspect": func(ctx context.Context, m *lock.RedisLockManager, _ *lock.RedisLock) error {
			_, err := m.Inspect(ctx, "job")
			return err
		},
		"health": func(ctx context.Context, m *lock.RedisLockManager, _ *lock.RedisLock) error {
			return m.HealthCheck(ctx)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t)
			m := newManager(t, newHeedlessClient(t, server.Addr()))
			for range 3 { // and now the caller could make the next call by itself
				require.NoError(t, acquire(t, m, "job", longTTL).Release(t.Context()))
			}
			held := acquire(t, m, "held", longTTL)
			server.Stop()
			defer server.Continue()
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			done := make(chan error, 1)
			go func() { done <- call(ctx, m, held) }()
			select {
			case err := <-done:
				assert.Error(t, err)
			case <-time.After(patience):
				assert.Fail(t, "it has not returned")
			}
		})
	}
}

// TestFirstCallReturnsThoughTheClientDoesNot: nobody knows yet which master of a cluster to ask, and none answers.
func TestFirstCallReturnsThoughTheClientDoesNot(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, 3)
	c := redis.NewClusterClient(&redis.ClusterOptions{Addrs: cluster.Addrs(), ReadTimeout: 3 * patience, MaxRetries: -1})
	m := newManager(t, c)
	for _, s := range cluster.Nodes() {
		s.Stop()
		t.Cleanup(s.Continue)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		_, err := m.Acquire(ctx, "job", longTTL)
		done <- err
	}()
	select {
	case err := <-done:
		assert.ErrorIs(t, err, context.DeadlineExceeded)
	case <-time.After(patience):
		assert.Fail(t, "it has not returned")
	}
	require.NoError(t, c.Close())
}

// TestLostReplyToAWaiter: whose client does not heed contexts. It asks again all the same.
func TestLostReplyToAWaiter(t *testing.T) {
	t.Parallel()
	server, near := setup(t)
	proxy := faultproxy.New(t, server.Addr())
	client := newHeedlessClient(t, proxy.Addr())
	m := newManager(t, client)
	require.Eventually(t, func() bool {
		w, err := m.AcquireWait(t.Context(), "job", longTTL)
		return err == nil && w.Release(t.Context()) == nil
	}, patience, tick)
	l, err := near.With(lock.WithRenewal(false)).Acquire(t.Context(), "job", longTTL) // so that only the waiter sends scripts
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() {
		done <- m.WithLock(t.Context(), "job", longTTL, func(context.Context, lock.FencedLock) error { return nil })
	}()
	length := queueLength(t, server)
	require.Eventually(t, func() bool { return length() == 1 }, patience, tick)
	asks := func() bool { return server.Commands(t)["evalsha"] > 0 }
	server.ResetCommands(t)
	require.Eventually(t, func() bool {
		stats := client.PoolStats()
		return asks() && stats.IdleConns == stats.TotalConns
	}, patience, tick, "it asks again, and has its answer: failures pass, and the next one needs no new connection")
	proxy.SwallowToClient(true)
	server.ResetCommands(t)
	require.Eventually(t, asks, patience, tick, "it asks, in vain")
	proxy.SwallowToClient(false)
	require.NoError(t, l.Release(t.Context()))
	select {
	case err := <-done:
		require.NoError(t, err)
	case <-time.After(patience):
		require.FailNow(t, "it waits for the reply")
	}
	proxy.Cut()
}
