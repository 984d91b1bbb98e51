package feed_test

import (
	"context"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/notification/internal/feed"
)

// leading returns a client whose address leads to another server at times.
func leading(t *testing.T, to func() *redistest.Server) *redis.Client {
	t.Helper()
	client := redis.NewClient(&redis.Options{Addr: "anywhere:1", Dialer: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, to().Addr())
	}})
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// replicate makes a server the replica of another one.
func replicate(t *testing.T, replica, master *redistest.Server) {
	t.Helper()
	client := replica.Client(t)
	require.NoError(t, client.Do(t.Context(), "replicaof", master.Host(), master.Port()).Err())
	require.Eventually(t, func() bool {
		info, err := client.Info(t.Context(), "replication").Result()
		return err == nil && strings.Contains(info, "master_link_status:up")
	}, patience, 10*time.Millisecond)
}

// Connection and commands lead to the same server, or the session ends: heartbeats may come back all the same, as a replica
// passes on what is published to its master.
func TestCommandsThatLeadElsewhere(t *testing.T) {
	t.Parallel()
	set := redistest.StartN(t, 2)
	master, replica := set[0], set[1]
	replicate(t, replica, master)
	var failedOver atomic.Bool
	client := leading(t, func() *redistest.Server {
		if failedOver.Load() {
			return master
		}
		return replica
	})
	f, sink := start(t, client, nil, names("a")...)
	sink.wait(t, 1, "up")
	s := sink.current()
	require.NoError(t, s.Client.Ping(t.Context()).Err())
	// From now on new connections lead to the master. The one of the subscriptions stays.
	failedOver.Store(true)
	require.NoError(t, replica.Client(t).ClientKillByFilter(t.Context(), "type", "normal", "skipme", "yes").Err())
	sink.wait(t, 2, "up")
	assert.Contains(t, sink.wait(t, 1, "down"), "commands lead to another server than the connection")
	<-s.Done()
	assert.Equal(t, 1, listeners(t, master))
	// The replica has its master's connection only.
	require.Eventually(t, func() bool { return listeners(t, replica) == 0 }, patience, time.Millisecond)
	require.NoError(t, f.Alive())
}

// Behind a proxy that listens in our place no server counts our subscriptions, and the feed works all the same.
func TestNobodyCounts(t *testing.T) {
	t.Parallel()
	set := redistest.StartN(t, 2)
	listening, commands := set[0], set[1]
	replicate(t, listening, commands)
	// Of each session the first connection is that of its subscriptions, the second one is for heartbeats.
	var dials atomic.Int64
	client := leading(t, func() *redistest.Server {
		if dials.Add(1)%2 == 1 {
			return listening
		}
		return commands
	})
	_, sink := start(t, client, func(s *feed.Settings) { s.MaxPause = 500 * time.Millisecond }, names("a")...)
	sink.wait(t, 1, "up")
	for _, line := range sink.all("down") {
		assert.Contains(t, line, "commands lead to another server")
	}
	assert.GreaterOrEqual(t, sink.count("down"), 5)
}

func TestSentinel(t *testing.T) {
	t.Parallel()
	set := redistest.StartSentinel(t)
	client := redis.NewFailoverClient(&redis.FailoverOptions{
		MasterName: set.MasterName(), SentinelAddrs: set.Addrs(), DialTimeout: time.Second, ReadTimeout: time.Second,
	})
	t.Cleanup(func() { _ = client.Close() })
	f, sink := start(t, client, withFullBeats, names("a")...)
	arrives := func() {
		t.Helper()
		require.Eventually(t, func() bool {
			before := sink.count("message")
			client.Publish(t.Context(), "a", "x")
			return f.Status().Up && sink.count("message") > before
		}, patience, 10*time.Millisecond)
	}
	sink.wait(t, 1, "up")
	arrives()
	assert.Equal(t, 1, listeners(t, set.Master()))
	set.Failover(t)
	require.Eventually(t, func() bool { return listeners(t, set.Master()) == 1 }, patience, 10*time.Millisecond)
	arrives()
	set.KillMaster(t)
	require.Eventually(t, func() bool { return listeners(t, set.Master()) == 1 }, patience, 10*time.Millisecond)
	arrives()
}
