package store_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/store"
)

// staleCache returns a Cache with a stale value under "k".
func staleCache(t testing.TB, opts ...store.Option) (*redistest.Server, *store.Cache[string]) {
	t.Helper()
	server, c := setupCache[string](t, append([]store.Option{store.WithStale(time.Minute)}, opts...)...)
	require.NoError(t, c.Set(t.Context(), "k", "stale"))
	expire(t, server, "k")
	return server, c
}

func TestStaleValueWhenTheLoaderFails(t *testing.T) {
	t.Parallel()
	_, c := staleCache(t)
	for range 2 {
		item, err := c.GetOrLoadItem(t.Context(), "k", func(context.Context) (string, error) { return "", errDatabase })
		require.NoError(t, err)
		assert.Equal(t, "stale", item.Value)
		assert.True(t, item.Stale)
		assert.Equal(t, store.SourceStale, item.Source)
		assert.Greater(t, item.Age, 50*time.Second)
		require.Error(t, item.Cause)
		if !errors.Is(item.Cause, store.ErrLoad) { // during the pause
			require.ErrorIs(t, item.Cause, errDatabase)
		}
	}
	_, err := c.GetOrLoad(t.Context(), "k", never, store.WithStale(0))
	require.ErrorIs(t, err, store.ErrLoad, "a call may want nothing stale")
	require.NoError(t, c.Delete(t.Context(), "k"))
	_, err = c.GetOrLoad(t.Context(), "k", func(context.Context) (string, error) { return "", errDatabase })
	require.ErrorIs(t, err, errDatabase)
}

func TestNothingStaleOfWhatDoesNotExistAnyMore(t *testing.T) {
	t.Parallel()
	_, c := staleCache(t, store.WithFailurePause(0))
	_, err := c.GetOrLoad(t.Context(), "k", func(context.Context) (string, error) { return "", store.ErrNotFound })
	require.ErrorIs(t, err, store.ErrNotFound)
	_, err = c.GetOrLoad(t.Context(), "k", func(context.Context) (string, error) { return "", errDatabase })
	require.ErrorIs(t, err, errDatabase)
}

func TestSoftTimeoutReturnsTheStaleValueAndLoadsOn(t *testing.T) {
	t.Parallel()
	_, c := staleCache(t, store.WithSoftTimeout(50*time.Millisecond))
	loader := newGated[string]()
	for range 2 {
		item, err := c.GetOrLoadItem(t.Context(), "k", loader.load)
		require.NoError(t, err)
		assert.Equal(t, "stale", item.Value)
		require.ErrorIs(t, item.Cause, store.ErrLoadTimeout)
	}
	values, err := c.LoadMany(t.Context(), []string{"k"}, (&table{}).load)
	require.NoError(t, err)
	assert.Equal(t, map[string]string{"k": "stale"}, values)
	loader.give("new", nil)
	require.Eventually(t, func() bool {
		v, err := c.Get(t.Context(), "k")
		return err == nil && v == "new"
	}, patience, tick)
	assert.EqualValues(t, 1, loader.runs.Load())

	cold := async(t.Context(), c, "cold", loader.load)
	receive(t, loader.began, "a load before")
	receive(t, loader.began, "the load")
	select {
	case <-cold:
		require.Fail(t, "without a stale value callers wait")
	case <-time.After(200 * time.Millisecond):
	}
	loader.give("v", nil)
	require.NoError(t, receive(t, cold, "cold").err)
}

func TestHardTimeoutEndsALoadThatHangs(t *testing.T) {
	t.Parallel()
	_, a, b := two[string](t, store.WithHardTimeout(200*time.Millisecond), store.WithFailurePause(time.Minute))
	loader := newGated[string]()
	first := async(t.Context(), a, "k", loader.load)
	inner := receive(t, loader.began, "the load")
	second := async(t.Context(), b, "k", never[string], store.WithHardTimeout(patience))
	err := receive(t, first, "first").err
	require.ErrorIs(t, err, store.ErrLoadTimeout)
	require.Error(t, inner.Err())
	err = receive(t, second, "second").err
	require.ErrorIs(t, err, store.ErrLoadTimeout)
	require.ErrorIs(t, err, store.ErrLoad)
	loader.give("late", nil)
	require.NoError(t, a.Delete(t.Context(), "k"))
	works, _ := loads("v")
	v, err := a.GetOrLoad(t.Context(), "k", works)
	require.NoError(t, err)
	assert.Equal(t, "v", v)

	obedient := func(ctx context.Context) (string, error) {
		<-ctx.Done()
		return "", ctx.Err()
	}
	_, err = a.GetOrLoad(t.Context(), "other", obedient)
	require.ErrorIs(t, err, store.ErrLoadTimeout)
	require.NoError(t, t.Context().Err())
}

func TestWaitingForAnotherProcessEndsWithTheHardTimeout(t *testing.T) {
	t.Parallel()
	_, a, b := two[string](t)
	loader := newGated[string]()
	first := async(t.Context(), a, "k", loader.load)
	receive(t, loader.began, "the load")
	_, err := b.GetOrLoad(t.Context(), "k", never, store.WithHardTimeout(100*time.Millisecond))
	require.ErrorIs(t, err, store.ErrLoadTimeout)
	loader.give("v", nil)
	require.NoError(t, receive(t, first, "first").err)
}
