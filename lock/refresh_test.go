package lock_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/faultproxy"
	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/lock"
)

// TestRefreshGivesTheFullTTL: in Redis, and to the holder.
func TestRefreshGivesTheFullTTL(t *testing.T) {
	t.Parallel()
	server, m := setup(t, lock.WithRenewal(false))
	l := acquire(t, m, "job", longTTL)
	client := server.Client(t)
	require.NoError(t, client.PExpire(t.Context(), "cache:lock:{job}", longTTL/10).Err())
	until := l.Until()
	require.NoError(t, l.Refresh(t.Context()))
	assert.Greater(t, client.PTTL(t.Context(), "cache:lock:{job}").Val(), longTTL/10)
	assert.True(t, l.Until().After(until))
}

func TestLostReplyOfRefreshIsNoLoss(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	proxy := faultproxy.New(t, server.Addr())
	m := newManager(t, newClient(t, proxy.Addr()))
	l := acquire(t, m, "job", longTTL)
	for range 3 {
		until := l.Until()
		proxy.DropReplies(1)
		require.NoError(t, l.Refresh(t.Context()))
		assert.True(t, l.Until().After(until))
		assert.True(t, l.IsHeld())
	}
}

// TestRefreshThatFailsLeavesTheLockAsItWas: whether Redis fails or the caller gives up; the two are told apart.
func TestRefreshThatFailsLeavesTheLockAsItWas(t *testing.T) {
	t.Parallel()
	server, m := setup(t, lock.WithNodeTimeout(time.Second))
	l := acquire(t, m, "job", longTTL)
	until := l.Until()
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	err := l.Refresh(canceled)
	require.ErrorIs(t, err, context.Canceled)
	require.NotErrorIs(t, err, lock.ErrLockNotHeld)
	require.NotErrorIs(t, err, lock.ErrRedis)

	server.Stop()
	err = l.Refresh(t.Context())
	require.ErrorIs(t, err, lock.ErrRedis)
	require.NotErrorIs(t, err, lock.ErrLockNotHeld)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	err = l.Refresh(ctx)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.NotErrorIs(t, err, lock.ErrRedis)
	assert.True(t, l.IsHeld())
	assert.Equal(t, until, l.Until())
	server.Continue()
	require.Eventually(t, func() bool { return l.Refresh(t.Context()) == nil }, patience, tick)
	assert.True(t, l.Until().After(until))

	require.NoError(t, m.Close(t.Context()))
	err = l.Refresh(t.Context())
	require.ErrorIs(t, err, lock.ErrLockNotHeld)
	require.ErrorIs(t, err, lock.ErrManagerClosed)
}
