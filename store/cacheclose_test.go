package store_test

import (
	"context"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/faultproxy"
	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/store"
)

func TestCallersFollowTheirContextsWhateverRedisDoes(t *testing.T) {
	t.Parallel()
	server, _, _ := proxied(t)
	deaf := redis.NewClient(&redis.Options{Addr: server.Addr(), ReadTimeout: patience}) // heeds no contexts
	t.Cleanup(func() { _ = deaf.Close() })
	c := newCache[string](t, newCacheStore(t, deaf))
	server.Stop()
	defer server.Continue()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	loader, _ := loads("v")
	_, err := c.GetOrLoad(ctx, "k", loader)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	_, err = c.Get(ctx, "k")
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorIs(t, c.Set(ctx, "k", "v"), context.DeadlineExceeded)
	require.ErrorIs(t, c.Delete(ctx, "k"), context.DeadlineExceeded)
	server.Continue()
}

func TestFirstCallerThatGivesUpWhileReadingSpoilsNothing(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	proxy := faultproxy.New(t, server.Addr())
	c := newCache[string](t, newCacheStore(t, newClient(t, proxy.Addr())))
	loader, count := loads("v")
	_, err := c.GetOrLoad(t.Context(), "warm", loader)
	require.NoError(t, err)
	proxy.SwallowToServer(true)
	ctx, cancel := context.WithCancel(t.Context())
	first := async(ctx, c, "k", loader)
	requireCallers(t, c, "k", 1)
	var others []<-chan outcome[string]
	for range 20 {
		others = append(others, async(t.Context(), c, "k", loader))
	}
	requireCallers(t, c, "k", 21)
	cancel()
	require.ErrorIs(t, receive(t, first, "first").err, context.Canceled)
	proxy.SwallowToServer(false)
	proxy.Cut()
	for _, ch := range others {
		require.NoError(t, receive(t, ch, "another").err)
	}
	assert.EqualValues(t, 2, count.Load())
}

func TestCloseWaitsForLoadsAndEndsThemWithItsContext(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s, err := store.New(newClient(t, server.Addr()))
	require.NoError(t, err)
	c := newCache[string](t, s)
	loader := newGated[string]()
	ctx, leave := context.WithCancel(t.Context())
	first := async(ctx, c, "k", loader.load)
	inner := receive(t, loader.began, "the load")
	leave()
	require.ErrorIs(t, receive(t, first, "first").err, context.Canceled)
	second := async(t.Context(), c, "k", loader.load)
	requireCallers(t, c, "k", 1)

	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, s.Close(short), context.DeadlineExceeded)
	receive(t, inner.Done(), "loaders end with the context of Close")
	require.ErrorIs(t, receive(t, second, "second").err, store.ErrClosed)
	loader.give("late", nil)
	require.NoError(t, s.Close(t.Context()))
	_, err = c.GetOrLoad(t.Context(), "k", never)
	require.ErrorIs(t, err, store.ErrClosed)
	require.ErrorIs(t, c.Set(t.Context(), "k", "v"), store.ErrClosed)
	require.ErrorIs(t, c.Delete(t.Context(), "k"), store.ErrClosed)
	_, err = c.GetMany(t.Context(), []string{"k"})
	require.ErrorIs(t, err, store.ErrClosed)
	_, err = c.LoadMany(t.Context(), []string{"k"}, (&table{}).load)
	require.ErrorIs(t, err, store.ErrClosed)
}

func TestClosedLoaderLetsOthersLoad(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s, err := store.New(newClient(t, server.Addr()))
	require.NoError(t, err)
	a, b := newCache[string](t, s), newCache[string](t, newCacheStore(t, newClient(t, server.Addr())))
	first := async(t.Context(), a, "k", func(ctx context.Context) (string, error) {
		<-ctx.Done()
		return "", context.Cause(ctx)
	})
	requireCallers(t, a, "k", 1)
	require.Eventually(t, func() bool {
		return server.Client(t).Exists(t.Context(), "cache:l:"+name+":{k}").Val() == 1
	}, patience, tick)
	loader, _ := loads("v")
	second := async(t.Context(), b, "k", loader)
	requireWaiting(t, b)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_ = s.Close(ended)
	require.Error(t, receive(t, first, "first").err)
	out := receive(t, second, "second")
	require.NoError(t, out.err)
	assert.Equal(t, "v", out.item.Value)
	require.NoError(t, s.Close(t.Context()))
}
