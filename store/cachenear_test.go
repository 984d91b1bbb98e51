package store

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
)

// fakeNear is a near cache that believes everything, until it is cut off.
type fakeNear struct {
	mu     sync.Mutex
	values map[string]fakeValue
	marks  map[string]int
	cut    bool
}

type fakeValue struct {
	v       any
	fresh   time.Duration
	put     time.Time
	vouched bool
}

func newFakeNear() *fakeNear {
	return &fakeNear{values: make(map[string]fakeValue), marks: make(map[string]int)}
}

func (n *fakeNear) get(key string) (v any, age time.Duration, ok bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	kept, ok := n.values[key]
	if age = time.Since(kept.put); !ok || n.cut || !kept.vouched || age >= kept.fresh {
		return nil, 0, false
	}
	return kept.v, age, true
}

func (n *fakeNear) stale(key string) (v any, age, over time.Duration, ok bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	kept, ok := n.values[key]
	age = time.Since(kept.put)
	return kept.v, age, max(age-kept.fresh, 0), ok
}

func (n *fakeNear) begin(key string) any {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.marks[key]
}

func (n *fakeNear) put(mark any, key string, v any, _ int, fresh time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if mark == n.marks[key] {
		n.values[key] = fakeValue{v, fresh, time.Now(), true}
	}
}

func (n *fakeNear) keep(key string, v any, _ int, fresh time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.values[key] = fakeValue{v, fresh, time.Now(), false}
}

func (n *fakeNear) remove(keys ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, key := range keys {
		n.marks[key]++
		delete(n.values, key)
	}
}

func (n *fakeNear) setCut(cut bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut = cut
}

// nearSetup returns a Cache with a fake near cache.
func nearSetup[V any](t *testing.T, opts ...Option) (*redistest.Server, *Cache[V], *fakeNear) {
	t.Helper()
	server := redistest.Start(t)
	client := redis.NewClient(&redis.Options{Addr: server.Addr(), ContextTimeoutEnabled: true})
	t.Cleanup(func() { _ = client.Close() })
	s, err := New(client)
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		require.NoError(t, s.Close(ctx))
	})
	c, err := NewCache[V](s, "things", opts...)
	require.NoError(t, err)
	near := newFakeNear()
	c.near = near
	return server, c, near
}

var errBroken = errors.New("failingLoader")

func failingLoader[V any](context.Context) (v V, err error) { return v, errBroken }

func TestNearHitsAskNobody(t *testing.T) {
	t.Parallel()
	server, c, near := nearSetup[[]string](t, WithNegative(time.Minute))
	require.NoError(t, c.Set(t.Context(), "k", []string{"v"}))
	_, err := c.GetOrLoad(t.Context(), "none", func(context.Context) ([]string, error) { return nil, ErrNotFound })
	require.ErrorIs(t, err, ErrNotFound)
	_, err = c.Get(t.Context(), "none")
	require.ErrorIs(t, err, ErrNotFound)
	first, err := c.GetItem(t.Context(), "k")
	require.NoError(t, err)
	assert.Equal(t, SourceRedis, first.Source)
	first.Value[0] = "changed by a caller"
	server.ResetCommands(t)
	for _, get := range []func() (Item[[]string], error){
		func() (Item[[]string], error) { return c.GetItem(t.Context(), "k") },
		func() (Item[[]string], error) { return c.GetOrLoadItem(t.Context(), "k", failingLoader) },
	} {
		item, err := get()
		require.NoError(t, err)
		assert.Equal(t, SourceNear, item.Source)
		assert.Equal(t, []string{"v"}, item.Value)
		assert.Equal(t, first.Version, item.Version)
		assert.GreaterOrEqual(t, item.Age, first.Age)
		item.Value[0] = "changed by a caller"
	}
	many, err := c.GetMany(t.Context(), []string{"k", "none"})
	require.NoError(t, err)
	assert.Equal(t, map[string][]string{"k": {"v"}}, many)
	many, err = c.LoadMany(t.Context(), []string{"k", "none"}, failingMany)
	require.NoError(t, err)
	assert.Equal(t, map[string][]string{"k": {"v"}}, many)
	item, err := c.GetOrLoadItem(t.Context(), "none", failingLoader)
	require.ErrorIs(t, err, ErrNotFound)
	assert.Equal(t, SourceNear, item.Source)
	assert.Zero(t, server.Commands(t)["get"]+server.Commands(t)["mget"]+server.Commands(t)["evalsha"])

	require.NoError(t, c.Set(t.Context(), "k", []string{"w"}))
	got, err := c.GetItem(t.Context(), "k")
	require.NoError(t, err)
	assert.Equal(t, []string{"w"}, got.Value)
	require.NoError(t, c.Delete(t.Context(), "k"))
	_, err = c.Get(t.Context(), "k")
	require.ErrorIs(t, err, ErrNotFound)

	require.NoError(t, c.Set(t.Context(), "cut", []string{"v"}))
	_, err = c.Get(t.Context(), "cut")
	require.NoError(t, err)
	near.setCut(true)
	item, err = c.GetItem(t.Context(), "cut")
	require.NoError(t, err)
	assert.Equal(t, SourceRedis, item.Source, "what nobody vouches for is not served while Redis answers")
}

// failingMany is a loader of many that must not run.
func failingMany(context.Context, []string) (map[string][]string, error) { return nil, errBroken }

func TestNearCacheInAnOutage(t *testing.T) {
	t.Parallel()
	server, c, near := nearSetup[string](t)
	require.NoError(t, c.Set(t.Context(), "k", "v"))
	_, err := c.Get(t.Context(), "k")
	require.NoError(t, err)
	near.setCut(true)
	server.Kill()
	for _, get := range []func() (Item[string], error){
		func() (Item[string], error) { return c.GetItem(t.Context(), "k") },
		func() (Item[string], error) { return c.GetOrLoadItem(t.Context(), "k", failingLoader) },
	} {
		item, err := get()
		require.NoError(t, err)
		assert.Equal(t, "v", item.Value)
		assert.True(t, item.Stale)
		assert.Equal(t, SourceStale, item.Source)
		require.ErrorIs(t, item.Cause, ErrUnavailable)
	}
	many, err := c.GetMany(t.Context(), []string{"k"})
	require.NoError(t, err)
	assert.Equal(t, map[string]string{"k": "v"}, many)
	many, err = c.LoadMany(t.Context(), []string{"k"}, func(context.Context, []string) (map[string]string, error) {
		return nil, errBroken
	})
	require.NoError(t, err)
	assert.Equal(t, map[string]string{"k": "v"}, many)

	calls := 0
	loader := func(context.Context) (string, error) {
		calls++
		return "loaded", nil
	}
	for range 3 {
		v, err := c.GetOrLoad(t.Context(), "other", loader)
		require.NoError(t, err)
		assert.Equal(t, "loaded", v)
	}
	assert.Equal(t, 1, calls, "it stays in the near cache for a while")
	require.Error(t, c.Delete(t.Context(), "k"))
	_, err = c.GetOrLoad(t.Context(), "k", failingLoader)
	require.ErrorIs(t, err, errBroken, "a Delete that failed removes it from the near cache")
}
