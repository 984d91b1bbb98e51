package lock_test

import (
	"context"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"weak"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/compozy/cache/internal/faultproxy"
	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/lock"
)

func itoa(n int64) string { return strconv.FormatInt(n, 10) }

func TestReleaseAfterTheContextHasEnded(t *testing.T) {
	t.Parallel()
	server, m := setup(t)
	ctx, cancel := context.WithCancel(t.Context())
	l, err := m.Acquire(ctx, "job", longTTL)
	require.NoError(t, err)
	cancel()
	assert.True(t, l.IsHeld(), "the acquiring context does not end the lock")
	require.NoError(t, l.Release(ctx))
	assert.Zero(t, server.Client(t).Exists(t.Context(), "cache:lock:{job}").Val())
}

func TestReleaseDeletesOnlyItsOwnValue(t *testing.T) {
	t.Parallel()
	server, m := setup(t)
	client := server.Client(t)
	l := acquire(t, m, "job", longTTL)
	require.NoError(t, client.Set(t.Context(), "cache:lock:{job}", "somebody else", 0).Err())
	err := l.Release(t.Context())
	require.ErrorIs(t, err, lock.ErrLockNotHeld)
	require.ErrorIs(t, err, lock.ErrLockStolen)
	assert.Equal(t, "somebody else", client.Get(t.Context(), "cache:lock:{job}").Val())

	l = acquire(t, m, "gone", longTTL)
	require.NoError(t, client.Del(t.Context(), "cache:lock:{gone}").Err())
	err = l.Release(t.Context())
	require.ErrorIs(t, err, lock.ErrLockNotHeld)
	require.ErrorIs(t, err, lock.ErrLockExpired)
}

func TestLostReplyOfReleaseIsNoExpiry(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	proxy := faultproxy.New(t, server.Addr())
	m := newManager(t, newClient(t, proxy.Addr()))
	for range 3 {
		l := acquire(t, m, "job", longTTL)
		proxy.DropReplies(1)
		require.NoError(t, l.Release(t.Context()))
		require.ErrorIs(t, l.Release(t.Context()), lock.ErrLockNotHeld)
	}
	assert.Zero(t, server.Client(t).Exists(t.Context(), "cache:lock:{job}").Val())
}

// readOnly answers, as a replica does, those of the commands that a client sends one by one which are chosen.
type readOnly struct {
	redistest.Hook

	chosen func(redis.Cmder) bool
}

// readOnlyError is its answer.
type readOnlyError struct{}

// Error implements error.
func (readOnlyError) Error() string { return "READONLY You can't write against a read only replica." }

// RedisError implements redis.Error.
func (readOnlyError) RedisError() {}

func (h readOnly) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if h.chosen(cmd) {
			cmd.SetErr(readOnlyError{})
			return readOnlyError{}
		}
		return next(ctx, cmd)
	}
}

// TestRefusedTryOfReleaseHidesNoTheft: a try that was refused has released nothing, so it does not explain what the next
// one finds.
func TestRefusedTryOfReleaseHidesNoTheft(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client := newClient(t, server.Addr())
	var refuse atomic.Bool
	client.AddHook(readOnly{chosen: func(cmd redis.Cmder) bool {
		return strings.HasPrefix(cmd.Name(), "eval") && refuse.Swap(false) // not what a new connection begins with
	}})
	m := newManager(t, client)
	l := acquire(t, m, "job", longTTL)
	require.NoError(t, server.Client(t).Set(t.Context(), "cache:lock:{job}", "somebody else", 0).Err())
	refuse.Store(true)
	require.ErrorIs(t, l.Release(t.Context()), lock.ErrLockStolen)
	require.False(t, refuse.Load(), "it was refused once")
}

func TestReleaseCanBeRepeatedAfterRedisFailed(t *testing.T) {
	t.Parallel()
	server, m := setup(t, lock.WithNodeTimeout(time.Second))
	l := acquire(t, m, "job", longTTL)
	server.Stop()
	require.ErrorIs(t, l.Release(t.Context()), lock.ErrRedis)
	assert.False(t, l.IsHeld())
	server.Continue()
	require.Eventually(t, func() bool { return l.Release(t.Context()) == nil }, patience, tick)
	assert.Zero(t, server.Client(t).Exists(t.Context(), "cache:lock:{job}").Val())
	require.ErrorIs(t, l.Release(t.Context()), lock.ErrLockNotHeld)
}

