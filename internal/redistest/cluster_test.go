package redistest

import (
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// clusterClient returns go-redis' own client for the cluster.
func clusterClient(t *testing.T, c *Cluster) *redis.ClusterClient {
	t.Helper()
	node := c.Nodes()[0].Options()
	client := redis.NewClusterClient(&redis.ClusterOptions{
		Addrs:                    c.Addrs(),
		Username:                 node.Username,
		Password:                 node.Password,
		TLSConfig:                node.TLSConfig,
		MaintNotificationsConfig: node.MaintNotificationsConfig,
	})
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func TestCluster(t *testing.T) {
	t.Parallel()
	c := StartCluster(t, 3, WithPassword("secret"))
	require.Len(t, c.Addrs(), 3)
	client := clusterClient(t, c)
	ctx := within(t, 30*time.Second)
	masters := make(map[*Server]bool)
	for i := range 50 {
		key := fmt.Sprintf("k%d", i)
		require.NoError(t, client.Set(ctx, key, i, 0).Err())
		masters[c.MasterOf(t, key)] = true
	}
	require.Len(t, masters, 3, "all masters serve slots")
}

func TestClusterFailoverAndDeath(t *testing.T) {
	t.Parallel()
	const key = "k"
	c := StartCluster(t, 3, WithReplicas(1))
	require.Len(t, c.Nodes(), 6)
	ctx := within(t, 180*time.Second)
	client := clusterClient(t, c)
	require.NoError(t, client.Set(ctx, key, "v", 0).Err())

	first := c.MasterOf(t, key)
	c.Failover(t, key)
	second := c.MasterOf(t, key)
	require.NotSame(t, first, second)
	require.True(t, first.Running(), "nothing is killed")

	c.KillMasterOf(t, key)
	require.False(t, second.Running())
	require.Same(t, first, c.MasterOf(t, key))
	require.Eventually(t, func() bool { return client.Get(ctx, key).Val() == "v" }, 30*time.Second, 50*time.Millisecond)

	second.Restart()
	c.wait("the former master follows", func() error { return second.hasRole("slave") })
}

func TestClusterWithTLS(t *testing.T) {
	t.Parallel()
	c := StartCluster(t, 3, WithTLS())
	require.NoError(t, clusterClient(t, c).Set(within(t, 30*time.Second), "k", "v", 0).Err())
}

func TestMoveSlot(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string][]Option{
		"plain": nil, "password": {WithPassword("secret")}, "user": {WithUser("app", "secret")}, "TLS": {WithTLS()},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const keys = 3
			c := StartCluster(t, 3, opts...)
			client := clusterClient(t, c)
			ctx := within(t, 60*time.Second)
			for i := range keys {
				require.NoError(t, client.Set(ctx, fmt.Sprintf("{k}%d", i), i, time.Hour).Err())
			}
			from := c.MasterOf(t, "{k}")
			to := c.Nodes()[0]
			if to == from {
				to = c.Nodes()[1]
			}
			halfWay := 0
			c.MoveSlot(t, "{k}", to, func() {
				require.Equal(t, "1", client.Get(ctx, "{k}1").Val(), "wherever it is")
				halfWay++
			})
			require.Equal(t, 1+keys, halfWay)
			require.Same(t, to, c.MasterOf(t, "{k}"))
			require.Equal(t, "1", client.Get(ctx, "{k}1").Val())
			c.MoveSlot(t, "{k}", from, nil) // and back
			require.Equal(t, "1", client.Get(ctx, "{k}1").Val())
		})
	}
}
