package lock_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/lock"
)

// TestRefreshWaitsForAStraggler: one of three has lost the lock when another one is about to grant it. Two of three have it.
func TestRefreshWaitsForAStraggler(t *testing.T) {
	t.Parallel()
	servers, proxies, clients := proxied(t)
	m := newManager(t, nil, lock.WithNodes(clients...), lock.WithRenewal(false))
	warmUp(t, m)
	proxies[0].SetLatency(100 * time.Millisecond)
	l := acquire(t, m, "job", longTTL)
	require.NoError(t, servers[2].Client(t).Del(t.Context(), "cache:lock:{job}").Err())
	require.NoError(t, l.Refresh(t.Context()))
	assert.True(t, l.IsHeld())
}

// TestFailedRefreshIsMended: one of three has lost the lock, and another one refuses to extend it. Refresh fails, and the first
// has the lock again all the same, though it is not renewed.
func TestFailedRefreshIsMended(t *testing.T) {
	t.Parallel()
	const ttl = 9 * time.Second
	servers, proxies, clients := proxied(t)
	m := newManager(t, nil, lock.WithNodes(clients...), lock.WithRenewal(false), lock.WithNodeTimeout(300*time.Millisecond))
	warmUp(t, m)
	l := acquire(t, m, "job", ttl)
	everywhere(t, servers, true)
	hold(ttl/3 + 200*time.Millisecond) // nothing is planned any more from when it was granted
	admin := servers[2].Client(t)
	require.NoError(t, admin.Del(t.Context(), "cache:lock:{job}").Err())
	proxies[1].Refuse(true)
	proxies[1].Cut()
	require.ErrorIs(t, l.Refresh(t.Context()), lock.ErrRedis)
	proxies[1].Refuse(false)
	require.Eventually(t, func() bool { return admin.Exists(t.Context(), "cache:lock:{job}").Val() == 1 }, ttl, tick)
	assert.True(t, l.IsHeld())
}
