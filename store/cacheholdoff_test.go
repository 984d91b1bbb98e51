package store_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/store"
)

// holdOff is longer than any test: what ends it is the test's own.
const holdOff = time.Minute

// leaseOfK is the key of the lease on the value of k.
const leaseOfK = "cache:l:" + name + ":{k}"

// noValues checks that nothing is stored under keys.
func noValues(t *testing.T, client *redis.Client, keys ...string) {
	t.Helper()
	for _, key := range keys {
		require.Zero(t, client.Exists(t.Context(), redisKey(key)).Val(), key)
	}
}

// What is loaded after a Delete may come from a replica that lags behind: callers get it, and nobody keeps it.
func TestHoldOffStoresNothingAfterADelete(t *testing.T) {
	t.Parallel()
	server, a, b := two[string](t, store.WithHoldOff(holdOff), near())
	client := server.Client(t)
	require.NoError(t, a.Set(t.Context(), "k", "old"))
	require.NoError(t, a.Delete(t.Context(), "k"))
	left := client.PTTL(t.Context(), leaseOfK).Val()
	assert.Greater(t, left, time.Duration(0))
	assert.LessOrEqual(t, left, holdOff)

	loader, count := loads("stale")
	for range 3 {
		for _, c := range []*store.Cache[string]{a, b} {
			v, err := c.GetOrLoad(t.Context(), "k", loader)
			require.NoError(t, err)
			assert.Equal(t, "stale", v)
			_, err = c.Get(t.Context(), "k")
			require.ErrorIs(t, err, store.ErrNotFound)
		}
	}
	assert.EqualValues(t, 6, count.Load(), "nothing is kept, in Redis or in a process")
	noValues(t, client, "k")

	// Once it is over, one loads for all.
	require.True(t, client.PExpire(t.Context(), leaseOfK, time.Millisecond).Val())
	require.Eventually(t, func() bool { return client.Exists(t.Context(), leaseOfK).Val() == 0 }, patience, time.Millisecond)
	loader, count = loads("new")
	for _, c := range []*store.Cache[string]{a, b} {
		v, err := c.GetOrLoad(t.Context(), "k", loader)
		require.NoError(t, err)
		assert.Equal(t, "new", v)
	}
	assert.EqualValues(t, 1, count.Load())
}

// Callers of one process who come together share a load nevertheless, and its failure is that of this process alone.
func TestLoadsDuringHoldOff(t *testing.T) {
	t.Parallel()
	_, a, b := two[string](t, store.WithHoldOff(holdOff))
	require.NoError(t, a.Delete(t.Context(), "k"))
	g := newGated[string]()
	first := async(t.Context(), a, "k", g.load)
	receive(t, g.began, "the loader")
	second := async(t.Context(), a, "k", never[string])
	v, err := b.GetOrLoad(t.Context(), "k", func(ctx context.Context) (string, error) { return "", errDatabase })
	require.ErrorIs(t, err, errDatabase)
	assert.Empty(t, v)
	g.give("v", nil)
	assert.Equal(t, "v", receive(t, first, "the first").item.Value)
	if out := receive(t, second, "the second"); out.err == nil { // it may have come too late
		assert.Equal(t, "v", out.item.Value)
	}
}

// A Set knows what is right.
func TestSetEndsHoldOff(t *testing.T) {
	t.Parallel()
	server, a, b := two[string](t, store.WithHoldOff(holdOff))
	require.NoError(t, a.Delete(t.Context(), "k"))
	require.NoError(t, b.Set(t.Context(), "k", "new"))
	v, err := a.GetOrLoad(t.Context(), "k", never[string])
	require.NoError(t, err)
	assert.Equal(t, "new", v)
	assert.Zero(t, server.Client(t).Exists(t.Context(), leaseOfK).Val())
}

// Another program may have other options: what one has promised holds.
func TestDeleteKeepsALongerHoldOff(t *testing.T) {
	t.Parallel()
	server, c := setupCache[string](t, store.WithHoldOff(holdOff))
	client := server.Client(t)
	none := newCache[string](t, newCacheStore(t, newClient(t, server.Addr())))
	shorter := newCache[string](t, newCacheStore(t, newClient(t, server.Addr())), store.WithHoldOff(holdOff/4))
	for _, other := range []*store.Cache[string]{none, shorter} {
		require.NoError(t, c.Delete(t.Context(), "k"))
		require.NoError(t, other.Delete(t.Context(), "k"))
		assert.Greater(t, client.PTTL(t.Context(), leaseOfK).Val(), holdOff/2)
		loader, _ := loads("stale")
		_, err := c.GetOrLoad(t.Context(), "k", loader)
		require.NoError(t, err)
		noValues(t, client, "k")
		require.NoError(t, other.Set(t.Context(), "k", "new"))
		require.NoError(t, shorter.Delete(t.Context(), "k"))
		assert.Less(t, client.PTTL(t.Context(), leaseOfK).Val(), holdOff/2, "a Set has ended the longer one")
	}
	require.NoError(t, c.Delete(t.Context(), "k"))
	assert.Greater(t, client.PTTL(t.Context(), leaseOfK).Val(), holdOff/2)
}

// The pause after a load that cannot be stored is no hold-off: it ends with a Delete.
func TestDeleteEndsThePauseOfWhatIsTooLarge(t *testing.T) {
	t.Parallel()
	server, c := setupCache[string](t, store.WithMaxSize(16), store.WithFailurePause(time.Hour))
	loader, _ := loads("more than 16 bytes")
	_, err := c.GetOrLoad(t.Context(), "k", loader)
	require.NoError(t, err)
	require.EqualValues(t, 1, server.Client(t).Exists(t.Context(), leaseOfK).Val())
	require.NoError(t, c.Delete(t.Context(), "k"))
	loader, _ = loads("small")
	for range 2 {
		v, err := c.GetOrLoad(t.Context(), "k", loader)
		require.NoError(t, err)
		assert.Equal(t, "small", v)
	}
	require.EqualValues(t, 1, server.Client(t).Exists(t.Context(), redisKey("k")).Val())
}

