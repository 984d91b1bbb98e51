package store_test

import (
	"context"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/store"
)

func TestNewCacheRefusesArguments(t *testing.T) {
	t.Parallel()
	s := newStore(t, newClient(t, "localhost:1"))
	for _, bad := range []string{"", "a:b", "{", "a\n"} {
		_, err := store.NewCache[int](s, bad)
		refused(t, err, "name")
	}
	for _, none := range []*store.Store{nil, {}} {
		_, err := store.NewCache[int](none, "a")
		refused(t, err, "Store")
	}
	_, err := store.NewState[int](s, "state")
	require.NoError(t, err)
	_, err = store.NewCache[int](s, "state")
	refused(t, err, "name")
	for argument, options := range map[string][]store.Option{
		"opts[0]":          {{}},
		"WithJitter":       {store.WithJitter(-0.1), store.WithJitter(1), store.WithJitter(math.NaN())},
		"WithStale":        {store.WithStale(-1), store.WithStale(time.Microsecond), store.WithStale(math.MaxInt64)},
		"WithNegative":     {store.WithNegative(-1), store.WithNegative(time.Microsecond)},
		"WithEarly":        {store.WithEarly(-0.1), store.WithEarly(1), store.WithEarly(math.Inf(1)), store.WithEarly(math.NaN())},
		"WithSoftTimeout":  {store.WithSoftTimeout(-1)},
		"WithHardTimeout":  {store.WithHardTimeout(-1), store.WithHardTimeout(0)},
		"WithFailurePause": {store.WithFailurePause(-1), store.WithFailurePause(time.Microsecond)},
		"WithTTL":          {store.WithTTL(-1)},
		"WithMaxSize":      {store.WithMaxSize(0)},
		"WithFence":        {store.WithFence(1)},
		"WithTimeout":      {store.WithTimeout(1)},
	} {
		for _, option := range options {
			_, err := store.NewCache[int](s, "a", option)
			refused(t, err, argument)
		}
	}
}

func TestCallsOfACacheRefuseArguments(t *testing.T) {
	t.Parallel()
	server, c := setupCache[int](t)
	ctx := t.Context()
	loader, count := loads(1)
	many := func(context.Context, []string) (map[string]int, error) { return nil, errDatabase }
	calls := func(c *store.Cache[int], ctx context.Context, key string) map[string]error {
		errs := make(map[string]error)
		_, errs["Get"] = c.Get(ctx, key)
		_, errs["GetItem"] = c.GetItem(ctx, key)
		_, errs["GetOrLoad"] = c.GetOrLoad(ctx, key, loader)
		_, errs["GetOrLoadItem"] = c.GetOrLoadItem(ctx, key, loader)
		errs["Set"] = c.Set(ctx, key, 1)
		errs["Delete"] = c.Delete(ctx, key)
		return errs
	}
	batches := func(c *store.Cache[int], ctx context.Context, keys ...string) map[string]error {
		errs := make(map[string]error)
		_, errs["GetMany"] = c.GetMany(ctx, keys)
		_, errs["LoadMany"] = c.LoadMany(ctx, keys, many)
		return errs
	}
	server.ResetCommands(t)
	for argument, errs := range map[string][]map[string]error{
		"Cache": {calls(nil, ctx, "k"), calls(&store.Cache[int]{}, ctx, "k"), batches(nil, ctx, "k"), batches(&store.Cache[int]{}, ctx)},
		"ctx":   {calls(c, nil, "k"), batches(c, nil, "k")},
		"key":   {calls(c, ctx, ""), {"Delete": c.Delete(ctx, "a", "")}},
		"keys":  {batches(c, ctx, "a", "")},
	} {
		for _, some := range errs {
			for call, err := range some {
				require.ErrorIs(t, err, store.ErrInvalidArgument, call)
				refused(t, err, argument)
			}
		}
	}
	_, err := c.GetOrLoad(ctx, "k", nil)
	refused(t, err, "loader")
	_, err = c.LoadMany(ctx, []string{"k"}, nil)
	refused(t, err, "loader")
	_, err = c.GetOrLoad(ctx, "k", loader, store.WithSliding())
	refused(t, err, "WithSliding")
	_, err = c.LoadMany(ctx, []string{"k"}, many, store.WithHardTimeout(0))
	refused(t, err, "WithHardTimeout")
	_, err = c.LoadMany(ctx, []string{"k"}, many, store.WithSliding())
	refused(t, err, "WithSliding")
	assert.ErrorContains(t, err, "is no option of LoadMany")
	refused(t, c.Set(ctx, "k", 1, store.WithNegative(time.Minute)), "WithNegative")
	require.NoError(t, c.Delete(ctx))
	assert.Zero(t, count.Load())
	assert.Zero(t, server.Commands(t)["evalsha"]+server.Commands(t)["get"], "nothing was sent")
}

func TestCachePrintsNoValues(t *testing.T) {
	t.Parallel()
	_, c := setupCache[string](t)
	require.NoError(t, c.Set(t.Context(), "k", "hunter2"))
	item, err := c.GetItem(t.Context(), "k")
	require.NoError(t, err)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%d"} {
		assert.Equal(t, `cache "`+name+`"`, fmt.Sprintf(verb, c))
		assert.NotContains(t, fmt.Sprintf(verb, item), "hunter2")
		assert.Equal(t, "cache that was never made", fmt.Sprintf(verb, &store.Cache[string]{}))
	}
}

