package feed_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/notification/internal/feed"
)

// toCluster returns go-redis' own client for a cluster.
func toCluster(t *testing.T, c *redistest.Cluster, adjust ...func(*redis.ClusterOptions)) redis.UniversalClient {
	t.Helper()
	options := &redis.ClusterOptions{
		Addrs: c.Addrs(), ContextTimeoutEnabled: true, DialTimeout: time.Second, ReadTimeout: time.Second,
	}
	for _, change := range adjust {
		change(options)
	}
	client := redis.NewClusterClient(options)
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// home waits until the one connection is on the node with the journal.
func home(t *testing.T, c *redistest.Cluster, f *feed.Feed) {
	t.Helper()
	require.Eventually(t, func() bool {
		return f.Status().Up && listeners(t, c.MasterOf(t, key)) == 1
	}, patience, 20*time.Millisecond, "the connection is on the journal's node")
	total := 0
	for _, node := range c.Nodes() {
		if node.Running() {
			total += listeners(t, node)
		}
	}
	assert.Equal(t, 1, total)
}

func TestCluster(t *testing.T) {
	t.Parallel()
	c := redistest.StartCluster(t, 3, redistest.WithReplicas(1))
	client := toCluster(t, c)
	f, sink := start(t, client, withFullBeats, names("a")...)
	home(t, c, f)
	require.NoError(t, f.Status().Unguarded)
	arrives := func() {
		t.Helper()
		require.Eventually(t, func() bool {
			before := sink.count("message")
			client.Publish(t.Context(), "a", "x")
			return sink.count("message") > before
		}, patience, 10*time.Millisecond)
	}
	arrives()
	s := sink.current()
	require.NoError(t, s.Client.Set(t.Context(), key, 1, 0).Err(), "commands go to the journal's node")
	c.Failover(t, key)
	home(t, c, f)
	arrives()
	assert.Contains(t, fmt.Sprint(sink.all("down")), "the journal is on another node now")
	c.KillMasterOf(t, key)
	home(t, c, f)
	arrives()
}

// While the journal's slot moves to another master the session goes on, and afterwards there is one there.
func TestSlotMigration(t *testing.T) {
	t.Parallel()
	c := redistest.StartCluster(t, 2)
	client := toCluster(t, c)
	f, sink := start(t, client, func(s *feed.Settings) { s.Beat, s.Heartbeat = fullBeat, 300*time.Millisecond }, names("a")...)
	home(t, c, f)
	for _, k := range []string{key, otherKey} {
		require.NoError(t, client.Set(t.Context(), k, 1, 0).Err())
	}
	from := c.MasterOf(t, key)
	to := c.Nodes()[0]
	if to == from {
		to = c.Nodes()[1]
	}
	number := sink.current().Number
	c.MoveSlot(t, key, to, func() {
		// Longer than a dead peer is waited for.
		sink.wait(t, sink.count("beat")+4, "beat")
		assert.Equal(t, number, sink.current().Number, sink.all("down"))
	})
	assert.Contains(t, sink.wait(t, 1, "down"), "the journal is on another node now")
	home(t, c, f)
	require.NoError(t, client.Publish(t.Context(), "a", "x").Err())
	sink.wait(t, 1, "message")
	blind := sink.logs.FilterMessageSnippet("cannot be read")
	assert.Zero(t, blind.Len(), "that passes by itself")
}

// A master that was frozen for a while wakes up as a replica and keeps its connections. What was published meanwhile has
// passed it by, so the session must not go on.
func TestClusterMasterThatComesBack(t *testing.T) {
	t.Parallel()
	c := redistest.StartCluster(t, 3, redistest.WithReplicas(1))
	// No heartbeat may come in time to tell.
	f, sink := start(t, toCluster(t, c), func(s *feed.Settings) { s.Heartbeat = time.Hour }, names("a")...)
	home(t, c, f)
	frozen := c.MasterOf(t, key)
	other := c.Nodes()[0]
	if other == frozen {
		other = c.Nodes()[1]
	}
	client := other.Client(t)
	require.NoError(t, frozen.Client(t).ConfigSet(t.Context(), "cluster-replica-no-failover", "yes").Err())
	frozen.Stop()
	require.Eventually(t, func() bool {
		nodes, err := client.ClusterNodes(t.Context()).Result()
		return err == nil && strings.Count(nodes, "master,fail ") == 1 && strings.Count(nodes, "master -") == 3
	}, patience, 50*time.Millisecond)
	frozen.Continue()
	sink.wait(t, 2, "up")
	home(t, c, f)
}

// A user may lack the permission for what is of use in a failover only. Everything else works, and Status says so.
func TestGuardRefused(t *testing.T) {
	t.Parallel()
	c := redistest.StartCluster(t, 1)
	admin := c.Nodes()[0].Client(t)
	user := []any{"acl", "setuser", "limited", "on", ">secret", "~*", "&*", "+@all", "-ssubscribe"}
	require.NoError(t, admin.Do(t.Context(), user...).Err())
	client := toCluster(t, c, func(o *redis.ClusterOptions) { o.Username, o.Password = "limited", "secret" })
	f, sink := start(t, client, withFullBeats, names("a")...)
	home(t, c, f)
	require.ErrorContains(t, f.Status().Unguarded, "SSUBSCRIBE refused")
	require.NoError(t, admin.Publish(t.Context(), "a", "x").Err())
	sink.wait(t, 1, "message")
	require.NoError(t, admin.Do(t.Context(), "acl", "setuser", "limited", "+ssubscribe").Err())
	require.NoError(t, admin.ClientKillByFilter(t.Context(), "type", "pubsub").Err())
	sink.wait(t, 2, "up")
	require.NoError(t, f.Status().Unguarded)
}

// A cluster's pools are of no concern to the feed either.
func TestBusyPoolsOfACluster(t *testing.T) {
	t.Parallel()
	c := redistest.StartCluster(t, 1)
	client := toCluster(t, c, func(o *redis.ClusterOptions) { o.PoolSize = 2 })
	require.NoError(t, client.Ping(t.Context()).Err())
	admin := c.Nodes()[0].Client(t)
	for range 2 {
		go client.BLPop(t.Context(), 0, "nothing")
	}
	t.Cleanup(func() { admin.LPush(t.Context(), "nothing", 1, 2) })
	require.Eventually(t, func() bool {
		list, err := admin.ClientList(t.Context()).Result()
		return err == nil && strings.Count(list, "cmd=blpop") == 2
	}, patience, time.Millisecond)
	_, sink := start(t, client, withFullBeats, names("a")...)
	sink.wait(t, 1, "up")
	sink.wait(t, 3, "beat")
}
