package lock

import (
	"context"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
)

// beforeSuspension returns a time as it looks after the machine was suspended for a minute: the wall clock has gone on,
// the monotonic one has not.
func beforeSuspension(t *testing.T, at time.Time) time.Time {
	t.Helper()
	then := at
	const secondsAt = 30                                           // in the first word of a time.Time with a monotonic reading
	*(*uint64)(unsafe.Pointer(&then)) -= 60 << secondsAt           //nolint:gosec // there is no other way to make one
	require.Zero(t, then.Sub(at))                                  // by the monotonic clock
	require.Equal(t, -time.Minute, then.Round(0).Sub(at.Round(0))) // by the wall clock
	return then
}

func tryLock(t *testing.T, m *RedisLockManager, resource string, ttl time.Duration) *RedisLock {
	t.Helper()
	l, err := m.TryAcquire(t.Context(), resource, ttl)
	require.NoError(t, err)
	return l.(*RedisLock) //nolint:forcetypeassert // it is documented
}

// TestSuspendedForLongerThanTheLockLasts: the holder does not rely on it for what the monotonic clock has missed.
func TestSuspendedForLongerThanTheLockLasts(t *testing.T) {
	t.Parallel()
	m, err := NewRedisLockManager(redistest.Start(t).Client(t))
	require.NoError(t, err)
	defer func() { require.NoError(t, m.Close(t.Context())) }()
	suspended := func(resource string) *RedisLock {
		l := tryLock(t, m, resource, 30*time.Second)
		l.mu.Lock()
		defer l.mu.Unlock()
		l.until = beforeSuspension(t, l.until)
		return l
	}
	l := suspended("released")
	require.False(t, l.IsHeld())
	require.ErrorIs(t, l.Release(t.Context()), ErrLockExpired)
	l = suspended("refreshed")
	require.ErrorIs(t, l.Refresh(t.Context()), ErrLockExpired)
	l = suspended("renewed")
	m.keeper.renewer.renew([]*RedisLock{l})
	<-l.Lost()
	l = suspended("extended")
	require.False(t, l.extend(extension{claim: l.claim, sent: time.Now()}))
	<-l.Lost()
	l = suspended("expired")
	l.expire()
	<-l.Lost()
}

// TestSuspensionIsToldWithTheNextRenewal: the timer, which has stood still with the machine, would go off a minute too
// late, so a holder that only listens hears of the loss when its lock is to be renewed, and nothing is renewed then.
func TestSuspensionIsToldWithTheNextRenewal(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	m, err := NewRedisLockManager(server.Client(t))
	require.NoError(t, err)
	defer func() { require.NoError(t, m.Close(t.Context())) }()
	var locks []*RedisLock
	for _, resource := range []string{"listens", "has a context", "is renewed"} {
		locks = append(locks, tryLock(t, m, resource, time.Hour))
	}
	lost, ctx := locks[0].Lost(), locks[1].Context()
	begin := time.Now()
	for _, l := range locks[:2] {
		l.mu.Lock()
		l.until = beforeSuspension(t, l.until)
		l.mu.Unlock()
	}
	for _, ch := range []<-chan struct{}{lost, ctx.Done()} {
		select {
		case <-ch:
		case <-time.After(20 * time.Second):
			require.Fail(t, "nobody is told")
		}
	}
	require.Less(t, time.Since(begin), validity(10*time.Second), "before the timer")
	require.ErrorIs(t, context.Cause(ctx), ErrLockExpired)
	require.ErrorIs(t, locks[0].Release(t.Context()), ErrLockExpired)
	require.Equal(t, int64(2), m.GetMetrics().LostExpired)
	admin := server.Client(t)
	require.Eventually(t, func() bool { // of no use to anybody
		return admin.Exists(t.Context(), "cache:lock:{listens}", "cache:lock:{has a context}").Val() == 0
	}, 20*time.Second, 5*time.Millisecond)
	require.True(t, locks[2].IsHeld(), "the others are none the worse")
}
