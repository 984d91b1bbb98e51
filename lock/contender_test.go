package lock_test

import (
	"context"
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

// TestCallersOutlastAFailureBetweenTwoTurns: one of them has got the lock, and the ask for the next one fails.
func TestCallersOutlastAFailureBetweenTwoTurns(t *testing.T) {
	t.Parallel()
	server, holder := setup(t)
	client := newClient(t, server.Addr())
	var on atomic.Bool
	var refused atomic.Int64
	client.AddHook(readOnly{chosen: func(cmd redis.Cmder) bool {
		if !on.Load() || len(cmd.Args()) != 13 { // of all scripts, only the one for waiting has so many
			return false
		}
		refused.Add(1)
		return true
	}})
	m := newManager(t, client)
	l := acquire(t, holder, "job", longTTL)
	const waiting = 3
	got := make(chan *lock.RedisLock, waiting)
	for range waiting {
		go func() {
			w, err := m.AcquireWait(t.Context(), "job", longTTL)
			assert.NoError(t, err)
			got <- w
		}()
	}
	length := queueLength(t, server)
	require.Eventually(t, func() bool { return length() == 1 && m.GetMetrics().Waiting == waiting }, patience, tick)
	on.Store(true)
	require.NoError(t, l.Release(t.Context()))
	first := <-got
	require.NotNil(t, first)
	require.Eventually(t, func() bool { return refused.Load() > 4 }, patience, tick, "it goes on asking")
	require.Equal(t, waiting-1, m.GetMetrics().Waiting)
	on.Store(false)
	for range waiting - 1 {
		require.NoError(t, first.Release(t.Context()))
		first = <-got
		require.NotNil(t, first)
	}
}

// TestInboxBreaksWhileQueued: who cannot be told of a release any more asks for itself.
func TestInboxBreaksWhileQueued(t *testing.T) {
	t.Parallel()
	server, holder := setup(t)
	admin := server.Client(t)
	user := func(rules ...any) {
		t.Helper()
		require.NoError(t, admin.Do(t.Context(), append([]any{"acl", "setuser", "app"}, rules...)...).Err())
	}
	user("on", "nopass", "~*", "&*", "+@all")
	client := redis.NewClient(&redis.Options{Addr: server.Addr(), Username: "app", Password: "any", ContextTimeoutEnabled: true})
	t.Cleanup(func() { _ = client.Close() })
	m := newManager(t, client)
	l := acquire(t, holder, "job", longTTL)
	done := make(chan error, 1)
	go func() {
		done <- m.WithLock(t.Context(), "job", longTTL, func(context.Context, *lock.RedisLock) error { return nil })
	}()
	length := queueLength(t, server)
	require.Eventually(t, func() bool { return length() == 1 }, patience, tick)
	user("resetchannels")
	require.NoError(t, l.Release(t.Context()))
	require.Eventually(t, func() bool { return len(done) == 1 }, 5*time.Second, tick, "by itself it would have looked after ten")
	require.NoError(t, <-done)
}

// deadlines takes down until when scripts are waited for.
type deadlines struct {
	redistest.Hook

	seen chan time.Time
}

func (d *deadlines) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if end, ok := ctx.Deadline(); ok && strings.HasPrefix(cmd.Name(), "eval") {
			select {
			case d.seen <- end:
			default:
			}
		}
		return next(ctx, cmd)
	}
}

// TestDeadlineOfOneCaller: those who wait for the same resource in the same process ask as one. Who has come first must not
// end what the others wait for.
func TestDeadlineOfOneCaller(t *testing.T) {
	t.Parallel()
	server, holder := setup(t)
	client := newClient(t, server.Addr())
	m := newManager(t, client)
	for range 3 { // the node is near, so callers ask by themselves
		require.NoError(t, acquire(t, m, "job", longTTL).Release(t.Context()))
	}
	acquire(t, holder, "job", longTTL)
	calls := &deadlines{seen: make(chan time.Time, 1)}
	client.AddHook(calls)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := m.AcquireWait(ctx, "job", longTTL)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	end, _ := ctx.Deadline()
	require.Greater(t, <-calls.seen, end)
}
