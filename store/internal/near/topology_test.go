package near_test

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/client"
	"github.com/compozy/cache/config"
	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/store/internal/near"
)

// toCluster returns go-redis' own client for a cluster.
func toCluster(t *testing.T, c *redistest.Cluster, adjust ...func(*redis.ClusterOptions)) *redis.ClusterClient {
	t.Helper()
	options := &redis.ClusterOptions{
		Addrs: c.Addrs(), ContextTimeoutEnabled: true, DialTimeout: time.Second, ReadTimeout: time.Second,
	}
	for _, change := range adjust {
		change(options)
	}
	cluster := redis.NewClusterClient(options)
	t.Cleanup(func() { _ = cluster.Close() })
	return cluster
}

// toSentinel returns go-redis' own client for Sentinel.
func toSentinel(t *testing.T, s *redistest.Sentinel) *redis.Client {
	t.Helper()
	c := redis.NewFailoverClient(&redis.FailoverOptions{
		MasterName: s.MasterName(), SentinelAddrs: s.Addrs(), ContextTimeoutEnabled: true, DialTimeout: time.Second,
	})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// allKeys returns keys in many slots.
func allKeys() (keys []string) {
	for i := range 40 {
		keys = append(keys, key(i))
	}
	return keys
}

// hears asserts that values of all keys are served, and that changes of each are heard.
func (b *bundle) hears() {
	b.t.Helper()
	b.up()
	keys := allKeys()
	b.fill(keys...)
	for _, k := range keys {
		require.Eventually(b.t, func() bool {
			return b.client.Set(b.t.Context(), k, "changed", 0).Err() == nil
		}, patience, tick, "a failover is over soon")
	}
	b.gone("change", keys...)
}

func TestCluster(t *testing.T) {
	t.Parallel()
	c := redistest.StartCluster(t, 3, redistest.WithReplicas(1))
	b := start(t, toCluster(t, c), nil)
	b.hears()
	assert.Equal(t, 3, b.tracker.Status().Masters)
	flushes := b.tracker.Status().Flushes
	b.fill(allKeys()...)

	// The replica takes over; nothing breaks.
	c.Failover(t, key(1))
	require.Eventually(t, func() bool { return b.tracker.Status().Flushes > flushes }, patience, tick)
	b.hears()
	assert.Equal(t, 3, b.tracker.Status().Masters)

	b.fill(allKeys()...)
	c.KillMasterOf(t, key(1))
	b.gone("a master died", allKeys()...)
	b.hears()
	assert.Equal(t, 3, b.tracker.Status().Masters)
}

// A node without slots is given one: there is a master more, and no other has lost its place.
func TestNewMaster(t *testing.T) {
	t.Parallel()
	c := redistest.StartCluster(t, 3, redistest.WithConfig("cluster-allow-replica-migration", "no"))
	nodes := c.Nodes()
	id, err := nodes[0].Client(t).ClusterMyID(t.Context()).Result()
	require.NoError(t, err)
	// The last one gives all of its slots to the first. A message under way from one that still had them may undo that.
	const slots, masters = 16384, 3
	require.Eventually(t, func() bool {
		agreed := true
		for _, node := range []*redistest.Server{nodes[2], nodes[0], nodes[1]} {
			admin := node.Client(t)
			_, err := admin.Pipelined(t.Context(), func(p redis.Pipeliner) error {
				for slot := slots*2/masters - 1; slot < slots; slot++ {
					p.Do(t.Context(), "cluster", "setslot", slot, "node", id)
				}
				return nil
			})
			if err != nil {
				return false
			}
			if node == nodes[0] {
				admin.Do(t.Context(), "cluster", "bumpepoch")
			}
		}
		pause(t.Context(), 2*time.Second) // longer than messages take
		for _, node := range nodes {
			info, err := node.Client(t).ClusterInfo(t.Context()).Result()
			agreed = agreed && err == nil && strings.Contains(info, "cluster_size:2\r\n")
		}
		return agreed
	}, patience, tick)
	b := start(t, toCluster(t, c), nil)
	b.hears()
	require.Equal(t, 2, b.tracker.Status().Masters)
	k := ""
	for i := 0; k == "" || c.MasterOf(t, k) != nodes[0]; i++ {
		k = key(i)
	}
	b.fill(k)
	c.MoveSlot(t, k, nodes[2], nil)
	require.Eventually(t, func() bool { return b.tracker.Status().Masters == masters }, patience, tick)
	b.hears()
	b.fill(k)
	require.NoError(t, nodes[2].Client(t).Set(t.Context(), k, "there", 0).Err())
	b.gone("change on the new master", k)
}

// The application reads and writes while slots move between masters.
func TestBoundWhileSlotsMove(t *testing.T) {
	t.Parallel()
	c := redistest.StartCluster(t, 2)
	app := toCluster(t, c)
	b := start(t, app, bounded)
	b.up()
	m := newModel()
	oldest, hits := m.run(b, toCluster(t, c), func() {
		for i := range 5 {
			b.flowing()
			to := c.Nodes()[0]
			if to == c.MasterOf(t, key(i)) {
				to = c.Nodes()[1]
			}
			c.MoveSlot(t, key(i), to, func() { pause(t.Context(), bound/4) })
		}
		b.flowing()
	})
	t.Logf("oldest %v of %d hits", oldest, hits)
	assert.LessOrEqual(t, oldest, bound)
	assert.Greater(t, hits, int64(500))
	b.hears()
}

// Masters change their places with replicas while the application reads and writes.
func TestBoundUnderClusterFailovers(t *testing.T) {
	t.Parallel()
	c := redistest.StartCluster(t, 3, redistest.WithReplicas(1))
	b := start(t, toCluster(t, c), bounded)
	b.up()
	m := newModel()
	oldest, hits := m.run(b, toCluster(t, c), func() {
		for i := range 4 {
			b.flowing()
			c.Failover(t, key(i))
		}
		b.flowing()
		c.KillMasterOf(t, key(0))
		b.flowing()
	})
	t.Logf("oldest %v of %d hits", oldest, hits)
	assert.LessOrEqual(t, oldest, bound)
	assert.Greater(t, hits, int64(500))
}

// A cluster in which one master does not answer serves nothing, and what it serves later is right.
func TestClusterWithFrozenMaster(t *testing.T) {
	t.Parallel()
	c := redistest.StartCluster(t, 2)
	b := start(t, toCluster(t, c), bounded)
	b.up()
	b.fill(key(1), key(2), key(3))
	frozen := c.Nodes()[0]
	frozen.Stop()
	b.gone("a master is silent", key(1), key(2), key(3))
	frozen.Continue()
	b.hears()
}

// named returns the address of the master that a sentinel names.
func named(t *testing.T, s *redistest.Sentinel) string {
	t.Helper()
	addr, err := s.Sentinels()[0].Client(t).Do(t.Context(), "sentinel", "get-master-addr-by-name", s.MasterName()).StringSlice()
	require.NoError(t, err)
	return net.JoinHostPort(addr[0], addr[1])
}

func TestSentinel(t *testing.T) {
	t.Parallel()
	s := redistest.StartSentinel(t)
	b := start(t, toSentinel(t, s), nil)
	b.hears()
	flushes := b.tracker.Status().Flushes
	b.fill(key(1))
	s.Failover(t)
	require.Eventually(t, func() bool { return b.tracker.Status().Flushes > flushes }, patience, tick)
	b.hears()
	b.fill(key(1))
	s.KillMaster(t)
	b.gone("the master died", key(1))
	b.hears()
}

// A server that becomes a replica keeps its connections, and may hear of changes late or never.
func TestDemotion(t *testing.T) {
	t.Parallel()
	servers := redistest.StartN(t, 2)
	b := start(t, newClient(t, servers[0].Addr()), func(s *near.CacheSettings) { s.MaxStaleness = time.Second })
	b.up()
	b.fill(key(1))
	admin := servers[0].Client(t)
	require.NoError(t, admin.Do(t.Context(), "replicaof", servers[1].Host(), servers[1].Port()).Err())
	require.Eventually(t, func() bool { return b.tracker.Status().Cause != nil }, patience, tick)
	assert.False(t, b.tracker.Status().Up)
	_, hit := b.cache.Get(key(1))
	assert.False(t, hit)
	require.ErrorContains(t, b.tracker.Status().Cause, "no master any more")
	assert.False(t, b.cache.Put(b.cache.Begin(key(1)), key(1), "v", 1, time.Hour))
	require.NoError(t, admin.Do(t.Context(), "replicaof", "no", "one").Err())
	b.hears()
}

// A master that was replaced while it could not answer wakes up, and does not know yet. A session that was quick to see
// that it answers again must see that sentinels name another.
func TestSentinelMasterThatComesBack(t *testing.T) {
	t.Parallel()
	s := redistest.StartSentinel(t)
	b := start(t, toSentinel(t, s), nil)
	b.up()
	b.fill(key(1))
	former := s.Master()
	admin := former.Client(t)
	require.NoError(t, admin.Ping(t.Context()).Err())
	// Sentinels cannot order it to become a replica, nor to kill its clients.
	for _, user := range []string{"slaveof", "replicaof", "client|kill", "multi", "config|rewrite"} {
		require.NoError(t, admin.Do(t.Context(), "acl", "setuser", "default", "-"+user).Err())
	}
	former.Stop()
	require.Eventually(t, func() bool { return named(t, s) != former.Addr() }, patience, tick)
	former.Continue()
	require.NoError(t, admin.Ping(t.Context()).Err(), "its connections are what they were")
	b.gone("another is the master", key(1))
	require.Eventually(t, func() bool {
		st := b.tracker.Status()
		return st.Up && len(tracking(t, newClient(t, named(t, s)))) == 1
	}, patience, 20*time.Millisecond)
	assert.Empty(t, tracking(t, admin))
}

// The client of package client opens no connection before Open, and its guards hold for those of the tracker.
func TestGuardedClients(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.WithPassword("secret"))
	sentinel := redistest.StartSentinel(t, redistest.WithPassword("secret"), redistest.WithSentinelPassword("hidden"))
	cluster := redistest.StartCluster(t, 2, redistest.WithPassword("secret"))
	for name, change := range map[string]func(*config.Config){
		"single": func(c *config.Config) { c.URL = server.URL() },
		"sentinel": func(c *config.Config) {
			c.MasterName, c.Addrs, c.SentinelPassword = sentinel.MasterName(), sentinel.Addrs(), "hidden"
		},
		"cluster": func(c *config.Config) { c.Cluster, c.Addrs = true, cluster.Addrs() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := config.Default()
			cfg.Password = "secret"
			cfg.Protocol = 2
			change(cfg)
			r, err := client.New(cfg)
			require.NoError(t, err)
			t.Cleanup(func() { _ = r.Close() })
			b := start(t, r, nil)
			require.Eventually(t, func() bool { return b.tracker.Status().Cause != nil }, patience, tick)
			require.ErrorIs(t, b.tracker.Status().Cause, client.ErrNotStarted)
			r.Open()
			b.hears()
			assert.False(t, b.tracker.Status().Published)
			require.NoError(t, r.Close())
			b.gone("the client was closed", allKeys()...)
			require.Eventually(t, func() bool {
				cause := b.tracker.Status().Cause
				return cause != nil && !contains(cause.Error(), 0)
			}, patience, tick)
			for _, secret := range []string{"secret", "hidden"} {
				assert.NotContains(t, b.tracker.Status().Cause.Error(), secret)
			}
		})
	}
}

