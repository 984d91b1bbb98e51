package lock_test

import (
	"context"
	"net"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/embedded"
	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/lock"
)

// spread returns how far apart the last confirmations of locks are, leaving out the first and the last tenth.
func spread(locks []*lock.RedisLock) time.Duration {
	untils := make([]time.Time, len(locks))
	for i, l := range locks {
		untils[i] = l.Until()
	}
	slices.SortFunc(untils, time.Time.Compare)
	return untils[len(untils)*9/10].Sub(untils[len(untils)/10])
}

// together returns how many locks at most were confirmed within some time.
func together(locks []*lock.RedisLock, window time.Duration) (most int) {
	for _, first := range locks {
		count := 0
		for _, l := range locks {
			if after := l.Until().Sub(first.Until()); after >= 0 && after < window {
				count++
			}
		}
		most = max(most, count)
	}
	return most
}

// TestRenewalsDoNotFallIntoStep: after a pause, in which all of them became due, they go together, once.
func TestRenewalsDoNotFallIntoStep(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, _ *embedded.Server, client *redis.Client) { //nolint:thelper // a test
		var hung atomic.Bool
		dial := client.Options().Dialer
		client.Options().Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
			c, err := dial(ctx, network, addr)
			return &hangingConn{Conn: c, hung: &hung}, err
		}
		m, err := lock.NewRedisLockManager(client, lock.WithNodeTimeout(time.Second))
		require.NoError(t, err)
		defer func() { _ = m.Close(t.Context()) }()
		const count, ttl = 200, 30 * time.Second
		locks := make([]*lock.RedisLock, count)
		for i := range locks {
			locks[i] = acquire(t, m, "job "+itoa(int64(i)), ttl)
			time.Sleep(ttl / 3 / count) // in a bubble: they are taken at any time
		}
		time.Sleep(ttl) // in a bubble: each has been renewed
		for range 3 {
			hung.Store(true)
			time.Sleep(ttl / 2) // in a bubble
			hung.Store(false)
			time.Sleep(2 * time.Second) // in a bubble: those that failed have gone again
			assert.Zero(t, m.GetMetrics().LostExpired)
			time.Sleep(ttl / 3) // in a bubble
			assert.Less(t, together(locks, 100*time.Millisecond), count/4)
		}
	})
}

// TestRenewalsAfterAStopOfTheServer: the same on a real one.
func TestRenewalsAfterAStopOfTheServer(t *testing.T) {
	t.Parallel()
	server, m := setup(t)
	const count, ttl = 200, 9 * time.Second
	locks := make([]*lock.RedisLock, count)
	for i := range locks {
		locks[i] = acquire(t, m, "job "+itoa(int64(i)), ttl)
	}
	renewals := func() int64 { return m.GetMetrics().RenewalsTotal - m.GetMetrics().RenewalsFailed }
	require.Eventually(t, func() bool { return renewals() >= count }, patience, tick)
	stopUntilDue(t, server, locks)
	before := renewals()
	require.Eventually(t, func() bool { return renewals() >= before+count }, patience, tick)
	together := spread(locks)
	before = renewals()
	require.Eventually(t, func() bool { return renewals() >= before+2*count }, patience, tick)
	t.Logf("apart by %v, later by %v", together, spread(locks))
	assert.Greater(t, spread(locks), ttl/100)
	assert.Zero(t, m.GetMetrics().LostExpired)
}

// stopUntilDue stops a server until the renewals of all locks are due.
func stopUntilDue(t *testing.T, server *redistest.Server, locks []*lock.RedisLock) {
	t.Helper()
	server.Stop()
	defer server.Continue()
	for _, l := range locks {
		require.Eventually(t, func() bool { return time.Until(l.Until()) < 5*time.Second }, patience, tick)
	}
}
