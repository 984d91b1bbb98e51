package store_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/client"
	"github.com/compozy/cache/config"
	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/store"
)

// clusterClient returns a client of a cluster as applications have it.
func clusterClient(t testing.TB, c *redistest.Cluster) *client.Redis {
	t.Helper()
	r, err := client.NewRedis(t.Context(), &config.Config{Cluster: true, Addrs: c.Addrs()})
	require.NoError(t, err)
	t.Cleanup(func() { _ = r.Close() })
	return r
}

// TestCluster: keys with braces and all else are on any of the masters, alone or by group, and all calls find them.
func TestCluster(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, 3)
	bare := redis.NewClusterClient(&redis.ClusterOptions{Addrs: cluster.Addrs(), ContextTimeoutEnabled: true})
	t.Cleanup(func() { _ = bare.Close() })
	same := func(string) string { return "one}{group" }
	for what, s := range map[string]*store.Store{
		"bare": newStore(t, bare, store.WithKeyPrefix("bare:")), "ours": newStore(t, clusterClient(t, cluster)),
		"one slot": newStore(t, bare, store.WithKeyPrefix("{tag}:")),
	} {
		for name, opts := range map[string][]store.Option{"plain": nil, "group": {store.WithGroup(same)}} {
			st, err := store.NewState[[]byte](s, name, opts...)
			require.NoError(t, err)
			ctx := t.Context()
			want := make(map[string][]byte)
			for i := range 100 {
				odd := append(odd, fmt.Sprint(i))
				key := odd[min(i, len(odd)-1)]
				_, err := st.Create(ctx, key, []byte("x"), store.WithFence(7))
				require.NoError(t, err, key)
				_, err = st.Update(ctx, key, func(v *[]byte) error { *v = []byte(key); return nil })
				require.NoError(t, err, key)
				require.NoError(t, st.Touch(ctx, key, time.Hour))
				assert.Equal(t, key, string(get(t, st, key).Value))
				want[key] = []byte(key)
			}
			assert.Equal(t, want, list(t, st, ""), "%s %s", what, name)
			for key := range want {
				require.NoError(t, st.Delete(ctx, key))
				_, err = st.Put(ctx, key, nil, store.WithFence(6))
				require.ErrorIs(t, err, store.ErrFenced)
			}
			assert.Empty(t, list(t, st, ""))
		}
	}
	for _, node := range cluster.Nodes() {
		assert.Greater(t, node.Commands(t)["evalsha"], int64(50), "each master has some keys")
	}
}

// TestForeignOnACluster: a key of another type is told there too.
func TestForeignOnACluster(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, 3)
	c := clusterClient(t, cluster)
	st := newState[string](t, newStore(t, c))
	require.NoError(t, c.LPush(t.Context(), redisKey("k"), "x").Err())
	_, err := st.Get(t.Context(), "k")
	require.ErrorIs(t, err, store.ErrCodec)
	put(t, st, "good", "x")
	var keys []string
	for item, err := range st.List(t.Context(), "") {
		keys = append(keys, fmt.Sprint(item.Key, errors.Is(err, store.ErrCodec)))
	}
	assert.ElementsMatch(t, []string{"ktrue", "goodfalse"}, keys)
}

// TestUpdatesWhileTheirSlotMoves: no change is lost, and none made twice.
func TestUpdatesWhileTheirSlotMoves(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, 3)
	st := newState[int](t, newStore(t, clusterClient(t, cluster)))
	put(t, st, "k", 0)
	key := redisKey("k")
	var to *redistest.Server
	for _, node := range cluster.Nodes() {
		if node != cluster.MasterOf(t, key) {
			to = node
		}
	}
	var all sync.WaitGroup
	var done atomic.Int64
	over := make(chan struct{})
	for range 4 {
		all.Go(func() {
			for {
				select {
				case <-over:
					return
				default:
				}
				_, err := st.Update(t.Context(), "k", func(v *int) error { *v++; return nil })
				if !assert.NoError(t, err) {
					return
				}
				done.Add(1)
			}
		})
	}
	more := func() {
		before := done.Load()
		require.Eventually(t, func() bool { return done.Load() > before+20 }, patience, tick)
	}
	cluster.MoveSlot(t, key, to, more)
	more()
	close(over)
	all.Wait()
	assert.EqualValues(t, done.Load(), get(t, st, "k").Value)
}

