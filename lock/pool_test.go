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
	"github.com/compozy/cache/lock"
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
			var locks []*lock.RedisLock
			for i := range 20 {
				locks = append(locks, acquire(t, m, "job "+itoa(int64(i)), ttl))
			}
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
			end := time.Now().Add(2 * ttl)
			for _, l := range locks {
				require.Eventually(t, func() bool { return !l.IsHeld() || l.Until().After(end) }, patience, tick)
				assert.True(t, l.IsHeld(), "%v", l)
			}
			assert.Zero(t, m.GetMetrics().LostExpired)
		})
	}
}
