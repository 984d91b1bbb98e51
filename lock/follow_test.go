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

// outlive waits until locks were renewed for twice their TTL from now.
func outlive(t *testing.T, ttl time.Duration, locks ...*lock.RedisLock) {
	t.Helper()
	end := time.Now().Add(2 * ttl)
	for _, l := range locks {
		require.Eventually(t, func() bool { return !l.IsHeld() || l.Until().After(end) }, patience, tick)
		assert.True(t, l.IsHeld(), "%v", l)
	}
}

// acquireMany returns so many locks, each of which was granted before the next one was asked for.
func acquireMany(t *testing.T, m *lock.RedisLockManager, count int, ttl time.Duration) (locks []*lock.RedisLock) {
	t.Helper()
	for i := range count {
		locks = append(locks, acquire(t, m, "job "+itoa(int64(i)), ttl))
	}
	return locks
}

// askedSentinel returns the Sentinel that the only client asks, and another one.
func askedSentinel(t *testing.T, s *redistest.Sentinel) (asked, other *redistest.Server) {
	t.Helper()
	for _, sentinel := range s.Sentinels() {
		if sentinel.Client(t).Do(t.Context(), "CLIENT", "LIST", "TYPE", "pubsub").Val() == "" {
			other = sentinel
		} else {
			asked = sentinel
		}
	}
	require.NotNil(t, asked)
	return asked, other
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
	outlive(t, ttl, other)
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
	asked, other := askedSentinel(t, sentinel)
	asked.Stop()
	require.NoError(t, promote(t, sentinel, other).Del(t.Context(), "cache:lock:{job}").Err(), "it may not have got as far")
	wait(t, l.Lost(), "loss")
}

// TestSentinelsThatAreGone: they are not needed as long as the master is there.
func TestSentinelsThatAreGone(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*testing.T, *redistest.Sentinel){
		"down": func(_ *testing.T, s *redistest.Sentinel) {
			for _, sentinel := range s.Sentinels() {
				sentinel.Kill()
			}
		},
		"hung": func(_ *testing.T, s *redistest.Sentinel) {
			for _, sentinel := range s.Sentinels() {
				sentinel.Stop()
			}
		},
		"one of three hung": func(t *testing.T, s *redistest.Sentinel) {
			t.Helper()
			asked, _ := askedSentinel(t, s)
			asked.Stop()
		},
	} {
		for _, count := range []int{1, 20} {
			t.Run(name+" "+itoa(int64(count)), func(t *testing.T) {
				t.Parallel()
				sentinel := redistest.StartSentinel(t)
				m := newManager(t, failoverClient(t, sentinel))
				const ttl = 5 * time.Second
				locks := acquireMany(t, m, count, ttl)
				renewed(t, m)
				end(t, sentinel)
				outlive(t, ttl, locks...)
				require.NoError(t, locks[0].Release(t.Context()))
			})
		}
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
	outlive(t, ttl, l)
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
