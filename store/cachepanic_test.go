package store_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/store"
)

func TestPanicAndGoexitOfALoader(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(){
		"panic": func() { panic(io.ErrUnexpectedEOF) }, "goexit": runtime.Goexit,
	} {
		_, a, b := two[string](t)
		loader := newGated[string]()
		failing := func(ctx context.Context) (string, error) {
			_, _ = loader.load(ctx)
			end()
			return "", nil
		}
		first := async(t.Context(), a, "k", failing)
		receive(t, loader.began, "the load")
		second, other := async(t.Context(), a, "k", failing), async(t.Context(), b, "k", failing)
		requireWaiting(t, b)
		requireCallers(t, a, "k", 2)
		loader.give("", nil)
		for _, ch := range []<-chan outcome[string]{first, second} {
			err := receive(t, ch, "a caller").err
			require.ErrorIs(t, err, store.ErrPanic, name)
			assert.Equal(t, name == "panic", errors.Is(err, io.ErrUnexpectedEOF), name)
		}
		err := receive(t, other, "the other process").err
		require.ErrorIs(t, err, store.ErrPanic, name)
		require.ErrorIs(t, err, store.ErrLoad, name)
		works, _ := loads("v")
		v, err := b.GetOrLoad(t.Context(), "k", works)
		require.NoError(t, err, "there is no pause")
		assert.Equal(t, "v", v)
	}
}

// TestPanicWithAnErrorThatMeansSomething is a panic, and means nothing else, whichever error that is.
func TestPanicWithAnErrorThatMeansSomething(t *testing.T) {
	t.Parallel()
	s := newCacheStore(t, newClient(t, redistest.Start(t).Addr()))
	plain, negative := newCache[string](t, s), must(store.NewCache[string](s, "negative", store.WithNegative(time.Hour)))
	for _, meaning := range []error{
		store.ErrNotFound, store.ErrClosed, store.ErrUnavailable, store.ErrLoadTimeout, context.Canceled, context.DeadlineExceeded,
	} {
		for _, c := range []*store.Cache[string]{plain, negative} {
			key := meaning.Error()
			_, one := c.GetOrLoad(t.Context(), key, func(context.Context) (string, error) { panic(fmt.Errorf("query: %w", meaning)) })
			_, many := c.LoadMany(t.Context(), []string{key}, func(context.Context, []string) (map[string]string, error) {
				panic(fmt.Errorf("query: %w", meaning))
			})
			for _, err := range []error{one, many} {
				require.ErrorIs(t, err, store.ErrPanic)
				require.NotErrorIs(t, err, meaning)
				require.ErrorContains(t, err, "the loader panicked: query: "+key)
			}
			loader, _ := loads("v")
			v, err := c.GetOrLoad(t.Context(), key, loader)
			require.NoError(t, err, key)
			assert.Equal(t, "v", v)
		}
	}
	assert.NoError(t, testutil.CollectAndCompare(s.Collector(), strings.NewReader(`
# HELP cache_store_loads_total Loads, by outcome.
# TYPE cache_store_loads_total counter
cache_store_loads_total{cache="default",name="negative",outcome="ok"} 6
cache_store_loads_total{cache="default",name="negative",outcome="panic"} 12
cache_store_loads_total{cache="default",name="things",outcome="ok"} 6
cache_store_loads_total{cache="default",name="things",outcome="panic"} 12
`), "cache_store_loads_total"))
}

// TestPanicOfAnotherLoader is an error of the loader that has called it, which has a pause.
func TestPanicOfAnotherLoader(t *testing.T) {
	t.Parallel()
	s := newCacheStore(t, newClient(t, redistest.Start(t).Addr()))
	c := newCache[string](t, s)
	inner := must(store.NewCache[string](s, "inner"))
	_, err := c.GetOrLoad(t.Context(), "k", func(ctx context.Context) (string, error) {
		return inner.GetOrLoad(ctx, "k", func(context.Context) (string, error) { panic("x") })
	})
	require.ErrorIs(t, err, store.ErrPanic)
	_, err = c.GetOrLoad(t.Context(), "k", never)
	require.ErrorIs(t, err, store.ErrLoad)
	require.NotErrorIs(t, err, store.ErrPanic)
}

// TestLoaderThatUsesAClosedStore has a pause, as that is not the Store which runs it.
func TestLoaderThatUsesAClosedStore(t *testing.T) {
	t.Parallel()
	_, a, b := two[string](t)
	_, err := a.GetOrLoad(t.Context(), "k", func(context.Context) (string, error) {
		return "", fmt.Errorf("settings: %w", store.ErrClosed)
	})
	require.ErrorIs(t, err, store.ErrClosed)
	_, err = b.GetOrLoad(t.Context(), "k", never)
	require.ErrorIs(t, err, store.ErrLoad)
}

// clumsy is a codec that panics.
type clumsy struct {
	store.JSON

	broken atomic.Bool
}

func (c *clumsy) Letter() byte { return 'c' }

func (c *clumsy) Marshal(v any) ([]byte, error) {
	if c.broken.Load() {
		panic("clumsy")
	}
	return c.JSON.Marshal(v)
}

func TestPanickingCodecEndsNoProcess(t *testing.T) {
	t.Parallel()
	codec := &clumsy{}
	_, c := setupCache[string](t, store.WithCodec(codec))
	loader, count := loads("v")
	codec.broken.Store(true)
	_, err := c.GetOrLoad(t.Context(), "k", loader)
	require.ErrorIs(t, err, store.ErrPanic)
	assert.EqualError(t, err, `store: panic in loader, codec or client hook: clumsy: load "k" of "things"`)
	_, err = c.LoadMany(t.Context(), []string{"a", "b"}, (&table{rows: map[string]string{"a": "1"}}).load)
	require.ErrorIs(t, err, store.ErrPanic)
	codec.broken.Store(false)
	v, err := c.GetOrLoad(t.Context(), "k", loader)
	require.NoError(t, err, "once the lease has run out")
	assert.Equal(t, "v", v)
	assert.EqualValues(t, 2, count.Load())
}

// readPanics is a hook that panics once before something is read.
type readPanics struct {
	redistest.Hook
	atomic.Bool
}

func (r *readPanics) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if r.Swap(false) {
			panic("the hook's own fault")
		}
		return next(ctx, cmds)
	}
}

func TestPanickingHookEndsNoProcess(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client := newClient(t, server.Addr())
	var reads readPanics
	client.AddHook(redistest.Panics{})
	client.AddHook(&reads)
	c := newCache[string](t, newCacheStore(t, client))
	loader, _ := loads("v")
	_, err := c.GetOrLoad(redistest.PanicBefore(t.Context()), "k", loader)
	require.ErrorIs(t, err, store.ErrPanic)
	for _, f := range []func(){
		func() { _, _ = c.GetOrLoad(t.Context(), "k", loader) },
		func() { _, _ = c.LoadMany(t.Context(), []string{"k"}, (&table{}).load) },
		func() { _, _ = c.GetMany(t.Context(), []string{"k"}) },
	} {
		reads.Store(true)
		assert.Panics(t, f)
	}
	v, err := c.GetOrLoad(t.Context(), "k", loader)
	require.NoError(t, err)
	assert.Equal(t, "v", v)
}
