package lock_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/faultproxy"
	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/lock"
)

// renewed returns when a manager has renewed a lock since it was asked, and so has its own connections.
func renewed(t *testing.T, m *lock.RedisLockManager) {
	t.Helper()
	before := m.GetMetrics().RenewalsTotal
	require.Eventually(t, func() bool { return m.GetMetrics().RenewalsTotal > before }, patience, tick)
}

// TestStoppedMasterIsNotAskedToExtend: it has not answered the acquire when the lock is renewed, and may execute both when
// the lock was released long ago. What it sets then ends soon.
func TestStoppedMasterIsNotAskedToExtend(t *testing.T) {
	t.Parallel()
	servers := redistest.StartN(t, 3)
	var clients []redis.UniversalClient
	for _, s := range servers {
		clients = append(clients, newClient(t, s.Addr()))
	}
	m := newManager(t, nil, lock.WithNodes(clients...))
	warm := acquire(t, m, "warm", time.Second)
	renewed(t, m)
	require.NoError(t, warm.Release(t.Context()))
	servers[2].Stop()
	l := acquire(t, m, "job", time.Hour)
	renewed(t, m)
	require.NoError(t, l.Release(t.Context()))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	require.NoError(t, m.Close(ctx))
	servers[2].Continue()
	admin := servers[2].Client(t)
	require.Eventually(t, func() bool { return admin.Ping(t.Context()).Err() == nil }, patience, tick)
	for end := time.Now().Add(300 * time.Millisecond); time.Now().Before(end); hold(tick) { // its backlog is executed
		assert.LessOrEqual(t, admin.PTTL(t.Context(), "cache:lock:{job}").Val(), 10*time.Second)
	}
}

// TestLateAcquireAndRenewal: both were held up, and arrive after the release that followed their repetitions.
func TestLateAcquireAndRenewal(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	proxy := faultproxy.New(t, server.Addr())
	m := newManager(t, newClient(t, proxy.Addr()))
	warm := acquire(t, m, "warm", time.Second)
	renewed(t, m)
	require.NoError(t, warm.Release(t.Context()))
	let := proxy.HoldToServer()
	l := acquire(t, m, "job", time.Hour)
	renewed(t, m)
	require.NoError(t, l.Release(t.Context()))
	hold(3 * time.Second) // longer than what is uncertain is usually looked for
	let()
	admin := server.Client(t)
	for end := time.Now().Add(300 * time.Millisecond); time.Now().Before(end); hold(tick) {
		admin.PTTL(t.Context(), "cache:lock:{job}")
	}
	require.Eventually(t, func() bool { return admin.Exists(t.Context(), "cache:lock:{job}").Val() == 0 }, patience, tick)
}

// TestHoldAtLeastEndsInTime: Redis is away when the lock is released, and what is left counts from the acquisition.
func TestHoldAtLeastEndsInTime(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	proxy := faultproxy.New(t, server.Addr())
	m := newManager(t, newClient(t, proxy.Addr()), lock.WithNodeTimeout(300*time.Millisecond))
	const least = 8 * time.Second
	l, err := m.With(lock.WithHoldAtLeast(least)).TryAcquire(t.Context(), "job", time.Hour)
	require.NoError(t, err)
	end := time.Now().Add(least)
	require.NoError(t, l.Refresh(t.Context()))
	proxy.Refuse(true)
	proxy.Cut()
	require.ErrorIs(t, l.Release(t.Context()), lock.ErrRedis)
	hold(4 * time.Second)
	proxy.Refuse(false)
	admin := server.Client(t)
	left := func() time.Duration { return admin.PTTL(t.Context(), "cache:lock:{job}").Val() }
	require.Eventually(t, func() bool { return left() < time.Minute }, patience, tick)
	assert.LessOrEqual(t, left(), time.Until(end)+2500*time.Millisecond, "and how long a command waits for a connection")
}

// TestCloseOfManyLocksOverAFarLink: it goes on as long as it makes progress.
func TestCloseOfManyLocksOverAFarLink(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	proxy := faultproxy.New(t, server.Addr())
	m := newManager(t, newClient(t, proxy.Addr()), lock.WithNodeTimeout(500*time.Millisecond))
	const count, callers = 12_000, 100
	var all sync.WaitGroup
	for caller := range callers {
		all.Go(func() {
			for i := caller; i < count; i += callers {
				_, err := m.Acquire(t.Context(), fmt.Sprint("job ", i), time.Hour)
				assert.NoError(t, err)
			}
		})
	}
	all.Wait()
	proxy.SetLatency(40 * time.Millisecond) // 24 round trips take two seconds
	require.NoError(t, m.Close(t.Context()))
	assert.Empty(t, server.Client(t).Keys(t.Context(), "cache:lock:{*}").Val())
	assert.Zero(t, m.GetMetrics().ReleasesFailed)
	assert.Equal(t, int64(count), m.GetMetrics().ReleasesTotal)
}
