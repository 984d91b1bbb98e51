package store_test

import (
	"context"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/faultproxy"
	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/store"
)

// TestNearHitsAllocateNothing where callers share values.
func TestNearHitsAllocateNothing(t *testing.T) { //nolint:paralleltest // counts allocations
	_, c := setupCache[user](t, near(), store.WithShared(), store.WithEarly(0.8))
	ctx := t.Context()
	require.NoError(t, c.Set(ctx, "k", user{Name: "Ada", Tags: []string{"x"}}))
	fill(t, c, "k")
	missed := 0
	for _, get := range []func() (store.Item[user], error){
		func() (store.Item[user], error) { return c.GetItem(ctx, "k") },
		func() (store.Item[user], error) { return c.GetOrLoadItem(ctx, "k", never) },
	} {
		assert.Zero(t, testing.AllocsPerRun(1000, func() {
			if item, err := get(); err != nil || item.Source != store.SourceNear {
				missed++
			}
		}))
	}
	assert.Zero(t, missed)
}

func TestSharedAndClonedValues(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := newCacheStore(t, newClient(t, server.Addr()))
	var copies atomic.Int64
	for name, opts := range map[string][]store.Option{
		"shared": {store.WithShared()},
		"cloned": {store.WithClone(func(u user) user {
			copies.Add(1)
			return user{u.Name, append([]string(nil), u.Tags...)}
		})},
	} {
		c, err := store.NewCache[user](s, name, append(opts, near())...)
		require.NoError(t, err)
		require.NoError(t, c.Set(t.Context(), "k", user{"Ada", []string{"x"}}))
		fill(t, c, "k")
		first, err := c.Get(t.Context(), "k")
		require.NoError(t, err)
		first.Tags[0] = "changed"
		for range 2 {
			second, err := c.GetOrLoad(t.Context(), "k", never)
			require.NoError(t, err)
			assert.Equal(t, map[string]string{"shared": "changed", "cloned": "x"}[name], second.Tags[0])
		}
	}
	assert.GreaterOrEqual(t, copies.Load(), int64(4))
	_, err := store.NewCache[user](s, "wrong", store.WithClone(func(v string) string { return v }))
	refused(t, err, "WithClone")
	_, err = store.NewCache[user](s, "wrong", store.WithClone[user](nil))
	refused(t, err, "WithClone")
}

func TestNearOptions(t *testing.T) {
	t.Parallel()
	for argument, options := range map[string][]store.Option{
		"WithNear":      {store.WithNear(-1, time.Second), store.WithNear(1, -1), store.WithNear(1, time.Millisecond)},
		"WithNearBytes": {store.WithNearBytes(0), store.WithNearBytes(-1)},
	} {
		s := newStore(t, newClient(t, "localhost:1"))
		for _, option := range options {
			_, err := store.New(newClient(t, "localhost:1"), option)
			refused(t, err, argument)
			_, err = store.NewCache[int](s, "a", option)
			refused(t, err, argument)
			_, err = store.NewState[int](s, "a", option)
			refused(t, err, argument)
		}
	}
	server := redistest.Start(t)
	s := newStore(t, newClient(t, server.Addr()), store.WithTimeout(patience), store.WithNear(100, 0), store.WithNearBytes(1<<20))
	on, off := newCache[int](t, s), must(store.NewCache[int](s, "off", store.WithNear(0, 0)))
	tiny := must(store.NewCache[int](s, "tiny", store.WithNearBytes(1)))
	for _, c := range []*store.Cache[int]{on, off, tiny} {
		require.NoError(t, c.Set(t.Context(), "k", 1))
	}
	fill(t, on, "k")
	for range 5 {
		for _, c := range []*store.Cache[int]{off, tiny} {
			item, err := c.GetItem(t.Context(), "k")
			require.NoError(t, err)
			assert.Equal(t, store.SourceRedis, item.Source)
		}
	}
	for i := range 1000 {
		key := strconv.Itoa(i)
		require.NoError(t, on.Set(t.Context(), key, i))
		_, err := on.Get(t.Context(), key)
		require.NoError(t, err)
	}
	assert.LessOrEqual(t, store.NearEntries(on), 100)
}

