package lock_test

import (
	"context"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/client"
	"github.com/compozy/cache/config"
	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/lock"
)

// outlives waits until a lock was renewed for twice its TTL from now.
func outlives(t *testing.T, l *lock.RedisLock, ttl time.Duration) {
	t.Helper()
	end := time.Now().Add(2 * ttl)
	require.Eventually(t, func() bool { return !l.IsHeld() || l.Until().After(end) }, patience, tick)
	assert.True(t, l.IsHeld())
}

// promote has a Sentinel make the replica the master. The former one goes on to be one. It returns a client of the new one.
func promote(t *testing.T, s *redistest.Sentinel, by *redistest.Server) *redis.Client {
	t.Helper()
	require.NoError(t, s.Master().Client(t).Do(t.Context(), "ACL", "SETUSER", "default", "-replicaof", "-slaveof").Err())
	watcher, promoted := by.Client(t), s.Replica().Client(t)
	require.Eventually(t, func() bool {
		_ = watcher.Do(t.Context(), "SENTINEL", "FAILOVER", s.MasterName()).Err()
		role, _ := promoted.Do(t.Context(), "ROLE").Slice()
		return len(role) > 0 && role[0] == "master"
	}, patience, 20*tick)
	return promoted
}

// TestFailoverThatTheFormerMasterOutlives: nobody can make a replica of it, so it goes on to answer on all connections that
// it had. Renewals and inboxes leave it.
func TestFailoverThatTheFormerMasterOutlives(t *testing.T) {
	t.Parallel()
	sentinel := redistest.StartSentinel(t)
	m := newManager(t, failoverClient(t, sentinel))
	const ttl = 3 * time.Second
	l, other := acquire(t, m, "job", ttl), acquire(t, m, "other", ttl)
	former, next := sentinel.Master(), sentinel.Replica()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	waits, waiter := make(chan error, 1), newManager(t, failoverClient(t, sentinel))
	go func() {
		_, err := waiter.AcquireWait(ctx, "other", ttl)
		waits <- err
	}()
	inboxes := func(s *redistest.Server) int {
		return len(s.Client(t).PubSubChannels(t.Context(), "cache:lock:inbox:*").Val())
	}
	require.Eventually(t, func() bool { return inboxes(former) == 1 }, patience, tick)
	renewed(t, m)
	synchronous(t, former, next)

	promoted := promote(t, sentinel, sentinel.Sentinels()[0])
	require.NoError(t, promoted.Del(t.Context(), "cache:lock:{job}").Err(), "it may not have got as far")
	wait(t, l.Lost(), "loss")
	role, err := former.Client(t).Do(t.Context(), "ROLE").Slice()
	require.NoError(t, err)
	require.Equal(t, "master", role[0])
	outlives(t, other, ttl)
	require.Eventually(t, func() bool { return inboxes(next) == 1 }, patience, tick)
	cancel()
	require.ErrorIs(t, <-waits, context.Canceled)
}

// TestFailoverWithAHungSentinel: the one that the client asks hangs while the others name a new master.
func TestFailoverWithAHungSentinel(t *testing.T) {
	t.Parallel()
	sentinel := redistest.StartSentinel(t)
	c, err := client.NewRedis(t.Context(), &config.Config{MasterName: sentinel.MasterName(), Addrs: sentinel.Addrs()})
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	m := newManager(t, c)
	l := acquire(t, m, "job", 3*time.Second)
	renewed(t, m)
	synchronous(t, sentinel.Master(), sentinel.Replica())
	var asked, other *redistest.Server
	for _, s := range sentinel.Sentinels() {
		if s.Client(t).Do(t.Context(), "CLIENT", "LIST", "TYPE", "pubsub").Val() == "" {
			other = s
		} else {
			asked = s
		}
	}
	require.NotNil(t, asked)
	asked.Stop()
	require.NoError(t, promote(t, sentinel, other).Del(t.Context(), "cache:lock:{job}").Err(), "it may not have got as far")
	wait(t, l.Lost(), "loss")
}

// TestSentinelsThatAreGone: they are not needed as long as the master is there.
func TestSentinelsThatAreGone(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*redistest.Server){
		"down": (*redistest.Server).Kill,
		"hung": (*redistest.Server).Stop,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sentinel := redistest.StartSentinel(t)
			m := newManager(t, failoverClient(t, sentinel))
			const ttl = 3 * time.Second
			l := acquire(t, m, "job", ttl)
			renewed(t, m)
			for _, s := range sentinel.Sentinels() {
				end(s)
			}
			outlives(t, l, ttl)
			require.NoError(t, l.Release(t.Context()))
		})
	}
}

// TestServerWithoutRoomForRenewals: it accepts no more connections when the first renewal is due.
func TestServerWithoutRoomForRenewals(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	c := newClient(t, server.Addr())
	m := newManager(t, c)
	const ttl = 3 * time.Second
	l := acquire(t, m, "job", ttl)
	require.NoError(t, c.ConfigSet(t.Context(), "maxclients", "1").Err())
	outlives(t, l, ttl)
	require.NoError(t, l.Release(t.Context()))
}

// TestRenewalsFollowAClusterFailover: the application makes no other call, so that its client does not learn of the new master.
func TestRenewalsFollowAClusterFailover(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, 3, redistest.WithReplicas(1))
	bare := redis.NewClusterClient(&redis.ClusterOptions{Addrs: cluster.Addrs(), ContextTimeoutEnabled: true})
	t.Cleanup(func() { _ = bare.Close() })
	l := acquire(t, newManager(t, bare), "job", 30*time.Second)
	require.True(t, extended(t, l))
	cluster.MasterOf(t, "cache:lock:{job}").Kill()
	require.True(t, extended(t, l))
	require.NoError(t, l.Release(t.Context()))
}
