package notification_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/notification"
)

const journalKey = "cache:{notification}:journal"

// toCluster returns go-redis' own client for a cluster.
func toCluster(tb testing.TB, addrs []string) redis.UniversalClient {
	tb.Helper()
	client := redis.NewClusterClient(&redis.ClusterOptions{
		Addrs: addrs, ContextTimeoutEnabled: true, DialTimeout: time.Second, ReadTimeout: time.Second,
	})
	tb.Cleanup(func() { _ = client.Close() })
	return client
}

func TestCluster(t *testing.T) {
	t.Parallel()
	for name, connect := range map[string]func(testing.TB, []string) redis.UniversalClient{
		"go-redis": toCluster, "package client": wrappedCluster,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testCluster(t, connect)
		})
	}
}

func testCluster(t *testing.T, connect func(testing.TB, []string) redis.UniversalClient) {
	t.Helper()
	c := redistest.StartCluster(t, 3, redistest.WithReplicas(1))
	n := newSystem(t, connect(t, c.Addrs()), notification.WithHeartbeat(500*time.Millisecond))
	r := record(t, subscribe(t, n, "k*"))
	task := subscribe(t, n, "task:workflow:W")
	p := &publisher{system: n}
	p.arrived(t, r)
	listening := func() bool { return len(pubsubClients(t, c.MasterOf(t, journalKey).Client(t))) == 1 }
	require.Eventually(t, listening, patience, 50*time.Millisecond, "the connection is on the journal's node")
	require.NoError(t, n.PublishTaskEvent(t.Context(), &notification.TaskEvent{ID: "T", WorkflowID: "W", Status: "s"}))
	event, err := notification.Decode[notification.TaskEvent](next(t, task))
	require.NoError(t, err)
	assert.Equal(t, "T", event.ID)

	stop := p.traffic(t)
	c.Failover(t, journalKey)
	stop()
	p.arrived(t, r)
	master := c.MasterOf(t, journalKey).Client(t)
	r.hasAll(t, master)
	r.verify(t, p.sent)
	require.Eventually(t, listening, patience, 50*time.Millisecond, "the connection follows the journal")
	p.arrived(t, r)
	told := len(r.gaps())
	assert.Positive(t, told, "a failover may have lost events, so it is told")

	stop = p.traffic(t)
	c.KillMasterOf(t, journalKey)
	stop()
	p.arrived(t, r)
	r.hasAll(t, c.MasterOf(t, journalKey).Client(t))
	missing := r.verify(t, p.sent)
	t.Logf("%d published, %d missing, gaps %v", len(p.sent), missing, r.gaps())
	assert.Greater(t, len(r.gaps()), told, "and so is the next one")
	require.Eventually(t, listening, patience, 50*time.Millisecond)
}

// A master of a cluster that was frozen for a while wakes up as a replica and keeps its connections. What was published
// meanwhile has passed it by; what comes after that does not.
func TestClusterMasterThatComesBack(t *testing.T) {
	t.Parallel()
	c := redistest.StartCluster(t, 3, redistest.WithReplicas(1))
	// No heartbeat may come in time to tell.
	n := newSystem(t, toCluster(t, c.Addrs()), notification.WithHeartbeat(time.Hour))
	r := record(t, subscribe(t, n, "k"))
	p := &publisher{system: n}
	p.arrived(t, r)

	frozen := c.MasterOf(t, journalKey)
	other := c.Nodes()[0]
	if other == frozen {
		other = c.Nodes()[1]
	}
	client := other.Client(t)
	// Should the machine stall, it must not be elected again with what it had before.
	require.NoError(t, frozen.Client(t).ConfigSet(t.Context(), "cluster-replica-no-failover", "yes").Err())
	frozen.Stop()
	require.Eventually(t, func() bool {
		nodes, err := client.ClusterNodes(t.Context()).Result()
		return err == nil && strings.Count(nodes, "master,fail ") == 1 && strings.Count(nodes, "master -") == 3
	}, patience, 50*time.Millisecond)
	p.system = newSystem(t, toCluster(t, c.Addrs()))
	large := struct {
		numbered
		Rest string
	}{Rest: strings.Repeat("x", 1<<16)}
	for range 400 { // more than the kernel keeps for the frozen node
		p.last++
		large.N = p.last
		require.NoError(t, p.system.Publish(t.Context(), "k", large))
		p.sent = append(p.sent, p.last)
	}
	frozen.Continue()
	p.arrived(t, r)
	assert.Zero(t, r.verify(t, p.sent), "the new master has them all")
	assert.Equal(t, []notification.GapReason{notification.GapFailover}, r.gaps())
}

// late returns an event as a former master publishes it that has woken up: the journal went on from an earlier one without it.
// Its clock may be ahead of the last one's.
func late(t *testing.T, earlier, last *notification.Message, ahead int) string {
	t.Helper()
	position := func(m *notification.Message) (ms, offset int) {
		_, err := fmt.Sscanf(m.EventID, "%d-%d", &ms, &offset)
		require.NoError(t, err)
		return ms, offset
	}
	ms, _ := position(last)
	_, offset := position(earlier)
	id := fmt.Sprintf("%d-%d", ms+ahead, offset+1)
	return strings.Replace(earlier.Payload, earlier.EventID, id, 1)
}

