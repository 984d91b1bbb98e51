package lock_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

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

	require.NoError(t, former.Client(t).Do(t.Context(), "ACL", "SETUSER", "default", "-replicaof", "-slaveof").Err())
	watcher := sentinel.Sentinels()[0].Client(t)
	promoted := next.Client(t)
	require.Eventually(t, func() bool {
		_ = watcher.Do(t.Context(), "SENTINEL", "FAILOVER", sentinel.MasterName()).Err()
		role, _ := promoted.Do(t.Context(), "ROLE").Slice()
		return len(role) > 0 && role[0] == "master"
	}, patience, 20*tick)
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
	client := newClient(t, server.Addr())
	m := newManager(t, client)
	const ttl = 3 * time.Second
	l := acquire(t, m, "job", ttl)
	require.NoError(t, client.ConfigSet(t.Context(), "maxclients", "1").Err())
	outlives(t, l, ttl)
	require.NoError(t, l.Release(t.Context()))
}
