package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/config"
	"github.com/compozy/cache/internal/redistest"
)

func TestSentinel(t *testing.T) {
	t.Parallel()
	set := redistest.StartSentinel(t, redistest.WithPassword("pw"), redistest.WithSentinelPassword("spw"))
	cfg := &config.Config{
		MasterName: set.MasterName(), Addrs: set.Addrs(), Password: "pw", SentinelPassword: "spw",
		DialTimeout: time.Second, PingTimeout: 3 * time.Second,
	}
	r := ready(t, cfg)
	require.Equal(t, "sentinel", r.Mode())
	works(t, r)
	eventually(t, func() bool { return r.PoolStats().IdleConns >= 2 }, "idle connections opened in advance")

	set.Failover(t)
	eventually(t, func() bool {
		return r.Set(within(t, time.Second), "k", "v", 0).Err() == nil && r.HealthCheck(t.Context()) == nil
	}, "follows the master")
	works(t, r)

	set.KillMaster(t)
	eventually(t, func() bool { return r.HealthCheck(t.Context()) == nil }, "follows the next master")
	works(t, r)

	wrong := *cfg
	wrong.SentinelPassword = "hunter2"
	_, err := NewRedis(within(t, patience), &wrong)
	require.ErrorIs(t, err, ErrAuth)
	require.NotContains(t, err.Error(), "hunter2")
	wrong = *cfg
	wrong.DB = 99
	_, err = NewRedis(within(t, patience), &wrong)
	require.ErrorContains(t, err, "check DB (REDIS_DB) (ERR DB index is out of range)")
	wrong = *cfg
	wrong.Password = "hunter2"
	_, err = NewRedis(within(t, patience), &wrong)
	require.ErrorIs(t, err, ErrAuth)
	require.ErrorContains(t, err, "check Username (REDIS_USERNAME) and Password (REDIS_PASSWORD) (WRONGPASS ")
	require.NotContains(t, err.Error(), "hunter2")
}

func TestSentinelDown(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	srv.Kill()
	_, err := NewRedis(within(t, refusal), &config.Config{MasterName: "m", Addrs: []string{srv.Addr()}})
	require.ErrorIs(t, err, ErrUnreachable)
	require.ErrorContains(t, err, srv.Addr())
	require.ErrorContains(t, err, "connection refused")
}

func TestCluster(t *testing.T) {
	t.Parallel()
	set := redistest.StartCluster(t, 3, redistest.WithReplicas(1), redistest.WithPassword("pw"))
	r := ready(t, &config.Config{
		Cluster: true, Addrs: set.Addrs()[:2], Password: "pw", MinIdleConns: 2,
		DialTimeout: time.Second, PingTimeout: 3 * time.Second,
	})
	require.Equal(t, "cluster", r.Mode())
	works(t, r)
	for _, key := range []string{"a", "b", "c", "d"} { // on several nodes
		require.NoError(t, r.Set(within(t, patience), key, key, 0).Err())
	}
	eventually(t, func() bool {
		err := r.UniversalClient.(*redis.ClusterClient).ForEachMaster(t.Context(), func(_ context.Context, c *redis.Client) error {
			if c.PoolStats().IdleConns < 2 {
				return errors.New("too few")
			}
			return nil
		})
		return err == nil
	}, "idle connections to every master")

	sub := r.Subscribe(t.Context(), "ch")
	_, err := sub.Receive(within(t, patience))
	require.NoError(t, err)
	require.NoError(t, sub.Close())

	set.KillMasterOf(t, "a")
	eventually(t, func() bool {
		return r.HealthCheck(t.Context()) == nil && r.Set(within(t, time.Second), "a", "1", 0).Err() == nil
	}, "follows the new master")
}

// One master without a replica is enough to make a Cluster unfit for use.
func TestClusterLosesMaster(t *testing.T) {
	t.Parallel()
	set := redistest.StartCluster(t, 3)
	cfg := &config.Config{Cluster: true, Addrs: set.Addrs(), MinIdleConns: 1}
	r := ready(t, cfg)
	works(t, r)
	brief := *cfg
	brief.PingTimeout = time.Second // for so long the master is waited for
	hasty := ready(t, &brief)
	set.Nodes()[1].Stop()
	err := hasty.HealthCheck(t.Context())
	require.Error(t, err)
	require.True(t, errors.Is(err, ErrUnreachable) || errors.Is(err, ErrClusterDown), err)
	set.Nodes()[1].Continue()
	eventually(t, func() bool { return r.HealthCheck(t.Context()) == nil }, "recovers")
}

func TestClusterWrongPassword(t *testing.T) {
	t.Parallel()
	set := redistest.StartCluster(t, 3, redistest.WithPassword("pw"))
	_, err := NewRedis(within(t, patience), &config.Config{Cluster: true, Addrs: set.Addrs(), Password: "hunter2"})
	require.ErrorIs(t, err, ErrAuth)
	require.NotContains(t, err.Error(), "hunter2")
}

func TestClusterDown(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	srv.Kill()
	_, err := NewRedis(within(t, refusal), &config.Config{Cluster: true, Addrs: []string{srv.Addr()}})
	require.ErrorIs(t, err, ErrUnreachable)
	require.ErrorContains(t, err, srv.Addr())
}

