package lock_test

import (
	"context"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
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

// bad is a hook that does something bad, so many times when it is armed: whatever context it runs in.
type bad struct {
	scriptHook

	do    func()
	left  atomic.Int64 // scripts
	dials atomic.Int64
}

func newBad(do func()) *bad {
	b := &bad{do: do}
	b.see = func() {
		if b.left.Add(-1) >= 0 {
			b.do()
		}
	}
	return b
}

func (b *bad) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		if b.dials.Add(-1) >= 0 {
			b.do()
		}
		return next(ctx, network, addr)
	}
}

// opaque hides what kind of client there is: locks are renewed on it, hooks and all.
type opaque struct{ redis.UniversalClient }

// badHooks are on the clients of some servers.
type badHooks struct {
	servers []*redistest.Server
	hooks   []*bad
	manager *lock.RedisLockManager
	logs    *observer.ObservedLogs
}

// arm has the next scripts, so many to each server, run into the hook.
func (b badHooks) arm(scripts int64) {
	for _, h := range b.hooks {
		h.left.Store(scripts)
	}
}

// settled waits until every server has so many locks: a script that is still under way would meet the hook.
func (b badHooks) settled(t *testing.T, locks int) {
	t.Helper()
	for _, s := range b.servers {
		require.Eventually(t, func() bool {
			held := slices.DeleteFunc(keysOfLocks(t, s), func(key string) bool { return strings.HasSuffix(key, ":fence") })
			return len(held) == locks
		}, patience, tick)
	}
}

func (b badHooks) panics() int { return b.logs.FilterMessageSnippet("has panicked").Len() }

// withBadHooks tests hooks that panic, and such that end the goroutine, on one server and on three.
func withBadHooks(t *testing.T, hide bool, test func(t *testing.T, b badHooks)) {
	t.Helper()
	onOneAndThree(t, func(t *testing.T, count int) { //nolint:thelper // a test
		for name, do := range map[string]func(){"panic": func() { panic("the hook's own fault") }, "exit": runtime.Goexit} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				core, logs := observer.New(zap.InfoLevel)
				b := badHooks{servers: redistest.StartN(t, count), logs: logs}
				var clients []redis.UniversalClient
				for _, s := range b.servers {
					client, hook := newClient(t, s.Addr()), newBad(do)
					client.AddHook(hook)
					b.hooks, clients = append(b.hooks, hook), append(clients, client)
					if hide {
						clients[len(clients)-1] = opaque{client}
					}
				}
				b.manager = managerOn(t, clients, lock.WithLogger(zap.New(core)))
				warmUp(t, b.manager)
				test(t, b)
			})
		}
	})
}

// TestBadHookWhileClosing: Close does all that it can, and says so.
func TestBadHookWhileClosing(t *testing.T) {
	t.Parallel()
	withBadHooks(t, false, func(t *testing.T, b badHooks) { //nolint:thelper // a test
		for _, resource := range []string{"a", "b", "c"} {
			acquire(t, b.manager, resource, longTTL)
		}
		b.settled(t, 3)
		b.arm(1)
		require.ErrorIs(t, b.manager.Close(t.Context()), lock.ErrRedis)
		require.NoError(t, b.manager.Close(t.Context()), "it is done")
		for _, s := range b.servers {
			for _, key := range keysOfLocks(t, s) {
				assert.True(t, strings.HasSuffix(key, ":fence"), "%s is left", key)
			}
		}
		assert.NotZero(t, b.panics())
	})
}

// TestBadHookForEver: Close ends all the same.
func TestBadHookForEver(t *testing.T) {
	t.Parallel()
	withBadHooks(t, false, func(t *testing.T, b badHooks) { //nolint:thelper // a test
		acquire(t, b.manager, "job", longTTL)
		b.arm(1 << 30)
		require.ErrorIs(t, b.manager.Close(t.Context()), lock.ErrRedis)
		require.NoError(t, b.manager.Close(t.Context()), "it is done")
	})
}

