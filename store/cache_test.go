package store_test

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/store"
)

var errDatabase = errors.New("database down")

// newCacheStore returns a Store that waits for Redis for longer than a busy machine takes, for tests without faults.
func newCacheStore(t testing.TB, client redis.UniversalClient) *store.Store {
	t.Helper()
	return newStore(t, client, store.WithTimeout(patience))
}

// newCache returns a Cache with the usual name, whose values all have the same TTL.
func newCache[V any](t testing.TB, s *store.Store, opts ...store.Option) *store.Cache[V] {
	t.Helper()
	c, err := store.NewCache[V](s, name, append([]store.Option{store.WithJitter(0)}, opts...)...)
	require.NoError(t, err)
	return c
}

// setupCache returns a server, and a Cache on it.
func setupCache[V any](t testing.TB, opts ...store.Option) (*redistest.Server, *store.Cache[V]) {
	t.Helper()
	server := redistest.Start(t)
	return server, newCache[V](t, newCacheStore(t, newClient(t, server.Addr())), opts...)
}

// two returns a server, and the Caches of what stands for two processes.
func two[V any](t testing.TB, opts ...store.Option) (server *redistest.Server, a, b *store.Cache[V]) {
	t.Helper()
	server, a = setupCache[V](t, opts...)
	return server, a, newCache[V](t, newCacheStore(t, newClient(t, server.Addr())), opts...)
}

// loads returns a loader that returns a value, and how often it ran.
func loads[V any](v V) (loader func(context.Context) (V, error), count *atomic.Int64) {
	count = new(atomic.Int64)
	return func(context.Context) (V, error) {
		count.Add(1)
		return v, nil
	}, count
}

// never is a loader that must not run.
func never[V any](context.Context) (v V, err error) { return v, errors.New("the loader ran") }

// receive returns what comes through a channel.
func receive[T any](t testing.TB, ch <-chan T, what string) (v T) {
	t.Helper()
	select {
	case v = <-ch:
	case <-time.After(patience):
		require.FailNow(t, "waited in vain", what)
	}
	return v
}

// outcome is what a call has returned.
type outcome[V any] struct {
	item store.Item[V]
	err  error
}

// async has GetOrLoadItem called in the background.
func async[V any](
	ctx context.Context, c *store.Cache[V], key string, loader func(context.Context) (V, error), opts ...store.Option,
) <-chan outcome[V] {
	ch := make(chan outcome[V], 1)
	go func() {
		item, err := c.GetOrLoadItem(ctx, key, loader, opts...)
		ch <- outcome[V]{item, err}
	}()
	return ch
}

// gated is a loader that says when it begins, and returns what it is given.
type gated[V any] struct {
	began chan context.Context
	gives chan outcome[V]
	runs  atomic.Int64
}

func newGated[V any]() *gated[V] {
	return &gated[V]{began: make(chan context.Context, 100), gives: make(chan outcome[V], 100)}
}

func (g *gated[V]) load(ctx context.Context) (V, error) {
	g.runs.Add(1)
	g.began <- ctx
	out := <-g.gives
	return out.item.Value, out.err
}

func (g *gated[V]) give(v V, err error) { g.gives <- outcome[V]{store.Item[V]{Value: v}, err} }

type user struct {
	Name string
	Tags []string
}

func TestLoadOnceThenHit(t *testing.T) {
	t.Parallel()
	server, c := setupCache[user](t, store.WithTTL(time.Minute))
	_, err := c.GetItem(t.Context(), "u")
	require.ErrorIs(t, err, store.ErrNotFound)
	loader, count := loads(user{Name: "Ada", Tags: []string{"x"}})
	item, err := c.GetOrLoadItem(t.Context(), "u", loader)
	require.NoError(t, err)
	assert.Equal(t, "Ada", item.Value.Name)
	assert.Equal(t, store.SourceLoaded, item.Source)
	assert.Positive(t, item.Version)
	assert.Zero(t, item.Age)

	again, err := c.GetOrLoadItem(t.Context(), "u", loader)
	require.NoError(t, err)
	assert.Equal(t, item.Value, again.Value)
	assert.Equal(t, item.Version, again.Version)
	assert.Equal(t, store.SourceRedis, again.Source)
	assert.Positive(t, again.Age)
	assert.Less(t, again.Age, patience)
	assert.EqualValues(t, 1, count.Load())
	got, err := c.Get(t.Context(), "u")
	require.NoError(t, err)
	assert.Equal(t, item.Value, got)
	ttl := server.Client(t).PTTL(t.Context(), redisKey("u")).Val()
	assert.LessOrEqual(t, ttl, time.Minute)
	assert.Greater(t, ttl, time.Minute-patience)
}