// TestNearStartsWhenItIsUsed: a Cache that is only made connects to nothing.
func TestNearStartsWhenItIsUsed(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	proxy := faultproxy.New(t, server.Addr())
	c := newCache[int](t, newCacheStore(t, newClient(t, proxy.Addr())), near())
	assert.Zero(t, proxy.Accepted())
	require.NoError(t, c.Set(t.Context(), "k", 1))
	fill(t, c, "k")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s := newCacheStore(t, newClient(t, proxy.Addr()))
	closed := newCache[int](t, s, near())
	fill(t, closed, "k")
	_ = s.Close(ctx)
	require.NoError(t, s.Close(t.Context()))
	_, err := closed.Get(t.Context(), "k")
	require.ErrorIs(t, err, store.ErrClosed)
	_, err = store.NewCache[int](s, "late", near())
	require.ErrorIs(t, err, store.ErrClosed)
}

func TestMetricsOfANearCache(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := newStore(t, newClient(t, server.Addr()), store.WithName("main"), store.WithTimeout(patience))
	registry := prometheus.NewPedanticRegistry()
	require.NoError(t, registry.Register(s.Collector()))
	count, err := testutil.GatherAndCount(registry, "cache_store_near_up", "cache_store_near_entries")
	require.NoError(t, err)
	assert.Zero(t, count, "there is none")
	c := newCache[string](t, s, near())
	require.NoError(t, c.Set(t.Context(), "k", "v"))
	fill(t, c, "k")
	fill(t, must(store.NewCache[string](s, name, near())), "k") // which empties the other
	fill(t, c, "k")
	assert.NoError(t, testutil.GatherAndCompare(registry, strings.NewReader(`
# HELP cache_store_near_entries Values in near caches.
# TYPE cache_store_near_entries gauge
cache_store_near_entries{cache="main",name="things"} 2
# HELP cache_store_near_up Whether near caches hear of changes, and serve values.
# TYPE cache_store_near_up gauge
cache_store_near_up{cache="main"} 1
`), "cache_store_near_entries", "cache_store_near_up"))
	for _, name := range []string{"bytes", "invalidated_total", "dropped_total", "age_seconds", "flushes_total"} {
		count, err := testutil.GatherAndCount(registry, "cache_store_near_"+name)
		require.NoError(t, err)
		assert.Equal(t, 1, count, name)
	}
	require.NoError(t, s.HealthCheck(t.Context()))
}

// TestNearPermissions: a user who may do no more than a near cache needs has one; without CLIENT TRACKING it hears what is
// published, whoever writes.
func TestNearPermissions(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	user := func(name string, more ...any) *redis.Client {
		rules := []any{
			"acl", "setuser", name, "on", ">pw", "~cache:*", "resetchannels", "&cache:*", "+eval", "+evalsha", "+get", "+mget",
			"+set", "+del", "+pttl", "+pexpire", "+time", "+publish", "+subscribe", "+ping", "+hello", "+scan", "+info",
		}
		require.NoError(t, server.Client(t).Do(t.Context(), append(rules, more...)...).Err())
		options := server.Options()
		options.Username, options.Password, options.ContextTimeoutEnabled = name, "pw", true
		client := redis.NewClient(options)
		t.Cleanup(func() { _ = client.Close() })
		return client
	}
	ctx := t.Context()
	writer := newCache[string](t, newCacheStore(t, user("writer", "+client|tracking")), store.WithTags("tag"))
	for name, more := range map[string][]any{"tracks": {"+client|tracking", "+pubsub|numsub"}, "listens": nil} {
		c := newCache[string](t, newCacheStore(t, user(name, more...)), near())
		require.NoError(t, writer.Set(ctx, "k", "old"))
		becomes(t, c, "k", "old")
		fill(t, c, "k")
		require.NoError(t, writer.Set(ctx, "k", "new"))
		becomes(t, c, "k", "new")
		fill(t, c, "k")
		require.NoError(t, writer.InvalidateTag(ctx, "tag"))
		becomes(t, c, "k", "")
		require.NoError(t, c.Clear(ctx))
	}
}
