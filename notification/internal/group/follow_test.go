package group

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
)

func failoverClient(t *testing.T, set *redistest.Sentinel) *redis.Client {
	t.Helper()
	client := redis.NewFailoverClient(&redis.FailoverOptions{MasterName: set.MasterName(), SentinelAddrs: set.Addrs()})
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// Nobody can make a replica of the former master, so it goes on to answer on all connections that it had. The group leaves it
// as the application's client does.
func TestGroupsFollowAFailoverThatTheFormerMasterOutlives(t *testing.T) {
	t.Parallel()
	set := redistest.StartSentinel(t)
	client := failoverClient(t, set)
	b := newBundle(client, set.Master())
	for range 2 {
		b.run(t)
	}
	b.append(t, "k", 10)
	b.done(t, 10)
	former, next := set.Master(), set.Replica()
	require.NoError(t, former.Client(t).Do(t.Context(), "ACL", "SETUSER", "default", "-replicaof", "-slaveof").Err())
	watcher, promoted := set.Sentinels()[0].Client(t), next.Client(t)
	require.Eventually(t, func() bool {
		_ = watcher.Do(t.Context(), "SENTINEL", "FAILOVER", set.MasterName()).Err() // refused while the replica is not fit
		return isMaster(t, next)
	}, patience, 100*time.Millisecond)
	b.writer.client = promoted
	b.append(t, "k", 10)
	b.eventually(t, "the group stays with the former master", func() bool { return len(b.handled) == 20 })
	require.True(t, isMaster(t, former))
}

// A link goes where Sentinel leads. As long as that does not answer the link stays where it is.
func TestLinksOutliveTheSentinels(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*redistest.Server){
		"down": (*redistest.Server).Kill,
		"hung": (*redistest.Server).Stop,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			set := redistest.StartSentinel(t)
			l := &link{client: failoverClient(t, set)}
			defer l.close()
			get := func() redis.UniversalClient {
				c, err := l.get(t.Context())
				require.NoError(t, err)
				require.NoError(t, c.Ping(t.Context()).Err())
				return c
			}
			first := get()
			assert.Same(t, first, get())
			l.opened = time.Now().Add(-followEvery)
			second := get()
			assert.NotSame(t, first, second)
			for _, s := range set.Sentinels() {
				end(s)
			}
			l.opened = time.Now().Add(-followEvery)
			assert.Same(t, second, get())
			assert.Less(t, time.Since(l.opened), followEvery, "the next attempt is not at once")
		})
	}
}
