package lock_test

import (
	"context"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

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

// lostReply is a hook that loses the reply to one script when it is armed: the server has executed it, and the client waits
// until the test is over.
type lostReply struct {
	redistest.Hook

	armed      atomic.Bool
	lost, over chan struct{}
}

func (h *lostReply) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		losing := strings.HasPrefix(cmd.Name(), "eval") && h.armed.CompareAndSwap(true, false)
		err := next(ctx, cmd)
		if losing {
			close(h.lost)
			<-h.over
			err = io.EOF
			cmd.SetErr(err)
		}
		return err
	}
}

// TestLostReplyToAWaiter: whose client does not heed contexts. It asks again all the same.
func TestLostReplyToAWaiter(t *testing.T) {
	t.Parallel()
	server, near := setup(t)
	client, hook := newHeedlessClient(t, server.Addr()), &lostReply{lost: make(chan struct{}), over: make(chan struct{})}
	client.AddHook(hook)
	m := newManager(t, client)
	t.Cleanup(func() { close(hook.over) })
	l := acquire(t, near, "job", longTTL)
	done := make(chan error, 1)
	go func() {
		done <- m.WithLock(t.Context(), "job", longTTL, func(context.Context, lock.FencedLock) error { return nil })
	}()
	length := queueLength(t, server)
	require.Eventually(t, func() bool { return length() == 1 }, patience, tick)
	hook.armed.Store(true) // for the next try, which comes when this one has been answered: from then on failures pass
	wait(t, hook.lost, "it asks, in vain")
	require.NoError(t, l.Release(t.Context()))
	select {
	case err := <-done:
		require.NoError(t, err)
	case <-time.After(patience):
		require.FailNow(t, "it waits for the reply")
	}
}