// What differs: nothing stored, a zero value, JSON null, and the knowledge that there is nothing.
func TestNullZeroAndAbsentAreDifferentAnswers(t *testing.T) {
	t.Parallel()
	_, c := setupCache[*user](t, store.WithNegative(time.Minute))
	require.NoError(t, c.Set(t.Context(), "zero", &user{}))
	require.NoError(t, c.Set(t.Context(), "null", nil))
	_, err := c.GetOrLoad(t.Context(), "known", func(context.Context) (*user, error) { return nil, store.ErrNotFound })
	require.ErrorIs(t, err, store.ErrNotFound)

	zero, err := c.GetItem(t.Context(), "zero")
	require.NoError(t, err)
	assert.Equal(t, &user{}, zero.Value)
	null, err := c.GetItem(t.Context(), "null")
	require.NoError(t, err)
	assert.Nil(t, null.Value)
	assert.Positive(t, null.Version)
	known, err := c.GetItem(t.Context(), "known")
	require.ErrorIs(t, err, store.ErrNotFound)
	assert.Positive(t, known.Version, "it is known since then")
	nothing, err := c.GetItem(t.Context(), "nothing")
	require.ErrorIs(t, err, store.ErrNotFound)
	assert.Zero(t, nothing.Version)

	for key, want := range map[string]*user{"zero": {}, "null": nil} {
		got, err := c.GetOrLoad(t.Context(), key, never)
		require.NoError(t, err, key)
		assert.Equal(t, want, got, key)
	}
	item, err := c.GetOrLoadItem(t.Context(), "known", never)
	require.ErrorIs(t, err, store.ErrNotFound)
	assert.Equal(t, store.SourceRedis, item.Source, "known, not loaded")
	values, err := c.GetMany(t.Context(), []string{"zero", "null", "known", "nothing"})
	require.NoError(t, err)
	assert.Equal(t, map[string]*user{"zero": {}, "null": nil}, values)
}

func TestOneLoadForManyMissesOfWhatDoesNotExist(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string][]store.Option{
		"known for a while": {store.WithNegative(time.Minute)},
		"not stored":        nil,
	} {
		_, a, b := two[string](t, opts...)
		var count atomic.Int64
		loading := make(chan struct{})
		var all sync.WaitGroup
		for i := range 1000 {
			c := a
			if i%2 == 1 {
				c = b
			}
			all.Go(func() {
				_, err := c.GetOrLoad(t.Context(), "k", func(context.Context) (string, error) {
					count.Add(1)
					<-loading
					return "", store.ErrNotFound
				})
				assert.ErrorIs(t, err, store.ErrNotFound, name)
			})
		}
		require.Eventually(t, func() bool { return count.Load() > 0 }, patience, tick)
		time.AfterFunc(300*time.Millisecond, func() { close(loading) }) // until all wait
		all.Wait()
		assert.EqualValues(t, 1, count.Load(), name)
	}
}

