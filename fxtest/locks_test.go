package fxtest_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	cachetest "github.com/compozy/cache/fxtest"
	"github.com/compozy/cache/lock"
)

func acquire(t *testing.T, m *cachetest.LockManager, resource string, ttl time.Duration) *cachetest.Lock {
	t.Helper()
	l, err := m.Acquire(t.Context(), resource, ttl)
	require.NoError(t, err)
	fake, ok := l.(*cachetest.Lock)
	require.True(t, ok)
	return fake
}

func TestFakeLockIsLost(t *testing.T) {
	t.Parallel()
	m := cachetest.NewLockManager()
	assert.False(t, m.Lose("a"), "nobody holds it")
	l := acquire(t, m, "a", time.Minute)
	other := acquire(t, m, "b", time.Minute)
	assert.Equal(t, []string{"a", "b"}, m.Held())

	assert.True(t, m.Lose("a"))
	assert.False(t, m.Lose("a"))
	assert.False(t, l.IsHeld())
	assert.True(t, other.IsHeld())
	<-l.Lost()
	assert.ErrorIs(t, context.Cause(l.Context()), lock.ErrLockExpired)
	for _, err := range []error{l.Refresh(t.Context()), l.Release(t.Context())} {
		assert.ErrorIs(t, err, lock.ErrLockNotHeld)
		assert.ErrorIs(t, err, lock.ErrLockExpired)
	}
	assert.Equal(t, []string{"b"}, m.Held())

	next := acquire(t, m, "a", time.Minute)
	assert.Greater(t, next.Token(), l.Token())
	assert.Equal(t, []string{"a", "b", "a"}, m.Granted())
	require.NoError(t, next.Release(t.Context()))
	assert.ErrorIs(t, context.Cause(next.Context()), lock.ErrLockNotHeld)
	select {
	case <-next.Lost():
		t.Error("released is not lost")
	default:
	}
}

func TestFakeLockExpiresWhileStalled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := cachetest.NewLockManager()
		short, long := acquire(t, m, "short", time.Minute), acquire(t, m, "long", time.Hour)
		time.Sleep(24 * time.Hour) // in a bubble: its clock
		assert.True(t, short.IsHeld(), "it is renewed")

		m.Stall()
		m.Stall()
		late := acquire(t, m, "late", time.Minute)
		time.Sleep(time.Minute - time.Nanosecond) // in a bubble: its clock
		assert.True(t, short.IsHeld())
		_, err := m.Acquire(t.Context(), "short", time.Minute)
		var refused *lock.NotAcquiredError
		require.ErrorAs(t, err, &refused)
		assert.Equal(t, time.Nanosecond, refused.RetryAfter)
		require.NoError(t, late.Refresh(t.Context()))
		time.Sleep(time.Nanosecond) // in a bubble: its clock
		assert.False(t, short.IsHeld())
		synctest.Wait()
		assert.ErrorIs(t, context.Cause(short.Context()), lock.ErrLockExpired, "notified without a call")
		assert.ErrorIs(t, short.Release(t.Context()), lock.ErrLockExpired)
		assert.Equal(t, []string{"late", "long"}, m.Held())

		again := acquire(t, m, "short", time.Minute)
		m.Resume()
		time.Sleep(24 * time.Hour) // in a bubble: its clock
		assert.False(t, short.IsHeld(), "a lost lock stays lost")
		assert.Equal(t, []string{"late", "long", "short"}, m.Held())
		for _, l := range []*cachetest.Lock{late, long, again} {
			require.NoError(t, l.Release(t.Context()))
		}
		assert.Empty(t, m.Held())
	})
}

