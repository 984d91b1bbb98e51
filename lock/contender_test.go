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

// argsToWait is how many arguments the command has that runs the script for waiting, and no other.
const argsToWait = 14

// TestCallersOutlastAFailureBetweenTwoTurns: one of them has got the lock, and the ask for the next one fails.
func TestCallersOutlastAFailureBetweenTwoTurns(t *testing.T) {
	t.Parallel()
	server, holder := setup(t)
	client := newClient(t, server.Addr())
	var on atomic.Bool
	var queued atomic.Value // the name in the queue when it was turned on
	var refused atomic.Int64
	client.AddHook(readOnly{chosen: func(cmd redis.Cmder) bool {
		if len(cmd.Args()) != argsToWait {
			return false
		}
		// Who is queued may ask once more at any time. That must not fail, or it gives up its name and never gets the lock.
		name := cmd.Args()[10]
		if !on.Load() {
			queued.Store(name)
			return false
		}
		if name == queued.Load() {
			return false
		}
		refused.Add(1)
		return true
	}})
	m := newManager(t, client)
	l := acquire(t, holder, "job", longTTL)
	const waiting = 3
	got := make(chan lock.FencedLock, waiting)
	for range waiting {
		go func() {
			w, err := m.AcquireWait(t.Context(), "job", longTTL)
			assert.NoError(t, err)
			got <- w
		}()
	}
	next := func() lock.FencedLock {
		t.Helper()
		select {
		case w := <-got:
			require.NotNil(t, w)
			return w
		case <-time.After(patience):
			require.FailNow(t, "nobody got the lock")
			return nil
		}
	}
	length := queueLength(t, server)
	require.Eventually(t, func() bool { return length() == 1 && m.GetMetrics().Waiting == waiting }, patience, tick)
	on.Store(true)
	require.NoError(t, l.Release(t.Context()))
	first := next()
	require.Eventually(t, func() bool { return refused.Load() > 4 }, patience, tick, "it goes on asking")
	require.Equal(t, waiting-1, m.GetMetrics().Waiting)
	on.Store(false)
	for range waiting - 1 {
		require.NoError(t, first.Release(t.Context()))
		first = next()
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
		done <- m.WithLock(t.Context(), "job", longTTL, func(context.Context, lock.FencedLock) error { return nil })
	}()
	length := queueLength(t, server)
	require.Eventually(t, func() bool { return length() == 1 }, patience, tick)
	user("resetchannels")
	require.NoError(t, l.Release(t.Context()))
	require.Eventually(t, func() bool { return len(done) == 1 }, 5*time.Second, tick, "by itself it would have looked after ten")
	require.NoError(t, <-done)
}

// deadlines tells those whose context has a channel for it until when a script that they have asked for is waited for.
type deadlines struct{ redistest.Hook }

// seenKey is what the channel is found by.
type seenKey struct{}

func (deadlines) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		seen, asked := ctx.Value(seenKey{}).(chan time.Time)
		if end, ok := ctx.Deadline(); ok && asked && strings.HasPrefix(cmd.Name(), "eval") {
			select {
			case seen <- end:
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
	client.AddHook(deadlines{})
	m := newManager(t, client)
	acquire(t, holder, "job", longTTL)
	var seen, end time.Time
	require.Eventually(t, func() bool {
		calls := make(chan time.Time, 1)
		ctx, cancel := context.WithTimeout(context.WithValue(t.Context(), seenKey{}, calls), 100*time.Millisecond)
		defer cancel()
		_, err := m.AcquireWait(ctx, "job", longTTL)
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		end, _ = ctx.Deadline()
		select {
		case seen = <-calls:
			return true
		default: // the time was over before it asked
			return false
		}
	}, patience, tick)
	require.Greater(t, seen, end)
}
