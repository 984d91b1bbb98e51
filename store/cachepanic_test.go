package store_test

import (
	"context"
	"errors"
	"io"
	"runtime"
	"sync/atomic"
	"testing"

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
