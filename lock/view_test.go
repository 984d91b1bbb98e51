package lock_test

import (
	"context"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/embedded"
	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/lock"
)

// only returns a manager in a bubble.
func only(t *testing.T, client *redis.Client) *lock.RedisLockManager {
	t.Helper()
	m, err := lock.NewRedisLockManager(client)
	require.NoError(t, err)
	return m
}

func TestInspect(t *testing.T) {
	t.Parallel()
	for name, nodes := range map[string]int{"one": 1, "three": 3} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			servers := redistest.StartN(t, nodes)
			var clients []redis.UniversalClient
			for _, s := range servers {
				clients = append(clients, newClient(t, s.Addr()))
			}
			m := newManager(t, nil, lock.WithNodes(clients...))
			other := newManager(t, nil, lock.WithNodes(clients...))

			info, err := m.Inspect(t.Context(), "job")
			require.NoError(t, err)
			assert.Equal(t, lock.Info{Resource: "job"}, info)

			const owner = "host 1: worker/3"
			l, err := m.With(lock.WithOwner(owner)).TryAcquire(t.Context(), "job", longTTL)
			require.NoError(t, err)
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() {
				_, err := other.AcquireWait(ctx, "job", longTTL)
				done <- err
			}()
			require.Eventually(t, func() bool {
				info, err = m.Inspect(t.Context(), "job")
				return assert.NoError(t, err) && info.Waiting == 1
			}, patience, tick)
			assert.True(t, info.Held)
			assert.Equal(t, owner, info.Owner)
			assert.GreaterOrEqual(t, info.Token, l.Token())
			if nodes == 1 {
				assert.Equal(t, l.Token(), info.Token)
			}
			assert.InDelta(t, 5, info.TTL.Seconds(), 5)
			cancel()
			require.ErrorIs(t, <-done, context.Canceled)
			require.Eventually(t, func() bool {
				info, err = m.Inspect(t.Context(), "job")
				return assert.NoError(t, err) && info.Waiting == 0
			}, patience, tick)

			require.NoError(t, l.Release(t.Context()))
			nameless := acquire(t, m, "job", longTTL)
			same := acquire(t, m, "another job", longTTL)
			require.Eventually(t, func() bool { // on three the last may not have it yet
				info, err = other.Inspect(t.Context(), "job")
				require.NoError(t, err)
				another, err := other.Inspect(t.Context(), "another job")
				require.NoError(t, err)
				return info.Owner != "" && info.Owner == another.Owner // the same manager
			}, patience, tick)
			require.NoError(t, nameless.Release(t.Context()))
			require.NoError(t, same.Release(t.Context()))

			_, err = m.Inspect(t.Context(), "")
			require.ErrorIs(t, err, lock.ErrInvalidArgument)
			for _, s := range servers {
				s.Kill()
			}
			_, err = m.Inspect(t.Context(), "job")
			require.ErrorIs(t, err, lock.ErrRedis)
			require.NotErrorIs(t, err, context.DeadlineExceeded)
		})
	}
}

// TestInspectMastersThatDisagree: the answer that makes a majority comes last.
func TestInspectMastersThatDisagree(t *testing.T) {
	t.Parallel()
	servers, proxies, clients := proxied(t)
	m := managerOn(t, clients)
	require.NoError(t, m.HealthCheck(t.Context()))
	proxies[1].SetLatency(50 * time.Millisecond)
	for _, c := range []struct {
		has  [3]string // "" is nobody
		want string
	}{
		{[3]string{"", "a", "a"}, "a"},
		{[3]string{"a", "a", ""}, "a"},
		{[3]string{"b", "a", "a"}, "a"},
		{[3]string{"", "", "a"}, ""},
		{[3]string{"a", "", "b"}, ""},
		{[3]string{"a", "b", "c"}, ""},
	} {
		for i, s := range servers {
			require.NoError(t, s.Client(t).Del(t.Context(), "cache:lock:{job}").Err())
			if c.has[i] != "" {
				require.NoError(t, s.Client(t).Set(t.Context(), "cache:lock:{job}", c.has[i], longTTL).Err())
			}
		}
		info, err := m.Inspect(t.Context(), "job")
		require.NoError(t, err)
		assert.Equal(t, c.want, info.Owner, "%v", c.has)
		assert.Equal(t, c.want != "", info.Held, "%v", c.has)
	}
	servers[1].Stop()
	defer servers[1].Continue()
	info, err := m.Inspect(t.Context(), "job")
	require.NoError(t, err, "a majority has answered")
	assert.False(t, info.Held)
}