func TestErrorsOfACacheShowNoPassword(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.WithPassword("right"))
	client := redis.NewClient(&redis.Options{Addr: server.Addr(), Password: "hunter2", ContextTimeoutEnabled: true})
	t.Cleanup(func() { _ = client.Close() })
	c := newCache[string](t, newStore(t, client))
	_, err := c.Get(t.Context(), "k")
	require.ErrorIs(t, err, store.ErrUnavailable)
	assert.NotContains(t, err.Error(), "hunter2")
	loader, _ := loads("v")
	v, err := c.GetOrLoad(t.Context(), "k", loader)
	require.NoError(t, err)
	assert.Equal(t, "v", v)
}

func TestMetricsOfACache(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := newStore(t, newClient(t, server.Addr()), store.WithName("main"), store.WithTimeout(patience))
	registry := prometheus.NewPedanticRegistry()
	require.NoError(t, registry.Register(s.Collector()))
	c := newCache[string](t, s, store.WithStale(time.Hour), store.WithMaxSize(10), store.WithFailurePause(0))
	ctx := t.Context()
	loader, _ := loads("v")
	for range 2 {
		_, _ = c.GetOrLoad(ctx, "k", loader)
	}
	expire(t, server, "k")
	_, _ = c.GetOrLoad(ctx, "k", func(context.Context) (string, error) { return "", errDatabase })
	_, _ = c.Get(ctx, "none")
	_, _ = c.GetOrLoad(ctx, "none", func(context.Context) (string, error) { panic("oops") })
	_, _ = c.GetOrLoad(ctx, "large", func(context.Context) (string, error) { return "much too large", nil })
	_, _ = c.GetOrLoad(ctx, "refused", func(context.Context) (string, error) {
		return "v", c.Delete(ctx, "refused")
	})
	require.Error(t, c.Set(ctx, "k", "much too large"))
	assert.NoError(t, testutil.GatherAndCompare(registry, strings.NewReader(`
# HELP cache_store_breakers_open Redis servers that Caches do without just now.
# TYPE cache_store_breakers_open gauge
cache_store_breakers_open{cache="main"} 0
# HELP cache_store_cache_writes_total Keys, tags and whole Caches that writes were about, by outcome.
# TYPE cache_store_cache_writes_total counter
cache_store_cache_writes_total{cache="main",name="things",op="delete",outcome="ok"} 1
cache_store_cache_writes_total{cache="main",name="things",op="set",outcome="too_large"} 1
# HELP cache_store_deletes_pending Keys whose delete failed and is to be repeated.
# TYPE cache_store_deletes_pending gauge
cache_store_deletes_pending{cache="main"} 0
# HELP cache_store_fills_refused_total Loaded values that were not stored, as somebody else had written or deleted.
# TYPE cache_store_fills_refused_total counter
cache_store_fills_refused_total{cache="main",name="things"} 1
# HELP cache_store_lease_waits_total Keys for whose load in another process this one has waited.
# TYPE cache_store_lease_waits_total counter
cache_store_lease_waits_total{cache="main",name="things"} 0
# HELP cache_store_loads_total Loads, by outcome.
# TYPE cache_store_loads_total counter
cache_store_loads_total{cache="main",name="things",outcome="error"} 1
cache_store_loads_total{cache="main",name="things",outcome="ok"} 3
cache_store_loads_total{cache="main",name="things",outcome="panic"} 1
# HELP cache_store_loads_without_redis Loaders that run without Redis just now.
# TYPE cache_store_loads_without_redis gauge
cache_store_loads_without_redis{cache="main"} 0
# HELP cache_store_oversize_total Values that were too large to be stored or read.
# TYPE cache_store_oversize_total counter
cache_store_oversize_total{cache="main",name="things"} 2
# HELP cache_store_requests_total Keys that were asked for, by where their values came from.
# TYPE cache_store_requests_total counter
cache_store_requests_total{cache="main",name="things",source="error"} 1
cache_store_requests_total{cache="main",name="things",source="loaded"} 3
cache_store_requests_total{cache="main",name="things",source="near"} 0
cache_store_requests_total{cache="main",name="things",source="none"} 1
cache_store_requests_total{cache="main",name="things",source="redis"} 1
cache_store_requests_total{cache="main",name="things",source="stale"} 1
# HELP cache_store_stale_served_total Stale values that were returned, by cause.
# TYPE cache_store_stale_served_total counter
cache_store_stale_served_total{cache="main",cause="load",name="things"} 1
`), "cache_store_breakers_open", "cache_store_cache_writes_total", "cache_store_deletes_pending",
		"cache_store_fills_refused_total", "cache_store_lease_waits_total", "cache_store_loads_total",
		"cache_store_loads_without_redis", "cache_store_oversize_total", "cache_store_requests_total",
		"cache_store_stale_served_total"))
	count, err := testutil.GatherAndCount(registry, "cache_store_load_seconds")
	require.NoError(t, err)
	assert.Equal(t, 1, count)
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
