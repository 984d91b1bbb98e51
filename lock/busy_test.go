package lock_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/lock"
)

// TestBusyServer: while a script of somebody else takes too long, the server answers BUSY to everything. Locks that are held
// stay held, who waits goes on waiting, and whatever else was asked fails.
func TestBusyServer(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.WithConfig("busy-reply-threshold", "50"))
	holder, waiter := newManager(t, newClient(t, server.Addr())), newManager(t, newClient(t, server.Addr()))
	l := acquire(t, holder, "job", 6*time.Second)
	length := queueLength(t, server)
	got := make(chan lock.FencedLock, 1)
	go func() {
		w, err := waiter.AcquireWait(t.Context(), "job", longTTL)
		assert.NoError(t, err)
		got <- w
	}()
	require.Eventually(t, func() bool { return length() == 1 }, patience, tick)

	release := server.Occupy(t)
	require.Eventually(t, func() bool { return holder.GetMetrics().RenewalsFailed > 0 }, patience, tick)
	_, err := waiter.Acquire(t.Context(), "other", longTTL)
	require.ErrorIs(t, err, lock.ErrRedis)
	require.ErrorContains(t, err, "BUSY")
	assert.True(t, l.IsHeld())
	release()

	renewed := holder.GetMetrics().RenewalsTotal
	require.Eventually(t, func() bool { return holder.GetMetrics().RenewalsTotal > renewed }, patience, tick)
	require.NoError(t, l.Release(t.Context()))
	w := <-got
	require.NotNil(t, w)
	assert.Greater(t, w.Token(), l.Token())
	require.NoError(t, w.Release(t.Context()))
	// By itself the queue would go with its TTL, which is as long as the patience.
	require.Eventually(t, func() bool { return len(traces(t, server)) == 0 }, patience/2, tick)
}