func TestMaxHoldEndsAForgottenLock(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, _ *embedded.Server, client *redis.Client) { //nolint:thelper // a test
		m := only(t, client)
		defer func() { _ = m.Close(t.Context()) }()
		for _, hold := range []time.Duration{20 * time.Millisecond, time.Second, 25 * time.Second, time.Hour} {
			start := time.Now()
			l, err := m.With(lock.WithMaxHold(hold)).TryAcquire(t.Context(), "job", 10*time.Second)
			require.NoError(t, err)
			<-l.Lost()
			assert.Equal(t, hold, time.Since(start))
			require.ErrorIs(t, context.Cause(l.Context()), lock.ErrLockExpired)
			require.ErrorIs(t, l.Refresh(t.Context()), lock.ErrLockExpired)
			got, err := m.AcquireWait(t.Context(), "job", 10*time.Second)
			require.NoError(t, err)
			assert.Less(t, time.Since(start), hold+2*time.Second)
			require.NoError(t, got.Release(t.Context()))
		}
	})
}

func TestHoldAtLeastKeepsTheLockTaken(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, _ *embedded.Server, client *redis.Client) { //nolint:thelper // a test
		m, other := only(t, client), only(t, client)
		defer func() { _ = m.Close(t.Context()) }()
		defer func() { _ = other.Close(t.Context()) }()
		const hold = time.Minute
		cron := m.With(lock.WithHoldAtLeast(hold), lock.WithOwner("cron"))
		start := time.Now()
		require.NoError(t, cron.WithLock(t.Context(), "job", longTTL, func(context.Context, lock.FencedLock) error { return nil }))
		info, err := m.Inspect(t.Context(), "job")
		require.NoError(t, err)
		assert.Equal(t, "cron", info.Owner)
		_, err = other.Acquire(t.Context(), "job", longTTL)
		require.ErrorIs(t, err, lock.ErrLockNotAcquired)
		l, err := other.AcquireWait(t.Context(), "job", longTTL)
		require.NoError(t, err)
		assert.InDelta(t, hold.Seconds(), time.Since(start).Seconds(), .1, "whoever waits has it then")
		require.NoError(t, l.Release(t.Context()))

		l, err = cron.TryAcquire(t.Context(), "job", longTTL)
		require.NoError(t, err)
		time.Sleep(2 * hold) // in a bubble
		require.NoError(t, l.Release(t.Context()))
		require.NoError(t, acquire(t, other, "job", longTTL).Release(t.Context()), "the time was over")

		_, err = cron.TryAcquire(t.Context(), "job", longTTL)
		require.NoError(t, err)
		require.NoError(t, m.Close(t.Context()))
		_, err = other.Acquire(t.Context(), "job", longTTL)
		require.ErrorIs(t, err, lock.ErrLockNotAcquired, "whoever releases it")
	})
}

// TestWithoutRenewalALockStillLastsForItsTTL: it is granted for ten seconds at first.
func TestWithoutRenewalALockStillLastsForItsTTL(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, _ *embedded.Server, client *redis.Client) { //nolint:thelper // a test
		m := only(t, client)
		defer func() { _ = m.Close(t.Context()) }()
		start := time.Now()
		l, err := m.With(lock.WithRenewal(false)).TryAcquire(t.Context(), "job", time.Minute)
		require.NoError(t, err)
		<-l.Lost()
		assert.InDelta(t, 59, time.Since(start).Seconds(), 1)
		assert.EqualValues(t, 1, m.GetMetrics().RenewalsTotal)
	})
}

func TestViewsWithUselessSettings(t *testing.T) {
	t.Parallel()
	server, m := setup(t)
	calls := func(l lock.Locker, argument string) {
		t.Helper()
		_, err := l.Acquire(t.Context(), "job", longTTL)
		var unusable *lock.ArgumentError
		require.ErrorAs(t, err, &unusable)
		require.Equal(t, argument, unusable.Argument)
		_, err = l.TryAcquire(t.Context(), "job", longTTL)
		require.ErrorIs(t, err, lock.ErrInvalidArgument)
		_, err = l.AcquireWait(t.Context(), "job", longTTL)
		require.ErrorIs(t, err, lock.ErrInvalidArgument)
		err = l.WithLock(t.Context(), "job", longTTL, func(context.Context, lock.FencedLock) error { return nil })
		require.ErrorIs(t, err, lock.ErrInvalidArgument)
	}
	calls(m.With(lock.WithMaxHold(-1)), "WithMaxHold")
	calls(m.With(lock.WithMaxHold(time.Millisecond)), "WithMaxHold")
	calls(m.With(lock.WithHoldAtLeast(-1)), "WithHoldAtLeast")
	calls(m.With(lock.WithName("x")), "WithName")
	calls(m.With(lock.WithOwner("x"), lock.WithKeyPrefix("x")), "WithKeyPrefix")
	calls(m.With(nil), "opts")
	calls((*lock.RedisLockManager)(nil).With(), "RedisLockManager")
	assert.Zero(t, server.Commands(t)["evalsha"])
	_, err := lock.NewRedisLockManager(server.Client(t), lock.WithMaxHold(-1))
	require.ErrorIs(t, err, lock.ErrInvalidArgument)
}
