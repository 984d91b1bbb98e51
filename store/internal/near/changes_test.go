package near_test

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/store/internal/near"
)

// Whatever changes a key, and whoever does it, its value is not served any more.
func TestChanges(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	other := server.Client(t)
	b := start(t, newClient(t, server.Addr()), nil)
	b.up()
	ctx := t.Context()
	for name, change := range map[string]func(key string) error{
		"SET":    func(k string) error { return other.Set(ctx, k, "b", 0).Err() },
		"DEL":    func(k string) error { return other.Del(ctx, k).Err() },
		"UNLINK": func(k string) error { return other.Unlink(ctx, k).Err() },
		"APPEND": func(k string) error { return other.Append(ctx, k, "b").Err() },
		"script": func(k string) error {
			return other.Eval(ctx, "return redis.call('SET', KEYS[1], 'b')", []string{k}).Err()
		},
		"RENAME":      func(k string) error { return other.Rename(ctx, k, "elsewhere").Err() },
		"transaction": func(k string) error { return setInTransaction(t, other, k) },
		"expiry":      func(k string) error { return other.PExpire(ctx, k, time.Millisecond).Err() },
		"our own":     func(k string) error { return b.client.Set(ctx, k, "b", 0).Err() },
		"FLUSHALL":    func(string) error { return other.FlushAll(ctx).Err() },
		"FLUSHDB":     func(string) error { return other.FlushDB(ctx).Err() },
	} {
		before := b.cache.Stats().Invalidated
		require.NoError(t, other.Set(ctx, key(1), "a", 0).Err())
		require.NoError(t, other.Set(ctx, key(2), "a", 0).Err())
		require.Eventually(t, func() bool { // or that of the second one may come when it has been filled
			return b.cache.Stats().Invalidated >= before+2
		}, patience, time.Millisecond)
		b.fill(key(1), key(2))
		require.NoError(t, change(key(1)), name)
		b.gone(name, key(1))
		if name[0] != 'F' {
			require.Eventually(t, func() bool { // a busy machine may hear too late, for a moment, that nothing has changed
				_, hit := b.cache.Get(key(2))
				return hit
			}, patience, time.Millisecond, "%s of another key", name)
		}
	}
	assert.Positive(t, b.cache.Stats().Invalidated)
	assert.False(t, b.tracker.Status().Published)
}

func setInTransaction(t *testing.T, c *redis.Client, key string) error {
	t.Helper()
	_, err := c.TxPipelined(t.Context(), func(p redis.Pipeliner) error {
		p.Set(t.Context(), key, "b", 0)
		p.Get(t.Context(), key)
		return nil
	})
	return err
}

// Keys that Redis evicts are not served any more.
func TestEviction(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.WithConfig("maxmemory", "4mb"), redistest.WithConfig("maxmemory-policy", "allkeys-lru"))
	other := server.Client(t)
	b := start(t, newClient(t, server.Addr()), nil)
	b.up()
	var keys []string
	for i := range 20 {
		keys = append(keys, key(i))
		require.NoError(t, other.Set(t.Context(), key(i), "a", 0).Err())
	}
	b.fill(keys...)
	for i := range 20_000 {
		require.NoError(t, other.Set(t.Context(), "filling:"+key(i), make([]byte, 400), 0).Err())
		if i%1000 == 0 && other.Exists(t.Context(), keys...).Val() == 0 {
			break
		}
	}
	left, err := other.Exists(t.Context(), keys...).Result()
	require.NoError(t, err)
	require.Less(t, left, int64(20))
	for _, k := range keys {
		if other.Exists(t.Context(), k).Val() == 0 {
			b.gone("eviction", k)
		}
	}
}

// A change of what a value depends on makes the value unservable, and one during the read too.
func TestDepends(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	b := start(t, newClient(t, server.Addr()), nil)
	b.up()
	put := func(change bool) bool {
		mark := b.cache.Begin(key(1), depend+"x", depend+"y")
		if change {
			before := b.tracker.Status()
			require.NoError(t, b.client.Incr(t.Context(), depend+"y").Err())
			require.Eventually(t, func() bool { return !b.cache.Put(mark, key(1), "v", 1, forever) }, patience, tick)
			assert.True(t, before.Up)
			return false
		}
		return b.cache.Put(mark, key(1), "v", 1, forever)
	}
	require.True(t, put(false))
	_, hit := b.cache.Get(key(1))
	require.True(t, hit)
	require.NoError(t, b.client.Incr(t.Context(), depend+"z").Err())
	require.NoError(t, b.client.Incr(t.Context(), depend+"x").Err())
	b.gone("dependence", key(1))
	_, ok := b.cache.Stale(key(1))
	assert.False(t, ok, "that it is outdated is known")
	assert.False(t, put(true))
}

// Several caches share the tracker, and each hears its own keys.
func TestSeveralCaches(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	b := start(t, newClient(t, server.Addr()), nil)
	b.up()
	b.fill(key(1))
	second, err := b.tracker.NewCache(near.CacheSettings{Prefix: "cache:v:orders:", MaxStaleness: staleness})
	require.NoError(t, err)
	_, hit := b.cache.Get(key(1))
	assert.False(t, hit, "nothing is served until the keys of both are heard")
	assert.False(t, second.Put(second.Begin("cache:v:orders:1"), "cache:v:orders:1", 1, 1, forever))
	b.up()
	b.fill(key(1))
	require.True(t, second.Put(second.Begin("cache:v:orders:1"), "cache:v:orders:1", 1, 1, forever))
	require.NoError(t, b.client.Set(t.Context(), "cache:v:orders:1", 2, 0).Err())
	require.Eventually(t, func() bool {
		_, hit := second.Get("cache:v:orders:1")
		return !hit
	}, patience, tick)
	_, hit = b.cache.Get(key(1))
	assert.True(t, hit)
	// Prefixes that contain one another.
	_, err = b.tracker.NewCache(near.CacheSettings{Prefix: "cache:v:", MaxStaleness: staleness})
	require.NoError(t, err)
	b.up()
	b.fill(key(1))
	require.NoError(t, b.client.Set(t.Context(), key(1), 2, 0).Err())
	b.gone("change", key(1))
	assert.False(t, b.tracker.Status().Published, "Redis refuses to track prefixes that overlap")
}

// What a value depends on may be learned of after it was read, and be changed by the process itself.
func TestDependLater(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	b := start(t, newClient(t, server.Addr()), nil)
	b.up()
	for i, change := range []func(){
		func() { b.cache.Changed(depend + "{a}") },
		func() { b.cache.Changed(depend + "{b}") },
		func() { b.cache.Changed(key(1)) },
	} {
		mark := b.cache.Depend(b.cache.Begin(key(1), depend+"{a}"), depend+"{b}")
		require.True(t, b.cache.Put(mark, key(1), "v", 1, forever))
		_, hit := b.cache.Get(key(1))
		require.True(t, hit)
		change()
		_, hit = b.cache.Get(key(1))
		assert.False(t, hit, i)
		assert.False(t, b.cache.Put(mark, key(1), "v", 1, forever), i)
		b.cache.Keep(mark, key(1), "v", 1, forever)
		_, kept := b.cache.Stale(key(1))
		assert.False(t, kept, i)
	}
}
