package lock_test

import (
	"context"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/lock"
)

// faulty is a hook that panics whenever a script is run, or a server asked whether it lives, for a context that holds a
// channel: when that is closed.
type faulty struct{ redistest.Hook }

type faultKey struct{}

func (faulty) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if at, ok := ctx.Value(faultKey{}).(chan struct{}); ok && (cmd.Name() == "evalsha" || cmd.Name() == "ping") {
			<-at
			panic("the hook's own fault")
		}
		return next(ctx, cmd)
	}
}

// fault returns a context for which faulty panics at once.
func fault(ctx context.Context) context.Context {
	at := make(chan struct{})
	close(at)
	return context.WithValue(ctx, faultKey{}, at)
}

// faultyNodes returns servers with a manager whose clients have the hook, those from the given one on.
func faultyNodes(t *testing.T, count, from int, opts ...lock.Option) ([]*redistest.Server, *lock.RedisLockManager) {
	t.Helper()
	servers := redistest.StartN(t, count)
	clients := make([]redis.UniversalClient, count)
	for i, s := range servers {
		clients[i] = newClient(t, s.Addr())
		if i >= from {
			clients[i].AddHook(faulty{})
		}
	}
	return servers, newManager(t, nil, append(opts, lock.WithNodes(clients...))...)
}

// TestPanicReachesTheCaller: on one server and on three, whichever goroutine it is in, and nothing is lost by it.
func TestPanicReachesTheCaller(t *testing.T) {
	t.Parallel()
	for name, count := range map[string]int{"one server": 1, "three": 3} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			servers, m := faultyNodes(t, count, 0)
			held := acquire(t, m, "held", longTTL)
			for call, do := range map[string]func(context.Context){
				"acquire": func(ctx context.Context) { _, _ = m.Acquire(ctx, "job", longTTL) },
				"wait":    func(ctx context.Context) { _, _ = m.AcquireWait(ctx, "job", longTTL) },
				"refresh": func(ctx context.Context) { _ = held.Refresh(ctx) },
				"inspect": func(ctx context.Context) { _, _ = m.Inspect(ctx, "job") },
				"health":  func(ctx context.Context) { _ = m.HealthCheck(ctx) },
			} {
				func() {
					defer func() { assert.Contains(t, recover(), "the hook's own fault", call) }()
					do(fault(t.Context()))
				}()
			}
			require.True(t, held.IsHeld())
			assert.Panics(t, func() { _ = held.Release(fault(t.Context())) })
			require.NoError(t, held.Release(t.Context()), "it can be tried again")
			for _, s := range servers {
				length := queueLength(t, s)
				require.Eventually(t, func() bool { return length() == 0 }, patience, tick)
			}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			l, err := m.AcquireWait(ctx, "job", longTTL)
			require.NoError(t, err)
			require.NoError(t, l.Release(ctx))
		})
	}
}

// TestPanicOfOneCallerIsNotThatOfTheNext: they wait together.
func TestPanicOfOneCallerIsNotThatOfTheNext(t *testing.T) {
	t.Parallel()
	servers, m := faultyNodes(t, 1, 0)
	holder := newManager(t, newClient(t, servers[0].Addr()))
	l := acquire(t, holder, "job", longTTL)
	at := make(chan struct{})
	raised := make(chan any, 1)
	go func() {
		defer func() { raised <- recover() }()
		_, _ = m.AcquireWait(context.WithValue(t.Context(), faultKey{}, at), "job", longTTL)
	}()
	require.Eventually(t, func() bool { return m.GetMetrics().Waiting == 1 }, patience, tick)
	done := make(chan error, 1)
	go func() {
		done <- m.WithLock(t.Context(), "job", longTTL, func(context.Context, lock.FencedLock) error { return nil })
	}()
	require.Eventually(t, func() bool { return m.GetMetrics().Waiting == 2 }, patience, tick)
	close(at)
	require.Contains(t, <-raised, "the hook's own fault")
	require.NoError(t, l.Release(t.Context()))
	select {
	case err := <-done:
		require.NoError(t, err)
	case <-time.After(patience):
		require.FailNow(t, "it was never its turn")
	}
}

// TestPanicThatNobodyWaitsFor: of one of three, when the others have granted the lock.
func TestPanicThatNobodyWaitsFor(t *testing.T) {
	t.Parallel()
	core, logs := observer.New(zap.ErrorLevel)
	_, m := faultyNodes(t, 3, 2, lock.WithLogger(zap.New(core)))
	at := make(chan struct{})
	l, err := m.Acquire(context.WithValue(t.Context(), faultKey{}, at), "job", longTTL)
	close(at)
	require.NoError(t, err)
	require.Eventually(t, func() bool { return logs.FilterMessageSnippet("has panicked").Len() == 1 }, patience, tick)
	require.NoError(t, l.Release(t.Context()))
}
