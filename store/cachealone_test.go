package store_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/faultproxy"
	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/store"
)

// TestLoadsWithoutRedisThatSomebodyOvertakes: while this process alone was cut off from Redis a load began there. Those who come
// after the value was invalidated do not get what it returns.
func TestLoadsWithoutRedisThatSomebodyOvertakes(t *testing.T) {
	t.Parallel()
	for name, invalidate := range map[string]func(ctx context.Context, c, other *store.Cache[string]) error{
		"tag":    func(ctx context.Context, c, _ *store.Cache[string]) error { return c.InvalidateTag(ctx, "t") },
		"clear":  func(ctx context.Context, c, _ *store.Cache[string]) error { return c.Clear(ctx) },
		"delete": func(ctx context.Context, c, _ *store.Cache[string]) error { return c.Delete(ctx, "k") },
		"other":  func(ctx context.Context, _, other *store.Cache[string]) error { return other.Delete(ctx, "k") },
	} {
		for _, many := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				server := redistest.Start(t)
				proxy := faultproxy.New(t, server.Addr())
				c := newCache[string](t, newStore(t, newClient(t, proxy.Addr())), store.WithTags("t"))
				other := newCache[string](t, newCacheStore(t, newClient(t, server.Addr())), store.WithTags("t"))
				proxy.Refuse(true)
				proxy.Cut()
				loader := newGated[string]()
				load := func() <-chan outcome[string] {
					if !many {
						return async(t.Context(), c, "k", loader.load)
					}
					return asyncMany(t.Context(), c, "k", loader.load)
				}
				first := load()
				receive(t, loader.began, "the load")
				proxy.Refuse(false)
				require.Eventually(t, func() bool { return invalidate(t.Context(), c, other) == nil }, patience, tick)
				callers := 1 // of whatever call there is then
				if name == "other" {
					callers = 2
				}
				second := load()
				requireCallers(t, c, "k", callers)
				loader.give("old", nil)
				loader.give("new", nil)
				require.Equal(t, "old", receive(t, first, "the first caller").item.Value)
				out := receive(t, second, "the second caller")
				require.NoError(t, out.err)
				assert.Equal(t, "new", out.item.Value)
			})
		}
	}
}

// TestLoadsWithoutRedisAreShared also with those who come while they run, as long as Redis does not answer.
func TestLoadsWithoutRedisAreShared(t *testing.T) {
	t.Parallel()
	for _, opts := range [][]store.Option{nil, {store.WithShared()}} {
		server, _, c := proxied(t, opts...)
		server.Kill()
		loader := newGated[string]()
		var callers []<-chan outcome[string]
		for i := range 10 {
			if i == 5 {
				receive(t, loader.began, "the load")
			}
			call := async[string]
			if i%2 == 1 {
				call = asyncMany
			}
			callers = append(callers, call(t.Context(), c, "k", loader.load))
		}
		requireCallers(t, c, "k", 10)
		loader.give("v", nil)
		for _, ch := range callers {
			out := receive(t, ch, "a caller")
			require.NoError(t, out.err)
			assert.Equal(t, "v", out.item.Value)
		}
		assert.EqualValues(t, 1, loader.runs.Load())
	}
}

// TestLateCallersOfALoadThatRedisRefuses: it has no memory, so that nothing is stored, but what is deleted is.
func TestLateCallersOfALoadThatRedisRefuses(t *testing.T) {
	t.Parallel()
	server, a, b := two[string](t)
	require.NoError(t, server.Client(t).ConfigSet(t.Context(), "maxmemory", "1").Err())
	loader := newGated[string]()
	first := async(t.Context(), a, "k", loader.load)
	receive(t, loader.began, "the load")
	require.NoError(t, b.Delete(t.Context(), "k"))
	second := async(t.Context(), a, "k", loader.load)
	requireCallers(t, a, "k", 2)
	loader.give("old", nil)
	loader.give("new", nil)
	assert.Equal(t, "old", receive(t, first, "the first caller").item.Value)
	assert.Equal(t, "new", receive(t, second, "the second caller").item.Value)
}

// asyncMany is async for a call of LoadMany.
func asyncMany(
	ctx context.Context, c *store.Cache[string], key string, loader func(context.Context) (string, error), opts ...store.Option,
) <-chan outcome[string] {
	ch := make(chan outcome[string], 1)
	go func() {
		values, err := c.LoadMany(ctx, []string{key}, func(ctx context.Context, _ []string) (map[string]string, error) {
			v, err := loader(ctx)
			return map[string]string{key: v}, err
		}, opts...)
		ch <- outcome[string]{store.Item[string]{Value: values[key]}, err}
	}()
	return ch
}
