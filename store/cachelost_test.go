package store_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/faultproxy"
	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/store"
)

func TestDroppedRepliesLoadOnce(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	proxy := faultproxy.New(t, server.Addr())
	client := redis.NewClient(&redis.Options{Addr: proxy.Addr(), ContextTimeoutEnabled: true, MaxRetries: -1})
	t.Cleanup(func() { _ = client.Close() })
	c := newCache[string](t, newCacheStore(t, client))
	warm, _ := loads("up")
	_, err := c.GetOrLoad(t.Context(), "warm", warm)
	require.NoError(t, err)
	for drops := 1; drops <= 3; drops++ {
		key := fmt.Sprint("k", drops)
		loader := newGated[string]()
		proxy.DropReplies(drops)
		one := async(t.Context(), c, key, loader.load)
		receive(t, loader.began, "the load")
		proxy.DropReplies(drops)
		loader.give("v", nil)
		out := receive(t, one, "the value")
		proxy.DropReplies(0)
		require.NoError(t, out.err)
		assert.Equal(t, store.SourceLoaded, out.item.Source)
		assert.Positive(t, out.item.Version, "its own fill was recognised")
		assert.EqualValues(t, 1, loader.runs.Load())
		v, err := c.Get(t.Context(), key)
		require.NoError(t, err)
		assert.Equal(t, "v", v)
	}
}

func TestLostRepliesOfWrites(t *testing.T) {
	t.Parallel()
	server, other := setupCache[string](t)
	client := newClient(t, server.Addr())
	c := newCache[string](t, newCacheStore(t, client))
	require.NoError(t, other.Set(t.Context(), "k", "old"))
	require.NoError(t, other.Delete(t.Context(), "k"))
	l := &loss{}
	client.AddHook(l)
	l.arm(true, nil)
	require.NoError(t, c.Set(t.Context(), "k", "v"), "its own write was recognised")
	l.arm(true, nil)
	require.NoError(t, c.Delete(t.Context(), "k"))
	l.arm(false, nil)
	require.NoError(t, c.Delete(t.Context(), "k"))
	assert.Zero(t, store.Pending(c))

	l.arm(true, func() { require.NoError(t, other.Set(t.Context(), "k", "newer")) })
	require.ErrorIs(t, c.Set(t.Context(), "k", "v"), store.ErrUncertain)
	require.Eventually(t, func() bool {
		_, err := c.Get(t.Context(), "k")
		return errors.Is(err, store.ErrNotFound) && store.Pending(c) == 0
	}, patience, tick, "nobody knows what is right, so it is loaded again")
}

func TestFlushUnderALoad(t *testing.T) {
	t.Parallel()
	server, c := setupCache[string](t)
	loader := newGated[string]()
	one := async(t.Context(), c, "k", loader.load)
	receive(t, loader.began, "the load")
	require.NoError(t, server.Client(t).FlushAll(t.Context()).Err())
	loader.give("v", nil)
	out := receive(t, one, "the value")
	require.NoError(t, out.err)
	assert.Equal(t, "v", out.item.Value)
	_, err := c.Get(t.Context(), "k")
	require.ErrorIs(t, err, store.ErrNotFound)
}