func TestFakeLocksFail(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := cachetest.NewLockManager()
		held, released, expired := acquire(t, m, "a", time.Minute), acquire(t, m, "b", time.Hour), acquire(t, m, "c", time.Minute)
		down := errors.New("connection refused")
		m.Fail(down)
		_, err := m.Acquire(t.Context(), "d", time.Minute)
		for _, err := range []error{err, held.Refresh(t.Context()), released.Release(t.Context()), expired.Release(t.Context())} {
			require.ErrorIs(t, err, down)
			require.ErrorIs(t, err, lock.ErrRedis)
			require.NotErrorIs(t, err, lock.ErrLockNotAcquired)
		}
		assert.True(t, held.IsHeld())
		assert.False(t, released.IsHeld(), "who released it relies on it no longer")
		assert.Equal(t, []string{"a", "b", "c"}, m.Held(), "but Redis does not know")
		require.ErrorIs(t, released.Release(t.Context()), down, "it can be tried again")
		require.ErrorIs(t, released.Refresh(t.Context()), lock.ErrLockNotHeld)

		time.Sleep(time.Minute) // in a bubble: its clock
		assert.Equal(t, []string{"a", "b"}, m.Held(), "the TTL is over")
		m.Fail(nil)
		assert.Equal(t, []string{"a"}, m.Held())
		for _, l := range []*cachetest.Lock{released, expired} {
			require.NoError(t, l.Release(t.Context()), "the try before had its effect")
			require.ErrorIs(t, l.Release(t.Context()), lock.ErrLockNotHeld)
		}
		require.NoError(t, held.Refresh(t.Context()))
		ended, cancel := context.WithCancelCause(t.Context())
		cancel(down)
		require.ErrorIs(t, held.Refresh(ended), context.Canceled)
		require.NotErrorIs(t, held.Refresh(ended), down, "as with Redis")
		require.NoError(t, held.Release(ended))
	})
}

func TestFakeLockManagerCloses(t *testing.T) {
	t.Parallel()
	m := cachetest.NewLockManager()
	l := acquire(t, m, "a", time.Minute)
	require.NoError(t, m.Close(t.Context()))
	require.NoError(t, m.Close(t.Context()))
	assert.False(t, l.IsHeld())
	assert.ErrorIs(t, context.Cause(l.Context()), lock.ErrManagerClosed)
	assert.ErrorIs(t, l.Release(t.Context()), lock.ErrManagerClosed)
	assert.ErrorIs(t, l.Release(t.Context()), lock.ErrLockNotHeld)
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := m.Acquire(cancelled, "a", time.Minute)
	require.ErrorIs(t, err, context.Canceled, "as that of Redis")
	var noContext context.Context
	require.ErrorIs(t, m.Close(noContext), lock.ErrInvalidArgument)
	_, err = m.Acquire(t.Context(), "a", time.Minute)
	require.ErrorIs(t, err, lock.ErrManagerClosed)
	assert.Empty(t, m.Held())
}

// waiting calls AcquireWait for "a" in a bubble and returns when it waits.
func waiting(ctx context.Context, m *cachetest.LockManager) <-chan error {
	result := make(chan error, 1)
	go func() {
		_, err := m.AcquireWait(ctx, "a", time.Minute)
		result <- err
	}()
	synctest.Wait()
	return result
}

func returned(result <-chan error) bool {
	synctest.Wait()
	return len(result) > 0
}

func TestFakeLocksWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := cachetest.NewLockManager()
		acquire(t, m, "a", time.Minute)
		first, gone := context.WithCancel(t.Context())
		one, two, three := waiting(first, m), waiting(t.Context(), m), waiting(t.Context(), m)
		assert.Equal(t, 3, m.Waiting("a"))
		assert.Zero(t, m.Waiting("b"))
		time.Sleep(time.Hour) // in a bubble: its clock
		assert.Equal(t, 3, m.Waiting("a"), "the lock is renewed")

		gone()
		require.ErrorIs(t, <-one, context.Canceled)
		assert.Equal(t, 2, m.Waiting("a"))
		require.True(t, m.Lose("a"))
		require.NoError(t, <-two)
		assert.False(t, returned(three))
		assert.Equal(t, []string{"a"}, m.Held())

		_, err := m.Acquire(t.Context(), "a", time.Minute)
		require.ErrorIs(t, err, lock.ErrLockNotAcquired)
		m.Stall()               // the TTL of the second holder runs out, and so does the one of the third
		time.Sleep(time.Minute) // in a bubble: its clock
		require.NoError(t, <-three)
		assert.Equal(t, []string{"a", "a", "a"}, m.Granted())
		time.Sleep(time.Minute) // in a bubble: its clock
		assert.Empty(t, m.Held())
		assert.Zero(t, m.Waiting("a"))
		require.NoError(t, m.Close(t.Context()))
	})
}

