package lock_test

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/faultproxy"
	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/lock"
)

// extended waits until the end of a lock has moved. It reports false if the lock is lost.
func extended(t *testing.T, l *lock.RedisLock) bool {
	t.Helper()
	before := l.Until()
	require.Eventually(t, func() bool { return !l.IsHeld() || l.Until().After(before) }, patience, tick)
	return l.IsHeld()
}

// TestSwallowedRenewalsCostNoLock: the network has forgotten the connections on which locks are renewed, and forgets the next
// ones as well.
func TestSwallowedRenewalsCostNoLock(t *testing.T) {
	t.Parallel()
	onOneAndThree(t, func(t *testing.T, count int) { //nolint:thelper // a test
		for ttl, swallowed := range map[time.Duration]int{time.Second: 1, 2 * time.Second: 2, 3 * time.Second: 2, 4 * time.Second: 2} {
			t.Run(ttl.String(), func(t *testing.T) {
				t.Parallel()
				servers := redistest.StartN(t, count)
				nets, clients := make([]*lateNet, count), make([]redis.UniversalClient, count)
				for i, s := range servers {
					nets[i] = new(lateNet)
					client, ok := nets[i].client(t, s).(*redis.Client)
					require.True(t, ok)
					client.Options().ReadTimeout = patience // it does not find out by itself
					clients[i] = client
				}
				m := managerOn(t, clients)
				warm := acquire(t, m, "warm", 600*time.Millisecond)
				renewed(t, m) // the connections are open
				require.NoError(t, warm.Release(t.Context()))
				for _, n := range nets {
					left := swallowed
					n.holding(func(kind string) bool {
						if kind == "extend" {
							left--
						}
						return kind == "extend" && left >= 0
					})
				}
				l := acquire(t, m, "job", ttl)
				require.True(t, extended(t, l))
				require.NoError(t, l.Release(t.Context()))
				for _, n := range nets {
					n.deliver(t)
				}
			})
		}
	})
}

// TestShortTTLOnAFarLink: renewals have less time there than it takes to open their connection.
func TestShortTTLOnAFarLink(t *testing.T) {
	t.Parallel()
	undisturbed(t, true, func() bool {
		server, near := setup(t)
		require.NoError(t, acquire(t, near, "warm", longTTL).Release(t.Context())) // the server knows the script
		proxy := faultproxy.New(t, server.Addr())
		m := newManager(t, newClient(t, proxy.Addr()))
		require.NoError(t, m.HealthCheck(t.Context()))
		proxy.SetLatency(100 * time.Millisecond)
		l := acquire(t, m, "job", time.Second)
		for range 3 {
			if !extended(t, l) {
				return false
			}
		}
		return true
	})
}
