package group

import (
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/notification/internal/journal"
)

func TestGroupsFollowAFailover(t *testing.T) {
	t.Parallel()
	set := redistest.StartSentinel(t)
	client := failoverClient(t, set)
	b := newBundle(client, set.Master())
	for range 2 {
		b.run(t)
	}
	b.append(t, "k", 10)
	b.done(t, 10)
	set.Failover(t)
	require.Eventually(t, func() bool { return client.Set(t.Context(), "x", "1", 0).Err() == nil }, patience, 10*time.Millisecond)
	b.append(t, "k", 10)
	b.eventually(t, "not all was handled", func() bool { return len(b.handled) == 20 })
	require.Eventually(t, func() bool { return len(b.reasons()) > 0 }, patience, 10*time.Millisecond)
	assert.Equal(t, []journal.Reason{journal.Failover}, b.reasons())
}

func TestGroupsFollowTheirSlot(t *testing.T) {
	t.Parallel()
	c := redistest.StartCluster(t, 2, redistest.WithReplicas(1))
	client := redis.NewClusterClient(&redis.ClusterOptions{Addrs: c.Addrs()})
	t.Cleanup(func() { _ = client.Close() })
	b := newBundle(client, nil)
	for range 2 {
		b.run(t)
	}
	b.append(t, "k", 10)
	b.done(t, 10)
	c.Failover(t, b.keys.Journal)
	b.append(t, "k", 10)
	b.done(t, 20)
	b.append(t, "k", 10) // some of them are read while the keys move
	for _, node := range c.Nodes() {
		if node != c.MasterOf(t, b.keys.Journal) {
			if isMaster(t, node) {
				c.MoveSlot(t, b.keys.Journal, node, nil)
				break
			}
		}
	}
	b.append(t, "k", 10)
	b.eventually(t, "not all was handled", func() bool { return len(b.handled) == 40 })
}

func isMaster(t *testing.T, node *redistest.Server) bool {
	t.Helper()
	return strings.Contains(node.Client(t).Info(t.Context(), "replication").Val(), "role:master")
}
