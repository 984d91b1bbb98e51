package store_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/store"
)

// table is a loader of many keys that has their values, and notes what it was asked for.
type table struct {
	rows map[string]string
	err  error

	mu    sync.Mutex
	asked [][]string
}

func (l *table) load(_ context.Context, missing []string) (map[string]string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asked = append(l.asked, slices.Sorted(slices.Values(missing)))
	values := make(map[string]string)
	for _, key := range missing {
		if v, ok := l.rows[key]; ok {
			values[key] = v
		}
	}
	return values, l.err
}

func (l *table) calls() [][]string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.asked)
}

func TestLoadManyLoadsWhatIsMissing(t *testing.T) {
	t.Parallel()
	_, c := setupCache[string](t, store.WithNegative(time.Minute))
	require.NoError(t, c.Set(t.Context(), "a", "1"))
	l := &table{rows: map[string]string{"b": "2", "c": "3"}}
	want := map[string]string{"a": "1", "b": "2", "c": "3"}
	for range 2 {
		values, err := c.LoadMany(t.Context(), []string{"a", "b", "c", "b", "none"}, l.load)
		require.NoError(t, err)
		assert.Equal(t, want, values)
	}
	assert.Equal(t, [][]string{{"b", "c", "none"}}, l.calls(), "that there is no value is known as well")
	values, err := c.LoadMany(t.Context(), nil, l.load)
	require.NoError(t, err)
	assert.Empty(t, values)
}

func TestLoadManySharesLoadsWithAll(t *testing.T) {
	t.Parallel()
	_, a, b := two[string](t)
	held, elsewhere := newGated[string](), newGated[string]()
	one := async(t.Context(), a, "one", held.load)
	other := async(t.Context(), b, "other", elsewhere.load)
	receive(t, held.began, "the load in this process")
	receive(t, elsewhere.began, "the load in another")
	l := &table{rows: map[string]string{"mine": "3"}}
	got := make(chan map[string]string, 1)
	go func() {
		values, err := a.LoadMany(t.Context(), []string{"one", "other", "mine"}, l.load)
		assert.NoError(t, err)
		got <- values
	}()
	requireWaiting(t, a)
	held.give("1", nil)
	elsewhere.give("2", nil)
	assert.Equal(t, map[string]string{"one": "1", "other": "2", "mine": "3"}, receive(t, got, "values"))
	assert.Equal(t, [][]string{{"mine"}}, l.calls())
	require.NoError(t, receive(t, one, "one").err)
	require.NoError(t, receive(t, other, "other").err)
}

func TestLoadManyLoadsWhatAnotherCouldNot(t *testing.T) {
	t.Parallel()
	_, a, b := two[string](t)
	held := newGated[string]()
	one := async(t.Context(), b, "k", held.load)
	receive(t, held.began, "the load in another process")
	l := &table{rows: map[string]string{"k": "new", "l": "2"}}
	got := make(chan map[string]string, 1)
	go func() {
		values, err := a.LoadMany(t.Context(), []string{"k", "l"}, l.load)
		assert.NoError(t, err)
		got <- values
	}()
	requireWaiting(t, a)
	require.NoError(t, b.Delete(t.Context(), "k")) // which ends its lease
	assert.Equal(t, map[string]string{"k": "new", "l": "2"}, receive(t, got, "values"))
	held.give("old", nil)
	receive(t, one, "one")
	assert.ElementsMatch(t, [][]string{{"l"}, {"k"}}, l.calls())
}

