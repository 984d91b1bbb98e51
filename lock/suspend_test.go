package lock

import (
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

// TestSuspendedForLongerThanTheLockLasts: the holder does not rely on it for what the monotonic clock has missed.
func TestSuspendedForLongerThanTheLockLasts(t *testing.T) {
	t.Parallel()
	m, err := NewRedisLockManager(redistest.Start(t).Client(t))
	require.NoError(t, err)
	defer func() { require.NoError(t, m.Close(t.Context())) }()
	suspended := func(resource string) *RedisLock {
		l, err := m.try(t.Context(), resource, 30*time.Second, nil)
		require.NoError(t, err)
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
	require.False(t, l.extend(extension{claim: l.claim, sent: time.Now(), generation: l.generation}))
	<-l.Lost()
	l = suspended("expired")
	l.expire()
	<-l.Lost()
}