// TestFailover: writes during a failover are done, not done, or uncertain, and their callers know which. What had not
// reached the replica is lost, which nobody can promise otherwise: so this counts from above.
func TestFailover(t *testing.T) {
	t.Parallel()
	sentinel := redistest.StartSentinel(t)
	c := redis.NewFailoverClient(&redis.FailoverOptions{
		MasterName: sentinel.MasterName(), SentinelAddrs: sentinel.Addrs(), ContextTimeoutEnabled: true,
	})
	t.Cleanup(func() { _ = c.Close() })
	st := newState[int](t, newStore(t, c, store.WithStateTimeout(2*time.Second)))
	version := put(t, st, "k", 0, store.WithFence(3))
	var done, uncertain atomic.Int64
	var all sync.WaitGroup
	over := make(chan struct{})
	for range 4 {
		all.Go(func() {
			for {
				select {
				case <-over:
					return
				default:
				}
				_, err := st.Update(t.Context(), "k", func(v *int) error { *v++; return nil })
				switch {
				case err == nil:
					done.Add(1)
				case errors.Is(err, store.ErrUncertain):
					uncertain.Add(1)
				default:
					assert.ErrorIs(t, err, store.ErrUnavailable)
				}
			}
		})
	}
	more := func() {
		before := done.Load()
		require.Eventually(t, func() bool { return done.Load() > before+20 }, patience, tick)
	}
	more()
	sentinel.KillMaster(t)
	more()
	close(over)
	all.Wait()
	t.Logf("%d done, %d uncertain", done.Load(), uncertain.Load())
	item := get(t, st, "k")
	assert.LessOrEqual(t, int64(item.Value), done.Load()+uncertain.Load())
	assert.Greater(t, item.Version, version)
	_, err := st.Put(t.Context(), "k", 0, store.WithFence(2))
	require.ErrorIs(t, err, store.ErrFenced, "the replica had it long ago")
}

func TestFailoverThatLosesALease(t *testing.T) {
	t.Parallel()
	sentinel := redistest.StartSentinel(t)
	newSentinelCache := func() *store.Cache[string] {
		client := redis.NewFailoverClient(&redis.FailoverOptions{
			MasterName: sentinel.MasterName(), SentinelAddrs: sentinel.Addrs(), ContextTimeoutEnabled: true,
		})
		t.Cleanup(func() { _ = client.Close() })
		return newCache[string](t, newStore(t, client))
	}
	a, b := newSentinelCache(), newSentinelCache()
	loader := newGated[string]()
	one := async(t.Context(), a, "k", loader.load)
	receive(t, loader.began, "the load")
	sentinel.Failover(t)
	other, _ := loads("new")
	require.Eventually(t, func() bool { // until clients have found the master
		return b.Delete(t.Context(), "k") == nil // so that nothing of before is stored
	}, patience, tick)
	v, err := b.GetOrLoad(t.Context(), "k", other)
	require.NoError(t, err)
	assert.Equal(t, "new", v)
	loader.give("old", nil)
	require.NoError(t, receive(t, one, "one").err)
	require.Eventually(t, func() bool {
		item, err := a.GetOrLoadItem(t.Context(), "k", other)
		require.NoError(t, err)
		assert.Equal(t, "new", item.Value)
		return item.Source == store.SourceRedis
	}, patience, tick)
}

// TestClientsThatIgnoreContexts: callers follow theirs all the same.
func TestClientsThatIgnoreContexts(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	c := redis.NewClient(&redis.Options{Addr: server.Addr(), ReadTimeout: 3 * time.Second})
	t.Cleanup(func() { _ = c.Close() })
	st := newState[int](t, newStore(t, c))
	put(t, st, "k", 1)
	server.Stop()
	t.Cleanup(server.Continue)
	_, _ = st.Get(timeout(t, 10*time.Millisecond), "k") // the server was quick until now, so the first caller waits alone
	for range 3 {
		ctx := timeout(t, 20*time.Millisecond)
		_, err := st.Get(ctx, "k")
		require.ErrorIs(t, err, context.DeadlineExceeded)
		_, err = st.Put(timeout(t, 20*time.Millisecond), "k", 2)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		for _, err := range st.List(timeout(t, 20*time.Millisecond), "") {
			require.ErrorIs(t, err, context.DeadlineExceeded)
		}
	}
}

// timeout returns a context that ends soon.
func timeout(t testing.TB, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// TestRepeatedDeletesOnAClusterWithAHungMaster: those on other masters do not wait for it.
func TestRepeatedDeletesOnAClusterWithAHungMaster(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, 3, redistest.WithConfig("cluster-require-full-coverage", "no"))
	c := newCache[string](t, newStore(t, clusterClient(t, cluster)), store.WithTTL(time.Hour))
	hung := cluster.MasterOf(t, redisKey("k"))
	var there, elsewhere []string
	for i := 0; len(there) < 3000; i++ {
		switch key := fmt.Sprint("k", i); {
		case cluster.MasterOf(t, redisKey(key)) == hung:
			there = append(there, key)
		case len(elsewhere) < 100:
			elsewhere = append(elsewhere, key)
			require.NoError(t, c.Set(t.Context(), key, "old"))
		}
	}
	hung.Stop()
	defer hung.Continue()
	ended, end := context.WithCancel(t.Context())
	end()
	require.Error(t, c.Delete(ended, append(there, elsewhere...)...))
	require.Eventually(t, func() bool { return store.Pending(c) == len(there) }, patience, tick)
	values, err := c.GetMany(t.Context(), elsewhere)
	require.NoError(t, err)
	assert.Empty(t, values)
	hung.Continue()
	require.Eventually(t, func() bool { return store.Pending(c) == 0 }, patience, tick)
}
