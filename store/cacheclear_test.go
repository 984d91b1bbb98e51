package store_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/store"
)

// TestClear: nothing of before is there afterwards, and nothing that was being loaded is stored; other Caches keep theirs.
func TestClear(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string][]store.Option{
		"keys":   {near()},
		"groups": {near(), store.WithGroup(func(key string) string { return key[:1] })},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, a, b := two[string](t, opts...)
			ctx := t.Context()
			var keys []string
			for i := range 1500 {
				keys = append(keys, fmt.Sprint(i, "} {*?[a]", i))
			}
			load := func(_ context.Context, keys []string) (map[string]string, error) {
				got := make(map[string]string)
				for _, key := range keys {
					got[key] = "v"
				}
				return got, nil
			}
			_, err := a.LoadMany(ctx, keys, load)
			require.NoError(t, err)
			fill(t, a, keys[3])
			fill(t, b, keys[3])
			loader := newGated[string]()
			loading := async(ctx, a, "loading", loader.load)
			receive(t, loader.began, "the load")
			require.NoError(t, a.Clear(ctx))
			loader.give("old", nil)
			require.NoError(t, receive(t, loading, "the value").err)
			_, err = a.Get(ctx, keys[3])
			require.ErrorIs(t, err, store.ErrNotFound)
			becomes(t, b, keys[3], "")
			got, err := b.GetMany(ctx, append(keys, "loading"))
			require.NoError(t, err)
			assert.Empty(t, got)
			require.NoError(t, a.Clear(ctx), "there is nothing")
		})
	}
	cluster := redistest.StartCluster(t, 3)
	s := newStore(t, clusterClient(t, cluster), store.WithTimeout(patience))
	c, other := newCache[string](t, s), must(store.NewCache[string](s, name+"s"))
	for i := range 100 {
		require.NoError(t, c.Set(t.Context(), strconv.Itoa(i), "v"))
	}
	require.NoError(t, other.Set(t.Context(), "k", "v"))
	require.NoError(t, c.Clear(t.Context()))
	for i := range 100 {
		_, err := c.Get(t.Context(), strconv.Itoa(i))
		require.ErrorIs(t, err, store.ErrNotFound)
	}
	_, err := other.Get(t.Context(), "k")
	require.NoError(t, err)
}

// TestClearUnderTraffic: while others load, no value survives that was loaded before.
func TestClearUnderTraffic(t *testing.T) {
	t.Parallel()
	_, a, b := two[string](t)
	ctx, cancel := context.WithCancel(t.Context())
	var generation atomic.Int64
	done := make(chan struct{})
	for i, c := range []*store.Cache[string]{a, b, a, b} {
		go func() {
			defer func() { done <- struct{}{} }()
			for n := i; ctx.Err() == nil; n++ {
				_, err := c.GetOrLoad(ctx, strconv.Itoa(n%50), func(context.Context) (string, error) {
					now := generation.Load()
					sleep(ctx, time.Duration(n%4)*time.Millisecond)
					return strconv.FormatInt(now, 10), nil
				})
				if ctx.Err() == nil {
					assert.NoError(t, err)
				}
			}
		}()
	}
	for range 30 {
		want := generation.Add(1)
		require.NoError(t, a.Clear(t.Context()))
		for i := range 50 {
			v, err := b.Get(t.Context(), strconv.Itoa(i))
			if errors.Is(err, store.ErrNotFound) {
				continue
			}
			require.NoError(t, err)
			require.Equal(t, strconv.FormatInt(want, 10), v)
		}
	}
	cancel()
	for range 4 {
		receive(t, done, "the end")
	}
}

func TestClearWithoutRedis(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := newStore(t, newClient(t, server.Addr()))
	c := newCache[string](t, s, near())
	require.Eventually(t, func() bool { return c.Set(t.Context(), "k", "v") == nil }, patience, tick)
	fill(t, c, "k")
	server.Kill()
	require.ErrorIs(t, c.Clear(t.Context()), store.ErrUnavailable)
	_, err := c.Get(t.Context(), "k")
	require.ErrorIs(t, err, store.ErrUnavailable, "nor from the near cache")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, c.Clear(ctx), context.Canceled)
	require.NoError(t, s.Close(t.Context()))
	require.ErrorIs(t, c.Clear(t.Context()), store.ErrClosed)
	require.ErrorIs(t, c.InvalidateTag(t.Context(), "a"), store.ErrClosed)
}
