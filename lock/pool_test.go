package lock_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
)

// TestApplicationThatBlocksItsPoolLosesNoLock: all connections wait for lists that stay empty.
func TestApplicationThatBlocksItsPoolLosesNoLock(t *testing.T) {
	t.Parallel()
	const size = 10
	for name, start := range map[string]func(t *testing.T) (clients []redis.UniversalClient){
		"server": func(t *testing.T) []redis.UniversalClient {
			t.Helper()
			return []redis.UniversalClient{
				redis.NewClient(&redis.Options{Addr: redistest.Start(t).Addr(), PoolSize: size, ContextTimeoutEnabled: true}),
			}
		},
		"three masters": func(t *testing.T) (clients []redis.UniversalClient) {
			t.Helper()
			for _, s := range redistest.StartN(t, 3) {
				clients = append(clients, redis.NewClient(&redis.Options{Addr: s.Addr(), PoolSize: size, ContextTimeoutEnabled: true}))
			}
			return clients
		},
		"sentinel": func(t *testing.T) []redis.UniversalClient {
			t.Helper()
			s := redistest.StartSentinel(t)
			return []redis.UniversalClient{redis.NewFailoverClient(&redis.FailoverOptions{
				MasterName: s.MasterName(), SentinelAddrs: s.Addrs(), PoolSize: size, ContextTimeoutEnabled: true,
			})}
		},
		"cluster": func(t *testing.T) []redis.UniversalClient {
			t.Helper()
			return []redis.UniversalClient{redis.NewClusterClient(&redis.ClusterOptions{
				Addrs: redistest.StartCluster(t, 3).Addrs(), PoolSize: size, ContextTimeoutEnabled: true,
			})}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			clients := start(t)
			for _, c := range clients {
				t.Cleanup(func() { _ = c.Close() })
			}
			m := managerOn(t, clients)
			const ttl = 6 * time.Second
			locks := acquireMany(t, m, 20, ttl)
			ctx, cancel := context.WithCancel(t.Context())
			var blocked sync.WaitGroup
			defer blocked.Wait()
			defer cancel()
			const block = 15 * time.Second // longer than the rest takes
			for _, c := range clients {
				for range size {
					for i := range 12 { // a cluster has several masters, of which all are to be blocked
						blocked.Go(func() {
							for ctx.Err() == nil {
								_ = c.BLPop(ctx, block, "list {job "+itoa(int64(i))+"}").Err()
							}
						})
					}
				}
			}
			for _, c := range clients {
				require.Eventually(t, func() bool { return c.PoolStats().TotalConns >= size }, patience, tick)
			}
			outlive(t, ttl, locks...)
			assert.Zero(t, m.GetMetrics().LostExpired)
		})
	}
}

// TestStallWhileTheApplicationBlocksItsPool: a renewal that hangs as it opens a connection is repeated on the application's
// client, which has none to give either. There is time left to open another one.
func TestStallWhileTheApplicationBlocksItsPool(t *testing.T) {
	t.Parallel()
	const size, ttl = 4, 4 * time.Second
	for name, stalling := range map[string]func(*redistest.Sentinel) []*redistest.Server{
		"master":    func(s *redistest.Sentinel) []*redistest.Server { return []*redistest.Server{s.Master()} },
		"sentinels": (*redistest.Sentinel).Sentinels,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := redistest.StartSentinel(t)
			for _, server := range s.Sentinels() { // a stall is no reason for a failover
				set := server.Client(t).Do(t.Context(), "SENTINEL", "SET", s.MasterName(), "down-after-milliseconds", "60000")
				require.NoError(t, set.Err())
			}
			c := redis.NewFailoverClient(&redis.FailoverOptions{
				MasterName: s.MasterName(), SentinelAddrs: s.Addrs(), PoolSize: size, ContextTimeoutEnabled: true,
			})
			m := newManager(t, c)
			l := acquire(t, m, "job", ttl)
			ctx, cancel := context.WithCancel(t.Context())
			var blocked sync.WaitGroup
			defer blocked.Wait()
			defer func() { _ = c.Close() }()
			defer cancel()
			for range size {
				blocked.Go(func() {
					for ctx.Err() == nil {
						_ = c.BLPop(ctx, patience, "list").Err()
					}
				})
			}
			require.Eventually(t, func() bool {
				stats := c.PoolStats()
				return stats.TotalConns == size && stats.IdleConns == 0
			}, patience, tick)
			renewed(t, m)
			stalled := stalling(s)
			for _, server := range stalled {
				server.Stop()
				t.Cleanup(server.Continue)
			}
			failed := m.GetMetrics().RenewalsFailed
			require.Eventually(t, func() bool { return m.GetMetrics().RenewalsFailed > failed }, patience, tick)
			for _, server := range stalled {
				server.Continue()
			}
			outlive(t, ttl, l)
		})
	}
}