// TestBadHookWhileCleaningUp: a key that is to be removed in the background is removed with the next try.
func TestBadHookWhileCleaningUp(t *testing.T) {
	t.Parallel()
	withBadHooks(t, false, func(t *testing.T, b badHooks) { //nolint:thelper // a test
		l, err := b.manager.With(lock.WithMaxHold(200*time.Millisecond)).TryAcquire(t.Context(), "job", longTTL)
		require.NoError(t, err)
		b.arm(1)
		wait(t, l.Lost(), "the end of the lock")
		everywhere(t, b.servers, false)
		require.NotZero(t, b.panics())
		require.NoError(t, b.manager.Close(t.Context()))
	})
}

// TestBadHookWhileRenewing: that renewal has failed, and the next one has not.
func TestBadHookWhileRenewing(t *testing.T) {
	t.Parallel()
	withBadHooks(t, true, func(t *testing.T, b badHooks) { //nolint:thelper // a test
		l := acquire(t, b.manager, "job", time.Second)
		b.settled(t, 1)
		require.Eventually(t, func() bool { // other scripts may meet the hook, such as those that mend a server
			b.arm(1)
			return b.manager.GetMetrics().RenewalsFailed > 0
		}, patience, tick)
		require.True(t, extended(t, l))
		assert.NotZero(t, b.panics())
		require.NoError(t, l.Release(t.Context()))
	})
}

// TestBadHookWhileWaiting: the waiter gets an error, or the panic, and the inbox is opened with the next try.
func TestBadHookWhileWaiting(t *testing.T) {
	t.Parallel()
	withBadHooks(t, false, func(t *testing.T, b badHooks) { //nolint:thelper // a test
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		b.arm(1)
		func() {
			defer func() { _ = recover() }()
			_, err := b.manager.AcquireWait(ctx, "job", longTTL)
			assert.ErrorIs(t, err, lock.ErrRedis)
		}()
		require.NoError(t, ctx.Err())
		b.arm(0)
		l, err := b.manager.AcquireWait(ctx, "job", longTTL)
		require.NoError(t, err)
		require.NoError(t, l.Release(ctx))
	})
}

// TestBadHookOfTheInbox: it is opened with the next try.
func TestBadHookOfTheInbox(t *testing.T) {
	t.Parallel()
	for name, do := range map[string]func(){"panic": func() { panic("the hook's own fault") }, "exit": runtime.Goexit} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, near := setup(t)
			client, hook := newClient(t, server.Addr()), newBad(do)
			client.AddHook(hook)
			core, logs := observer.New(zap.InfoLevel)
			m := newManager(t, client, lock.WithLogger(zap.New(core)))
			require.NoError(t, m.HealthCheck(t.Context())) // there is a connection in the pool
			hook.dials.Store(1)
			l := acquire(t, near, "job", longTTL)
			done := make(chan error, 1)
			go func() {
				done <- m.WithLock(t.Context(), "job", longTTL, func(context.Context, lock.FencedLock) error { return nil })
			}()
			require.Eventually(t, func() bool {
				return logs.FilterMessageSnippet("hear of releases again").Len() > 0
			}, patience, tick)
			require.NoError(t, l.Release(t.Context()))
			require.NoError(t, <-done)
		})
	}
}

// route is a hook that knows where the server is.
type route struct {
	redistest.Hook

	addr string
}

func (r route) DialHook(redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, r.addr)
	}
}

// routed is a client whose renewals have the hook, too.
type routed struct {
	redis.UniversalClient

	hook redis.Hook
}

func (r routed) Unwrap() redis.UniversalClient { return r.UniversalClient }
func (r routed) ConnectionHook() redis.Hook    { return r.hook }

// TestHookThatRenewalsNeed, and how they get it.
func TestHookThatRenewalsNeed(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client, hook := newClient(t, redistest.Start(t).Addr()), route{addr: server.Addr()}
	client.AddHook(hook)
	l := acquire(t, newManager(t, client), "without", 300*time.Millisecond)
	wait(t, l.Lost(), "the end, as documented: renewals do not find it")
	l = acquire(t, newManager(t, routed{client, hook}), "with", time.Second)
	require.True(t, extended(t, l))
	require.NoError(t, l.Release(t.Context()))
}