func TestLoadManyReturnsWhatItCan(t *testing.T) {
	t.Parallel()
	server, c := setupCache[string](t, store.WithStale(time.Minute))
	require.NoError(t, c.Set(t.Context(), "fresh", "1"))
	require.NoError(t, c.Set(t.Context(), "stale", "2"))
	expire(t, server, "stale")
	require.NoError(t, server.Client(t).RPush(t.Context(), redisKey("list"), "x").Err())
	require.NoError(t, server.Client(t).Set(t.Context(), redisKey("foreign"), "x", 0).Err())
	l := &table{err: errDatabase}
	values, err := c.LoadMany(t.Context(), []string{"fresh", "stale", "cold", "foreign"}, l.load)
	assert.Equal(t, map[string]string{"fresh": "1", "stale": "2"}, values)
	require.ErrorIs(t, err, errDatabase)
	require.ErrorIs(t, err, store.ErrCodec)
	var many *store.ManyError
	require.ErrorAs(t, err, &many)
	assert.Len(t, many.Errs, 2)
	require.ErrorIs(t, many.Errs["cold"], errDatabase)
	require.ErrorIs(t, many.Errs["foreign"], store.ErrCodec)
	assert.Equal(t, "x", server.Client(t).Get(t.Context(), redisKey("foreign")).Val())

	values, err = c.GetMany(t.Context(), []string{"fresh", "foreign", "cold"})
	assert.Equal(t, map[string]string{"fresh": "1"}, values)
	require.ErrorAs(t, err, &many)
	assert.Len(t, many.Errs, 1)
}

func TestLoadManyLoaderPanics(t *testing.T) {
	t.Parallel()
	_, c := setupCache[string](t)
	_, err := c.LoadMany(t.Context(), []string{"a", "b"}, func(context.Context, []string) (map[string]string, error) {
		panic("oops")
	})
	require.ErrorIs(t, err, store.ErrPanic)
	var many *store.ManyError
	require.ErrorAs(t, err, &many)
	assert.Len(t, many.Errs, 2)
	l := &table{rows: map[string]string{"a": "1", "b": "2"}}
	values, err := c.LoadMany(t.Context(), []string{"a", "b"}, l.load)
	require.NoError(t, err)
	assert.Len(t, values, 2)
}

func TestManyErrorShowsSomeKeys(t *testing.T) {
	t.Parallel()
	e := &store.ManyError{Errs: make(map[string]error)}
	for i := range 10 {
		e.Errs[fmt.Sprint(i)] = fmt.Errorf("%d: %w", i, errDatabase)
	}
	require.EqualError(t, e, "0: database down; 1: database down; 2: database down; and 7 more")
	require.ErrorIs(t, e, errDatabase)
	assert.NotErrorIs(t, e, store.ErrCodec)
}

func TestBatchesAcrossSlotsOfACluster(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, 3)
	client := redis.NewClusterClient(&redis.ClusterOptions{Addrs: cluster.Addrs(), ContextTimeoutEnabled: true})
	t.Cleanup(func() { _ = client.Close() })
	a, b := newCache[string](t, newCacheStore(t, client)), newCache[string](t, newCacheStore(t, client))
	l := &table{rows: map[string]string{}}
	keys := []string{"{x}", "}y{", "{}", "%", "a b", "{x}1", "\n", "ü"}
	for i := range 100 {
		keys = append(keys, fmt.Sprint("k", i))
	}
	for _, key := range keys {
		l.rows[key] = "v" + key
	}
	for _, c := range []*store.Cache[string]{a, b} {
		values, err := c.LoadMany(t.Context(), keys, l.load)
		require.NoError(t, err)
		assert.Equal(t, l.rows, values)
	}
	assert.Len(t, l.calls(), 1)
	values, err := b.GetMany(t.Context(), keys)
	require.NoError(t, err)
	assert.Equal(t, l.rows, values)
	require.NoError(t, a.Delete(t.Context(), keys...))
	values, err = b.GetMany(t.Context(), keys)
	require.NoError(t, err)
	assert.Empty(t, values)

	loader := newGated[string]()
	one := async(t.Context(), a, "}y{", loader.load)
	receive(t, loader.began, "the load")
	other := async(t.Context(), b, "}y{", never[string])
	requireWaiting(t, b)
	loader.give("v", nil)
	require.NoError(t, receive(t, one, "one").err)
	out := receive(t, other, "the message from a node to another")
	require.NoError(t, out.err)
	assert.Equal(t, "v", out.item.Value)
}