func TestFailureIsSharedAndPauses(t *testing.T) {
	t.Parallel()
	_, a, b := two[string](t, store.WithFailurePause(time.Minute))
	loader := newGated[string]()
	first := async(t.Context(), a, "k", loader.load)
	receive(t, loader.began, "the load")
	second, other := async(t.Context(), a, "k", loader.load), async(t.Context(), b, "k", loader.load)
	requireWaiting(t, b)
	loader.give("", errDatabase)
	assert.Equal(t, errDatabase, receive(t, first, "first").err)
	require.ErrorIs(t, receive(t, second, "second").err, errDatabase)
	err := receive(t, other, "other").err
	require.ErrorIs(t, err, store.ErrLoad)
	assert.NotContains(t, err.Error(), "database", "only with WithSharedErrors")

	for _, c := range []*store.Cache[string]{a, b} {
		_, err := c.GetOrLoad(t.Context(), "k", never)
		require.ErrorIs(t, err, store.ErrLoad, "for the pause nobody loads")
		assert.EqualError(t, err, `store: load failed: load "k" of "things"`)
	}
	require.NoError(t, a.Delete(t.Context(), "k"))
	loader2, _ := loads("v")
	v, err := b.GetOrLoad(t.Context(), "k", loader2)
	require.NoError(t, err, "a Delete ends the pause")
	assert.Equal(t, "v", v)
}

// requireCallers waits until so many callers share a call.
func requireCallers[V any](t testing.TB, c *store.Cache[V], key string, n int) {
	t.Helper()
	require.Eventually(t, func() bool { return store.Callers(c, key) == n }, patience, tick)
}

// requireWaiting waits until a Cache waits for the load of another.
func requireWaiting[V any](t testing.TB, c *store.Cache[V]) {
	t.Helper()
	require.Eventually(t, func() bool { return store.Waiting(c) > 0 }, patience, tick)
}

func TestSharedErrorsAreCut(t *testing.T) {
	t.Parallel()
	_, a, b := two[string](t, store.WithSharedErrors())
	_, err := a.GetOrLoad(t.Context(), "k", func(context.Context) (string, error) {
		return "", errors.New("bad \xff " + strings.Repeat("é", 200))
	})
	require.Error(t, err)
	_, err = b.GetOrLoad(t.Context(), "k", never)
	require.ErrorIs(t, err, store.ErrLoad)
	assert.True(t, strings.HasPrefix(err.Error(), `store: load failed: load "k" of "things": bad `+"\uFFFD é"), err)
	assert.Less(t, len(err.Error()), 250)
	assert.True(t, strings.HasSuffix(err.Error(), "é"))
}

func TestLoadSurvivesItsCaller(t *testing.T) {
	t.Parallel()
	_, c := setupCache[string](t)
	type valueKey struct{}
	loader := newGated[string]()
	ctx, cancel := context.WithCancelCause(context.WithValue(t.Context(), valueKey{}, "v"))
	first := async(ctx, c, "k", loader.load)
	inner := receive(t, loader.began, "the load")
	second := async(t.Context(), c, "k", loader.load)
	why := errors.New("user has left")
	cancel(why)
	err := receive(t, first, "first").err
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorIs(t, err, why)
	require.NoError(t, inner.Err(), "the loader's context is nobody's")
	assert.Equal(t, "v", inner.Value(valueKey{}))
	loader.give("v", nil)
	out := receive(t, second, "second")
	require.NoError(t, out.err)
	assert.Equal(t, "v", out.item.Value)
	assert.EqualValues(t, 1, loader.runs.Load())
	v, err := c.Get(t.Context(), "k")
	require.NoError(t, err)
	assert.Equal(t, "v", v)
}

func TestEachCallerHasItsOwnValue(t *testing.T) {
	t.Parallel()
	_, c := setupCache[user](t)
	loader := newGated[user]()
	var waiting []<-chan outcome[user]
	for range 10 {
		waiting = append(waiting, async(t.Context(), c, "k", loader.load))
	}
	receive(t, loader.began, "the load")
	loader.give(user{Tags: []string{"a"}}, nil)
	var tags []*string
	for _, one := range waiting {
		out := receive(t, one, "value")
		require.NoError(t, out.err)
		tags = append(tags, &out.item.Value.Tags[0])
	}
	for i := range tags {
		*tags[i] = strconv.Itoa(i)
	}
	for i := range tags {
		assert.Equal(t, strconv.Itoa(i), *tags[i])
	}
}
