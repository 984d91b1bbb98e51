package lock_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/lock"
)

// queued has as many processes' worth of waiters wait for "job", which is taken, until the test ends.
func queued(t *testing.T, servers []*redistest.Server, count int, newManager func(...lock.Option) *lock.RedisLockManager,
	opts ...lock.Option,
) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var waiters sync.WaitGroup
	for range count {
		m := newManager(opts...)
		waiters.Go(func() {
			_, err := m.AcquireWait(ctx, "job", longTTL)
			assert.ErrorIs(t, err, context.Canceled)
		})
	}
	t.Cleanup(func() {
		cancel()
		waiters.Wait()
	})
	for _, s := range servers {
		length := queueLength(t, s)
		require.Eventually(t, func() bool { return length() == int64(count) }, patience, tick)
	}
}

// requireQuiet returns when the server is asked less often in some seconds than there are waiters, once these have heard of
// what has changed: on a busy machine that may take a while.
func requireQuiet(t *testing.T, server *redistest.Server, waiters int64) {
	t.Helper()
	var counts []int64
	for range 5 {
		server.ResetCommands(t)
		hold(5 * time.Second)
		commands := server.Commands(t)
		counts = append(counts, commands["evalsha"]+commands["eval"])
		if counts[len(counts)-1] < waiters {
			return
		}
	}
	require.Fail(t, "they do not stop asking", "%v", counts)
}

// TestWaitersAreQuietWithAMasterDown: a majority lets them know of a release. Only one of them asks at a time.
func TestWaitersAreQuietWithAMasterDown(t *testing.T) {
	t.Parallel()
	const waiters = 20
	servers, newManager := setupNodes(t)
	acquire(t, newManager(), "job", longTTL)
	core, logs := observer.New(zap.InfoLevel)
	queued(t, servers, waiters, newManager, lock.WithLogger(zap.New(core)))
	deaf := func() int { return logs.FilterMessageSnippet("cannot hear").Len() }
	servers[2].Kill()
	requireQuiet(t, servers[0], waiters)
	assert.Zero(t, deaf())
	servers[1].Kill()
	require.Eventually(t, func() bool { return deaf() == waiters }, patience, tick, "there is no majority to hear of")
	servers[1].Restart()
	require.Eventually(t, func() bool { return logs.FilterMessageSnippet("hear of releases again").Len() == waiters }, patience, tick)
}

// TestWaitersAreQuietWhereAMasterLacksTheLock: it grants the lock to whoever asks, before two others refuse.
func TestWaitersAreQuietWhereAMasterLacksTheLock(t *testing.T) {
	t.Parallel()
	const waiters, ttl = 10, time.Hour
	servers, proxies, clients := proxied(t)
	newManager := func(...lock.Option) *lock.RedisLockManager { return newManager(t, nil, lock.WithNodes(clients...)) }
	l := acquire(t, newManager(), "job", ttl)
	require.Eventually(t, func() bool { return time.Until(l.Until()) > ttl/2 }, patience, tick, "the next renewal is far")
	queued(t, servers, waiters, newManager)
	require.NoError(t, servers[2].Client(t).Del(t.Context(), "cache:lock:{job}").Err())
	proxies[0].SetLatency(2 * time.Millisecond)
	proxies[1].SetLatency(2 * time.Millisecond)
	requireQuiet(t, servers[0], waiters)
	require.NoError(t, l.Release(t.Context()))
}
