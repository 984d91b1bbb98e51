package redistest

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// failoverClient returns go-redis' own client for Sentinel.
func failoverClient(t *testing.T, set *Sentinel, master *redis.Options, sentinelPassword string) *redis.Client {
	t.Helper()
	client := redis.NewFailoverClient(&redis.FailoverOptions{
		MasterName:       set.MasterName(),
		SentinelAddrs:    set.Addrs(),
		SentinelPassword: sentinelPassword,
		Username:         master.Username,
		Password:         master.Password,
		TLSConfig:        master.TLSConfig,
	})
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func TestSentinelFailover(t *testing.T) {
	t.Parallel()
	set := StartSentinel(t)
	require.Len(t, set.Addrs(), 3)
	first, second := set.Master(), set.Replica()
	require.NotSame(t, first, second)
	client := failoverClient(t, set, first.Options(), "")
	ctx := within(t, 90*time.Second)
	require.NoError(t, client.Set(ctx, "k", "v", 0).Err())

	set.Failover(t)
	require.Same(t, second, set.Master())
	require.Same(t, first, set.Replica())
	require.True(t, first.Running(), "nothing is killed")
	require.NoError(t, set.Master().Client(t).Set(ctx, "k", "v2", 0).Err())
	require.ErrorContains(t, set.Replica().Client(t).Set(ctx, "k", "v3", 0).Err(), "READONLY")

	set.Failover(t)
	require.Same(t, first, set.Master(), "and back")
	require.Eventually(t, func() bool { return client.Get(ctx, "k").Val() == "v2" }, 30*time.Second, 50*time.Millisecond)
}

func TestSentinelKillMaster(t *testing.T) {
	t.Parallel()
	set := StartSentinel(t, WithPassword("secret"), WithSentinelPassword("other"))
	first, second := set.Master(), set.Replica()
	client := failoverClient(t, set, first.Options(), "other")
	ctx := within(t, 120*time.Second)
	require.NoError(t, client.Ping(ctx).Err())

	set.KillMaster(t)
	require.False(t, first.Running())
	require.Same(t, second, set.Master())
	require.NoError(t, second.Client(t).Set(ctx, "k", "v", 0).Err())

	first.Restart()
	set.Reunite(t)
	require.ErrorContains(t, first.Client(t).Set(ctx, "k", "v", 0).Err(), "READONLY")
}

func TestSentinelFreezeMaster(t *testing.T) {
	t.Parallel()
	set := StartSentinel(t)
	first, second := set.Master(), set.Replica()
	client := first.Client(t)

	set.FreezeMaster(t)
	require.Same(t, second, set.Master())
	require.Same(t, first, set.Replica())
	ctx := within(t, 90*time.Second)
	require.NoError(t, second.Client(t).Set(ctx, "k", "v", 0).Err())
	first.Continue()
	set.Reunite(t)
	require.ErrorContains(t, client.Set(ctx, "k", "v", 0).Err(), "READONLY")
	require.Equal(t, "v", client.Get(ctx, "k").Val())
}

func TestSentinelWithTLSAndUser(t *testing.T) {
	t.Parallel()
	set := StartSentinel(t, WithTLS(), WithUser("worker", "secret"))
	client := failoverClient(t, set, set.Master().Options(), "")
	require.NoError(t, client.Ping(within(t, 30*time.Second)).Err())
}
