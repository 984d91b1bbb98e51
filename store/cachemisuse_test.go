package store_test

import (
	"context"
	"fmt"
	"math"
	"testing"
	"time"

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
		"WithHoldOff":      {store.WithHoldOff(-1), store.WithHoldOff(time.Microsecond)},
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
