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

// unevenNodes returns a manager on three masters: one is some milliseconds away, and the last one has the keys of others for
// all resources, which nobody removes.
func unevenNodes(t *testing.T, resources []string) *lock.RedisLockManager {
	t.Helper()
	servers := redistest.StartN(t, 3)
	proxy := faultproxy.New(t, servers[1].Addr())
	m := newManager(t, nil, lock.WithNodes(
		newClient(t, servers[0].Addr()), newClient(t, proxy.Addr()), newClient(t, servers[2].Addr()),
	))
	warmUp(t, m)
	proxy.SetLatency(3 * time.Millisecond)
	admin := servers[2].Client(t)
	for _, r := range resources {
		require.NoError(t, admin.Set(t.Context(), "cache:lock:{"+r+"}", "other#1", time.Hour).Err())
	}
	return m
}

// TestMasterThatIsLateIsNotDown: it owes an answer about another lock, and its vote for this one makes the majority.
func TestMasterThatIsLateIsNotDown(t *testing.T) {
	t.Parallel()
	var resources []string
	for i := range 20 {
		resources = append(resources, "job "+itoa(int64(i)))
	}
	m := unevenNodes(t, resources)
	acquired := 0
	for _, r := range resources { // a machine that stalls may let a master be late for too long, but not each time
		acquire(t, m, "before "+r, longTTL)
		if _, err := m.Acquire(t.Context(), r, longTTL); err == nil {
			acquired++
		}
	}
	assert.Positive(t, acquired)
}

// TestWaiterOfABusyManager: the manager has other calls under way to the master whose vote makes the majority, all the time.
func TestWaiterOfABusyManager(t *testing.T) {
	t.Parallel()
	m := unevenNodes(t, []string{"job"})
	busy, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	const calls = 4
	for i := range calls {
		go func() {
			defer func() { ended <- struct{}{} }()
			for busy.Err() == nil {
				if l, err := m.Acquire(busy, "busy "+itoa(int64(i)), longTTL); err == nil {
					_ = l.Release(busy)
				}
			}
		}()
	}
	ctx, stop := context.WithTimeout(t.Context(), patience)
	defer stop()
	l, err := m.AcquireWait(ctx, "job", longTTL)
	cancel()
	for range calls {
		<-ended
	}
	require.NoError(t, err)
	// The master may owe so much still that it is not asked for a moment.
	require.Eventually(t, func() bool { return l.Release(t.Context()) == nil }, patience, tick)
}
