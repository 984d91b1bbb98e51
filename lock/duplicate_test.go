package lock_test

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/embedded"
	"github.com/compozy/cache/internal/faultproxy"
	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/lock"
)

// TestLateDuplicateDoesNotShortenALock: the first try to acquire is held up, the second is granted and renewed for a long
// TTL, and then the first arrives.
func TestLateDuplicateDoesNotShortenALock(t *testing.T) {
	t.Parallel()
	for name, take := range map[string]func(*testing.T, lock.Locker) lock.FencedLock{
		"acquire": func(t *testing.T, m lock.Locker) lock.FencedLock {
			t.Helper()
			l, err := m.TryAcquire(t.Context(), "job", time.Hour)
			require.NoError(t, err)
			return l
		},
		"wait": func(t *testing.T, m lock.Locker) lock.FencedLock {
			t.Helper()
			l, err := m.AcquireWait(t.Context(), "job", time.Hour)
			require.NoError(t, err)
			return l
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t)
			proxy := faultproxy.New(t, server.Addr())
			m := newManager(t, single(t, proxy), lock.WithNodeTimeout(patience))
			require.NoError(t, acquire(t, m, "other", longTTL).Release(t.Context())) // opens the connection that is held up
			admin := server.Client(t)
			let := proxy.HoldToServer()
			l := take(t, m)
			require.NoError(t, l.Refresh(t.Context()))
			require.Greater(t, admin.PTTL(t.Context(), "cache:lock:{job}").Val(), time.Minute)
			token := lastToken(t, admin)
			given, executed := token(), func() int64 { return server.Commands(t)["evalsha"] }
			before := executed()
			let()
			require.Eventually(t, func() bool { return executed() > before }, patience, tick, "the duplicate has arrived")
			assert.Equal(t, given, token(), "and changes nothing")
			assert.Zero(t, admin.ZCard(t.Context(), "cache:lock:{job}:queue").Val())
			assert.Greater(t, admin.PTTL(t.Context(), "cache:lock:{job}").Val(), time.Minute)
			require.NoError(t, l.Release(t.Context()))
		})
	}
}

// TestRepairedMasterKeepsALongLock: a master that was restarted empty gets a lock back for a short time only, which is
// renewed in time however long the TTL.
func TestRepairedMasterKeepsALongLock(t *testing.T) {
	t.Parallel()
	servers := redistest.StartN(t, 3)
	var clients []redis.UniversalClient
	for _, s := range servers {
		clients = append(clients, newClient(t, s.Addr()))
	}
	m := newManager(t, nil, lock.WithNodes(clients...))
	l := acquire(t, m, "job", time.Hour)
	renewals := func() int64 { return m.GetMetrics().RenewalsTotal }
	require.NoError(t, servers[0].Client(t).FlushAll(t.Context()).Err())
	require.Eventually(t, func() bool { return renewals() == 1 }, patience, tick)
	everywhere(t, servers, true)
	require.Eventually(t, func() bool {
		return servers[0].Client(t).PTTL(t.Context(), "cache:lock:{job}").Val() > time.Minute
	}, patience, tick, "though the next renewal was a long time off")
	assert.LessOrEqual(t, renewals(), int64(4))
	require.NoError(t, l.Release(t.Context()))
	everywhere(t, servers, false)
}

// TestPrefixWithABlank: the names of waiters contain the prefix.
func TestPrefixWithABlank(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, server *embedded.Server, client *redis.Client) { //nolint:thelper // a test
		m, err := lock.NewRedisLockManager(client, lock.WithKeyPrefix("my app: free "))
		require.NoError(t, err)
		defer func() { _ = m.Close(t.Context()) }()
		own := redis.NewClient(&redis.Options{
			ContextTimeoutEnabled: true, Dialer: server.Dial,
			MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		})
		defer func() { _ = own.Close() }()
		other, err := lock.NewRedisLockManager(own, lock.WithKeyPrefix("my app: free "))
		require.NoError(t, err)
		defer func() { _ = other.Close(t.Context()) }()
		l := acquire(t, m, "job", longTTL)
		done := make(chan error, 1)
		go func() {
			w, err := other.AcquireWait(t.Context(), "job", longTTL)
			if err == nil {
				err = w.Release(t.Context())
			}
			done <- err
		}()
		time.Sleep(100 * time.Millisecond) // in a bubble: it waits
		start := time.Now()
		require.NoError(t, l.Release(t.Context()))
		require.NoError(t, <-done)
		assert.Less(t, time.Since(start), 100*time.Millisecond, "it heard of the release")
	})
}

// TestLostReplyOfReleaseWithAWaiter: the repetition finds the next holder, which is no theft.
func TestLostReplyOfReleaseWithAWaiter(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	proxy := faultproxy.New(t, server.Addr())
	m, other := newManager(t, newClient(t, proxy.Addr())), newManager(t, newClient(t, server.Addr()))
	for range 5 {
		l := acquire(t, m, "job", longTTL)
		lost := l.Lost()
		got := make(chan lock.FencedLock, 1)
		go func() {
			w, err := other.AcquireWait(t.Context(), "job", longTTL)
			assert.NoError(t, err)
			got <- w
		}()
		length := queueLength(t, server)
		require.Eventually(t, func() bool { return length() == 1 }, patience, tick)
		proxy.DropReplies(1)
		require.NoError(t, l.Release(t.Context()))
		select {
		case <-lost:
			require.Fail(t, "it was released")
		default:
		}
		require.NoError(t, (<-got).Release(t.Context()))
	}
	assert.Zero(t, m.GetMetrics().LostStolen)
	assert.Zero(t, m.GetMetrics().ReleasesFailed)
}

// TestHoldAtLeastSurvivesAFailedRelease: what removes the lock in the background keeps it taken as well.
func TestHoldAtLeastSurvivesAFailedRelease(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	proxy := faultproxy.New(t, server.Addr())
	m := newManager(t, newClient(t, proxy.Addr()), lock.WithNodeTimeout(300*time.Millisecond))
	l, err := m.With(lock.WithHoldAtLeast(time.Hour)).TryAcquire(t.Context(), "job", longTTL)
	require.NoError(t, err)
	proxy.Refuse(true)
	proxy.Cut()
	require.ErrorIs(t, l.Release(t.Context()), lock.ErrRedis)
	proxy.Refuse(false)
	admin := server.Client(t)
	require.Eventually(t, func() bool {
		return admin.PTTL(t.Context(), "cache:lock:{job}").Val() > time.Minute
	}, patience, tick)
	require.NoError(t, l.Release(t.Context()))
	assert.Greater(t, admin.PTTL(t.Context(), "cache:lock:{job}").Val(), time.Minute)
	assert.Equal(t, int64(1), m.GetMetrics().ReleasesTotal, "however often it is tried")
}