func TestCloseReleasesAllAndTells(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client, trips := newClient(t, server.Addr()), newRoundTrips()
	client.AddHook(trips)
	m := newManager(t, client)
	locks := make([]*lock.RedisLock, 1200)
	for i := range locks {
		locks[i] = acquire(t, m, "job "+strconv.Itoa(i), longTTL)
	}
	assert.Equal(t, len(locks), m.GetMetrics().Held)
	trips.count.Store(0)
	require.NoError(t, m.Close(t.Context()))
	assert.LessOrEqual(t, trips.count.Load(), int64(6), "five hundred are released at once, and the script was unknown")
	require.NoError(t, m.Close(t.Context()), "again")
	for _, l := range locks {
		wait(t, l.Lost(), "loss")
		require.ErrorIs(t, context.Cause(l.Context()), lock.ErrManagerClosed)
		require.ErrorIs(t, l.Release(t.Context()), lock.ErrManagerClosed)
		require.ErrorIs(t, l.Release(t.Context()), lock.ErrLockNotHeld)
		assert.False(t, l.IsHeld())
	}
	keys, err := server.Client(t).Keys(t.Context(), "cache:lock:{*}").Result()
	require.NoError(t, err)
	assert.Empty(t, keys)
	_, err = m.Acquire(t.Context(), "job", longTTL)
	require.ErrorIs(t, err, lock.ErrManagerClosed)
	require.ErrorIs(t, m.HealthCheck(t.Context()), lock.ErrManagerClosed)
	assert.Zero(t, m.GetMetrics().Held)
}

// TestCloseTriesOnceMore: Redis has recovered since the last try to release a lock.
func TestCloseTriesOnceMore(t *testing.T) {
	t.Parallel()
	undisturbed(t, 0, func() int { // what is left: the last try has a moment only
		server := redistest.Start(t)
		client := newClient(t, server.Addr())
		var on atomic.Bool
		var refused atomic.Int64
		client.AddHook(readOnly{chosen: func(redis.Cmder) bool {
			if on.Load() {
				refused.Add(1)
			}
			return on.Load()
		}})
		m := newManager(t, client)
		l := acquire(t, m, "job", longTTL)
		on.Store(true)
		require.ErrorIs(t, l.Release(t.Context()), lock.ErrRedis)
		require.Eventually(t, func() bool { return refused.Load() >= 11 }, patience, time.Millisecond, "the pauses are long by now")
		on.Store(false)
		require.NoError(t, m.Close(t.Context()))
		return len(traces(t, server))
	})
}

func TestCloseWithoutALock(t *testing.T) {
	t.Parallel()
	m, err := lock.NewRedisLockManager(newClient(t, "127.0.0.1:1"))
	require.NoError(t, err)
	require.NoError(t, m.Alive())
	require.NoError(t, m.Close(t.Context()))
	require.NoError(t, m.Close(t.Context()))
}

func z(score float64, member string) redis.Z { return redis.Z{Score: score, Member: member} }

// TestReleaseWhileARenewalSucceeds: nothing keeps the lock until its next renewal would be due.
func TestReleaseWhileARenewalSucceeds(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	admin := server.Client(t)
	var held atomic.Pointer[lock.RedisLock]
	released := make(chan error, 1)
	core, _ := observer.New(zap.InfoLevel)
	log := zap.New(zapcore.RegisterHooks(core, func(e zapcore.Entry) error {
		if l := held.Load(); strings.Contains(e.Message, "succeed again") {
			held.Store(nil)
			released <- l.Release(context.Background())
		}
		return nil
	}))
	m := newManager(t, newClient(t, server.Addr()), lock.WithLogger(log))
	l := acquire(t, m, "job", time.Hour)
	held.Store(l)
	ended := weak.Make(l)
	require.NoError(t, admin.Do(t.Context(), "ACL", "SETUSER", "default", "-pexpire").Err())
	// What is refused on one connection may be sent on another one at once, which is no failure if it succeeds there.
	require.Eventually(t, func() bool { return m.GetMetrics().RenewalsFailed > 0 }, patience, tick)
	require.NoError(t, admin.Do(t.Context(), "ACL", "SETUSER", "default", "+pexpire").Err())
	select {
	case err := <-released:
		require.NoError(t, err)
	case <-time.After(patience):
		require.FailNow(t, "no renewal succeeds again")
	}
	require.Eventually(t, func() bool {
		runtime.GC()
		return ended.Value() == nil
	}, patience, 10*tick)
}