// Nobody serves the keys of one slot, and the others are served nevertheless.
func TestClusterWithoutSomeSlots(t *testing.T) {
	t.Parallel()
	set := redistest.StartCluster(t, 3)
	r := ready(t, &config.Config{Cluster: true, Addrs: set.Addrs()})
	slot := r.ClusterKeySlot(t.Context(), "k").Val()
	for _, node := range set.Nodes() {
		c := node.Client(t)
		require.NoError(t, c.ConfigSet(t.Context(), "cluster-require-full-coverage", "no").Err())
		require.NoError(t, c.ClusterDelSlots(t.Context(), int(slot)).Err())
	}
	for _, c := range []*Redis{r, open(t, &config.Config{Cluster: true, Addrs: set.Addrs()})} {
		err := c.HealthCheck(t.Context())
		require.ErrorIs(t, err, ErrClusterDown)
		require.ErrorContains(t, err, "it does not serve all slots, but 16383 of 16384")
	}
}

// A node that is alone does not know its own address: it is the one that was asked, and not another server on this machine.
func TestClusterNodeWithoutAddress(t *testing.T) {
	t.Parallel()
	srv := redistest.StartCluster(t, 1).Nodes()[0]
	asked := net.JoinHostPort("redis.example", srv.Port())
	var dialed sync.Map
	r := ready(t, &config.Config{Cluster: true, Addrs: []string{asked}, Dialer: func(ctx context.Context, network, addr string) (net.Conn, error) {
		dialed.Store(addr, true)
		return new(net.Dialer).DialContext(ctx, network, srv.Addr())
	}})
	works(t, r)
	dialed.Range(func(addr, _ any) bool { return assert.Equal(t, asked, addr) })
	require.NoError(t, srv.Client(t).ConfigSet(t.Context(), "min-replicas-to-write", "1").Err())
	err := r.HealthCheck(t.Context())
	require.ErrorIs(t, err, ErrNoReplicas)
	require.ErrorContains(t, err, " at "+asked+": ")
	_, err = r.main.dial(t.Context(), "tcp", ":"+srv.Port()) // as MOVED may say
	require.ErrorIs(t, err, errNoHost)
}

// go-redis does not know that the nodes may leave out where they are.
func TestClusterThatHidesItsNodes(t *testing.T) {
	t.Parallel()
	set := redistest.StartCluster(t, 3)
	for _, node := range set.Nodes() {
		require.NoError(t, node.Client(t).ConfigSet(t.Context(), "cluster-preferred-endpoint-type", "unknown-endpoint").Err())
	}
	_, err := NewRedis(within(t, patience), &config.Config{Cluster: true, Addrs: set.Addrs()})
	require.ErrorIs(t, err, ErrUnsupported)
	require.ErrorContains(t, err, "set cluster-preferred-endpoint-type to ip or hostname there")
}

// A node without the host name that it should be known by is refused at once, be it one of several.
func TestClusterNodesWithoutHostNames(t *testing.T) {
	t.Parallel()
	for name, named := range map[string]int{"all": 0, "one": 2} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			set := redistest.StartCluster(t, 3)
			nodes := set.Nodes()
			for i, node := range nodes {
				c := node.Client(t)
				if i < named {
					require.NoError(t, c.ConfigSet(t.Context(), "cluster-announce-hostname", "localhost").Err())
				}
				require.NoError(t, c.ConfigSet(t.Context(), "cluster-preferred-endpoint-type", "hostname").Err())
			}
			eventually(t, func() bool { // all know all names
				for _, node := range nodes {
					slots, err := node.Client(t).Do(t.Context(), "cluster", "slots").Result()
					if err != nil || strings.Count(fmt.Sprint(slots), "localhost") < named {
						return false
					}
				}
				return true
			}, "the names get around")
			_, err := NewRedis(within(t, patience), &config.Config{Cluster: true, Addrs: set.Addrs()})
			require.ErrorIs(t, err, ErrUnsupported)
			require.ErrorContains(t, err, "set cluster-announce-ip there, or cluster-announce-hostname where its cluster-preferred-endpoint-type is")
			require.NotErrorIs(t, err, context.DeadlineExceeded)
		})
	}
}

// A server that is no Cluster answers so; time will not change it.
func TestClusterThatIsNone(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	_, err := NewRedis(within(t, patience), &config.Config{Cluster: true, Addrs: []string{srv.Addr()}})
	require.ErrorIs(t, err, ErrUnsupported)
	require.ErrorContains(t, err, "cluster support disabled")
}

// TestNoSentinel: what is not sent needs no hiding, and the advice depends on it.
func TestNoSentinel(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	for _, cfg := range []config.Config{
		{}, {Password: "pw"}, {Username: "u", Password: "pw"}, {Password: "pw", SentinelPassword: "spw"}, {Password: "pw", Protocol: 2},
	} {
		cfg.MasterName, cfg.Addrs = "mymaster", []string{srv.Addr()}
		err := open(t, &cfg).HealthCheck(t.Context())
		require.ErrorIs(t, err, ErrUnsupported, "%+v", cfg)
		require.ErrorContains(t, err, "it is no Sentinel")
	}
}