// A waiter whose context ends at the very moment gets no lock that nobody would release.
func TestFakeLockIsNotGivenToACallerWhoIsGone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := cachetest.NewLockManager()
		l := acquire(t, m, "a", time.Minute)
		ctx, cancel := context.WithCancel(t.Context())
		gone, next := waiting(ctx, m), waiting(t.Context(), m)
		cancel()
		require.NoError(t, l.Release(t.Context()))
		require.ErrorIs(t, <-gone, context.Canceled)
		require.NoError(t, <-next)
		assert.Equal(t, []string{"a", "a"}, m.Granted())
		require.NoError(t, m.Close(t.Context()))
	})
}

func TestFakeLocksFailThoseWhoWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := cachetest.NewLockManager()
		l := acquire(t, m, "a", time.Minute)
		waits := waiting(t.Context(), m)
		down := errors.New("connection refused")
		m.Fail(down)
		_, err := m.AcquireWait(t.Context(), "a", time.Minute)
		require.ErrorIs(t, err, down)
		require.ErrorIs(t, err, lock.ErrRedis)
		_, err = m.TryAcquire(t.Context(), "b", time.Minute)
		require.ErrorIs(t, err, down)
		err = m.WithLock(t.Context(), "b", time.Minute, func(context.Context, lock.FencedLock) error {
			return errors.New("ran")
		})
		require.ErrorIs(t, err, down)

		require.ErrorIs(t, l.Release(t.Context()), down)
		time.Sleep(time.Hour) // in a bubble: its clock
		assert.Empty(t, m.Held(), "the TTL is over")
		assert.False(t, returned(waits), "and Redis cannot be reached")
		m.Fail(nil)
		require.NoError(t, <-waits)
		assert.Equal(t, []string{"a"}, m.Held())

		// What was not released is free at once, for those who wait first.
		next := waiting(t.Context(), m)
		require.NoError(t, m.WithLock(t.Context(), "c", time.Hour, func(context.Context, lock.FencedLock) error {
			m.Fail(down)
			return nil
		}), "the function has run under the lock")
		assert.Equal(t, []string{"a", "c"}, m.Held())
		assert.False(t, returned(next))
		m.Fail(nil)
		assert.Equal(t, []string{"a"}, m.Held())
		require.NoError(t, m.Close(t.Context()))
		require.ErrorIs(t, <-next, lock.ErrManagerClosed)
		assert.Len(t, m.Granted(), 3, "a waiter does not inherit what Close releases")
	})
}

func TestFakeWithLockIsLost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := cachetest.NewLockManager()
		failed := errors.New("failed")
		lose := func(returns error) error {
			return m.WithLock(t.Context(), "a", time.Minute, func(ctx context.Context, l lock.FencedLock) error {
				require.True(t, m.Lose("a"))
				<-l.Lost()
				<-ctx.Done()
				assert.ErrorIs(t, context.Cause(ctx), lock.ErrLockExpired)
				return returns
			})
		}
		require.ErrorIs(t, lose(nil), lock.ErrLockExpired)
		err := lose(failed)
		require.ErrorIs(t, err, failed)
		require.ErrorIs(t, err, lock.ErrLockExpired)
		assert.Empty(t, m.Held())
	})
}

func TestFakeLockUntil(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := cachetest.NewLockManager()
		m.Resume() // which nothing has stalled
		l := acquire(t, m, "a", time.Minute)
		m.Resume()
		time.Sleep(time.Hour) // in a bubble: its clock
		assert.Equal(t, time.Minute, time.Until(l.Until()), "it is renewed")
		m.Stall()
		time.Sleep(20 * time.Second) // in a bubble: its clock
		assert.Equal(t, 40*time.Second, time.Until(l.Until()))
		require.NoError(t, l.Refresh(t.Context()))
		assert.Equal(t, time.Minute, time.Until(l.Until()))
		m.Resume()
		require.NoError(t, l.Release(t.Context()))
		last := l.Until()
		time.Sleep(time.Hour) // in a bubble: its clock
		assert.Equal(t, last, l.Until())
	})
}