// A master that was frozen until another one took its place executes what was sent to it before it learns of that, and the
// cluster carries what that publishes to the subscribers. These are repetitions, and nothing is missing.
func TestClusterMasterThatPublishesLate(t *testing.T) {
	t.Parallel()
	c := redistest.StartCluster(t, 3, redistest.WithReplicas(1))
	n := newSystem(t, toCluster(t, c.Addrs()), notification.WithHeartbeat(300*time.Millisecond))
	r, globs := record(t, subscribe(t, n, "k")), record(t, subscribe(t, n, "k*"))
	p := &publisher{system: newSystem(t, toCluster(t, c.Addrs()))}
	p.arrived(t, r)
	frozen := c.MasterOf(t, journalKey)
	frozen.Stop()
	p.traffic(t)() // until the new master has taken some
	p.arrived(t, r)
	frozen.Continue()
	former := frozen.Client(t)
	require.Eventually(t, func() bool {
		return fieldOf(former.Info(t.Context(), "replication").Val(), "role") == "slave"
	}, patience, time.Millisecond)
	p.arrived(t, r)
	require.NoError(t, n.Drain(t.Context()))

	// How much of that it had is a matter of chance. This is one more.
	r.mu.Lock()
	messages := slices.DeleteFunc(slices.Clone(r.messages), func(m *notification.Message) bool { return m.EventID == "" })
	r.mu.Unlock()
	require.Greater(t, len(messages), 3)
	for i, ahead := range []int{1, -1, 1 << 20} {
		earlier := messages[i]
		payload := late(t, earlier, messages[len(messages)-1], ahead)
		require.NoError(t, former.Publish(t.Context(), "k", payload).Err())
		for _, r := range []*recorder{r, globs} {
			found := func() (found []*notification.Message) {
				r.mu.Lock()
				defer r.mu.Unlock()
				for _, m := range r.messages {
					if m.Payload == payload {
						found = append(found, m)
					}
				}
				return found
			}
			require.Eventually(t, func() bool { return len(found()) == 1 }, patience, time.Millisecond, i)
			assert.True(t, found()[0].Redelivered)
			assert.Empty(t, found()[0].EventID)
			assert.Equal(t, earlier.Time, found()[0].Time)
		}
	}
	for range 2 { // cuts that cost nothing
		was := n.GetMetrics().Reconnects
		for _, node := range c.Nodes() {
			require.NoError(t, node.Client(t).ClientKillByFilter(t.Context(), "type", "pubsub").Err())
		}
		require.Eventually(t, func() bool { return n.GetMetrics().Reconnects > was }, patience, time.Millisecond)
		p.arrived(t, r)
	}
	for _, r := range []*recorder{r, globs} {
		r.reached(t, p.sent[len(p.sent)-1])
		r.hasAll(t, c.MasterOf(t, journalKey).Client(t))
		r.verify(t, p.sent)
		assert.Equal(t, []notification.GapReason{notification.GapFailover}, r.gaps())
	}
}

// A user may lack the permission for what is of use only in a failover.
func TestClusterWithoutShardedChannels(t *testing.T) {
	t.Parallel()
	c := redistest.StartCluster(t, 3)
	for _, node := range c.Nodes() {
		require.NoError(t, node.Client(t).Do(t.Context(), "acl", "setuser", "default", "-ssubscribe",
			"resetchannels", "&k", "&cache:*").Err())
	}
	n := newSystem(t, toCluster(t, c.Addrs()))
	r := record(t, subscribe(t, n, "k"))
	bad := n.Subscribe(t.Context(), "forbidden").(*notification.Subscription)
	requireClosed(t, bad)
	require.ErrorContains(t, bad.Err(), `"forbidden" refused: NOPERM`)
	p := &publisher{system: n}
	require.Zero(t, p.publish(t.Context(), "k", 10))
	r.reached(t, p.last)
	assert.Zero(t, r.verify(t, p.sent))
	assert.Zero(t, n.GetMetrics().Reconnects)
	require.NoError(t, r.sub.Err())
}

// The journal's slot moves to another master with everything in it: nothing is missing, and nothing is reported.
func TestLosslessReshardIsNoGap(t *testing.T) {
	t.Parallel()
	c := redistest.StartCluster(t, 2)
	n := newSystem(t, toCluster(t, c.Addrs()), notification.WithHeartbeat(200*time.Millisecond))
	outside := newSystem(t, toCluster(t, c.Addrs()))
	r, p := record(t, subscribe(t, n, "k")), &publisher{system: outside}
	p.arrived(t, r)
	from := c.MasterOf(t, journalKey)
	for _, to := range c.Nodes() {
		if to == from {
			continue
		}
		c.MoveSlot(t, journalKey, to, func() { p.publish(t.Context(), "k", 1) })
		require.Eventually(t, func() bool { return len(pubsubClients(t, to.Client(t))) == 1 }, patience, 10*time.Millisecond)
	}
	p.arrived(t, r)
	assert.Zero(t, r.verify(t, p.sent))
	assert.Empty(t, r.gaps())
}