// The application's pool is of no concern.
func TestBusyPools(t *testing.T) {
	t.Parallel()
	c := redistest.StartCluster(t, 1)
	server := redistest.Start(t)
	single := redis.NewClient(&redis.Options{Addr: server.Addr(), PoolSize: 1})
	t.Cleanup(func() { _ = single.Close() })
	cluster := toCluster(t, c, func(o *redis.ClusterOptions) { o.PoolSize = 1 })
	for client, node := range map[redis.UniversalClient]*redistest.Server{single: server, cluster: c.Nodes()[0]} {
		require.NoError(t, client.Ping(t.Context()).Err())
		admin := node.Client(t)
		go client.BLPop(t.Context(), 0, "nothing")
		t.Cleanup(func() { admin.LPush(t.Context(), "nothing", 1) })
		require.Eventually(t, func() bool {
			list, err := admin.ClientList(t.Context()).Result()
			require.NoError(t, err)
			for _, fields := range lines(list) {
				if fields["cmd"] == "blpop" {
					return true
				}
			}
			return false
		}, patience, tick)
		b := start(t, client, nil)
		b.up()
		require.Len(t, tracking(t, admin), 1)
		stats := client.PoolStats()
		assert.Zero(t, stats.WaitCount+stats.Timeouts, "nobody asked the application's pool")
	}
}
