package lock_test

import (
	"fmt"
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

// TestFailedRenewalsCostNoLockWithAMasterDown: one of three has been down for a while, and two renewals fail on another one. They
// are repeated without waiting for the one that is down.
func TestFailedRenewalsCostNoLockWithAMasterDown(t *testing.T) {
	t.Parallel()
	for name, down := range map[string]func(*redistest.Server){"killed": (*redistest.Server).Kill, "hung": (*redistest.Server).Stop} {
		for failure, fail := range map[string]func(*testing.T, *lateNet, *redis.Client){
			"swallowed": func(_ *testing.T, n *lateNet, _ *redis.Client) {
				left := 2
				n.holding(func(kind string) bool {
					if kind == "extend" {
						left--
					}
					return kind == "extend" && left >= 0
				})
			},
			"refused": func(t *testing.T, _ *lateNet, admin *redis.Client) {
				t.Helper()
				require.NoError(t, admin.Do(t.Context(), "ACL", "SETUSER", "default", "-pexpire").Err())
				require.Eventually(t, func() bool { return denied(t, admin) >= 2 }, patience, tick)
				require.NoError(t, admin.Do(t.Context(), "ACL", "SETUSER", "default", "+pexpire").Err())
			},
		} {
			t.Run(name+" "+failure, func(t *testing.T) {
				t.Parallel()
				servers, net := redistest.StartN(t, 3), new(lateNet)
				clients := clientsOf(t, servers)
				client, ok := net.client(t, servers[1]).(*redis.Client)
				require.True(t, ok)
				client.Options().ReadTimeout = patience // it does not find out by itself
				clients[1] = client
				l := acquire(t, newManager(t, nil, lock.WithNodes(clients...)), "job", 3*time.Second)
				require.True(t, extended(t, l))
				down(servers[2])
				require.True(t, extended(t, l))
				require.True(t, extended(t, l), "no connection to it is left")
				fail(t, net, servers[1].Client(t))
				require.True(t, extended(t, l))
			})
		}
	}
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
		var locks []*lock.RedisLock
		for i := range 6 {
			locks = append(locks, acquire(t, m, fmt.Sprint(i), 1500*time.Millisecond))
		}
		for range 3 {
			for _, l := range locks {
				if !extended(t, l) {
					return false
				}
			}
		}
		return true
	})
}