func TestLoadManyDuringHoldOff(t *testing.T) {
	t.Parallel()
	server, c := setupCache[string](t, store.WithHoldOff(holdOff))
	require.NoError(t, c.Delete(t.Context(), "a", "b", "c"))
	l := &table{rows: map[string]string{"a": "1", "b": "2"}}
	for range 2 {
		values, err := c.LoadMany(t.Context(), []string{"a", "b", "c"}, l.load)
		require.NoError(t, err)
		assert.Equal(t, l.rows, values)
	}
	assert.Equal(t, [][]string{{"a", "b", "c"}, {"a", "b", "c"}}, l.calls(), "one call for all, each time")
	noValues(t, server.Client(t), "a", "b", "c")

	l = &table{rows: map[string]string{"a": "1", "d": "4"}}
	values, err := c.LoadMany(t.Context(), []string{"a", "d"}, l.load)
	require.NoError(t, err)
	assert.Equal(t, l.rows, values)
	assert.ElementsMatch(t, [][]string{{"a"}, {"d"}}, l.calls())
	v, err := c.Get(t.Context(), "d")
	require.NoError(t, err)
	assert.Equal(t, "4", v, "of which nobody has deleted anything")
	noValues(t, server.Client(t), "a")
}

func TestClearHoldsOffWhatItFinds(t *testing.T) {
	t.Parallel()
	server, c := setupCache[string](t, store.WithHoldOff(holdOff))
	require.NoError(t, c.Set(t.Context(), "k", "v"))
	require.NoError(t, c.Clear(t.Context()))
	loader, _ := loads("v")
	for _, key := range []string{"k", "other"} {
		_, err := c.GetOrLoad(t.Context(), key, loader)
		require.NoError(t, err)
	}
	noValues(t, server.Client(t), "k")
	require.NoError(t, c.Clear(t.Context()), "which also finds what it has left itself")
	require.EqualValues(t, 2, server.Client(t).DBSize(t.Context()).Val())
}

// A key of something else in the place of the lease stays as it is.
func TestHoldOffOverwritesNothingForeign(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client := newClient(t, server.Addr())
	c := newCache[string](t, newCacheStore(t, client), store.WithHoldOff(holdOff))
	require.NoError(t, client.HSet(t.Context(), leaseOfK, "f", "v").Err())
	require.NoError(t, c.Delete(t.Context(), "k"))
	assert.Equal(t, "v", client.HGet(t.Context(), leaseOfK, "f").Val())
}

// Without memory a hold-off cannot be promised, so it is an error, and is made up for.
func TestHoldOffNeedsMemory(t *testing.T) {
	t.Parallel()
	server, c := setupCache[string](t, store.WithHoldOff(holdOff))
	none := newCache[string](t, newCacheStore(t, newClient(t, server.Addr())))
	client := server.Client(t)
	require.NoError(t, client.ConfigSet(t.Context(), "maxmemory", "1").Err())
	require.ErrorIs(t, c.Delete(t.Context(), "k"), store.ErrUnavailable)
	require.NoError(t, none.Delete(t.Context(), "k"))
	assert.Equal(t, 1, store.Pending(c))
	require.NoError(t, client.ConfigSet(t.Context(), "maxmemory", "0").Err())
	require.Eventually(t, func() bool { return store.Pending(c) == 0 }, patience, tick)
	assert.EqualValues(t, 1, client.Exists(t.Context(), leaseOfK).Val())
}

// An early load that comes too late, after a Delete, does not wait for the end of the hold-off, which a Set ends sooner.
func TestEarlyLoadsAfterHoldOff(t *testing.T) {
	t.Parallel()
	server, a := setupCache[string](t, store.WithHoldOff(holdOff))
	client := newClient(t, server.Addr())
	b := newCache[string](t, newCacheStore(t, client), store.WithEarly(1e-9))
	loader, count := loads("early")
	require.NoError(t, b.Set(t.Context(), "k", "v"))
	h := &interference{do: func() { assert.NoError(t, a.Delete(context.Background(), "k")) }, done: make(chan struct{})}
	client.AddHook(h)
	_, err := b.GetOrLoad(t.Context(), "k", loader)
	require.NoError(t, err)
	receive(t, h.done, "the Delete")
	require.NoError(t, a.Set(t.Context(), "k", "new"))
	require.Eventually(t, func() bool {
		_, err := b.GetOrLoad(t.Context(), "k", loader)
		require.NoError(t, err)
		return count.Load() > 0
	}, patience, tick)
}

// interference is a hook that does something before the first script is sent, and is done when that was answered.
type interference struct {
	redistest.Hook

	do   func()
	done chan struct{}
	once sync.Once
}

func (i *interference) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		return i.around([]redis.Cmder{cmd}, func() error { return next(ctx, cmd) })
	}
}

func (i *interference) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		return i.around(cmds, func() error { return next(ctx, cmds) })
	}
}

func (i *interference) around(cmds []redis.Cmder, send func() error) error {
	first := false
	if strings.HasPrefix(cmds[0].Name(), "eval") {
		i.once.Do(func() { first = true })
	}
	if !first {
		return send()
	}
	defer close(i.done)
	i.do()
	return send()
}
