package store_test

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/faultproxy"
	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/store"
)

// older makes a value one that was stored some time earlier.
func older(t testing.TB, client *redis.Client, key string, by time.Duration) {
	t.Helper()
	ctx := t.Context()
	key = redisKey(key)
	fields := strings.SplitN(client.Get(ctx, key).Val(), " ", 5)
	require.Len(t, fields, 5)
	until, ttl, _ := strings.Cut(fields[3], "+")
	micros, err := strconv.ParseInt(until, 10, 64)
	require.NoError(t, err)
	fields[3] = fmt.Sprintf("%d+%s", micros-by.Microseconds(), ttl)
	require.NoError(t, client.Set(ctx, key, strings.Join(fields, " "), client.PTTL(ctx, key).Val()-by).Err())
}

// expire makes a value seem older, as if its TTL were over.
func expire(t testing.TB, server *redistest.Server, key string) {
	t.Helper()
	client := server.Client(t)
	raw, err := client.Get(t.Context(), redisKey(key)).Result()
	require.NoError(t, err)
	head, payload, _ := strings.Cut(raw, "\n")
	var fields [7]string
	_, err = fmt.Sscan(head, &fields[0], &fields[1], &fields[2], &fields[3], &fields[4], &fields[5], &fields[6])
	require.NoError(t, err)
	now := client.Time(t.Context()).Val()
	fields[2], fields[3] = fmt.Sprint(now.Add(-time.Minute).UnixMicro()), fmt.Sprint(now.Add(-time.Second).UnixMicro())
	require.NoError(t, client.Set(t.Context(), redisKey(key), strings.Join(fields[:], " ")+"\n"+payload, time.Minute).Err())
}

func TestValueIsLoadedAgainAfterItsTTL(t *testing.T) {
	t.Parallel()
	server, c := setupCache[string](t, store.WithStale(time.Minute))
	require.NoError(t, c.Set(t.Context(), "k", "old"))
	expire(t, server, "k")
	_, err := c.Get(t.Context(), "k")
	require.ErrorIs(t, err, store.ErrNotFound, "nothing has failed, so nothing stale is returned")
	loader, _ := loads("new")
	item, err := c.GetOrLoadItem(t.Context(), "k", loader)
	require.NoError(t, err)
	assert.Equal(t, "new", item.Value)
	assert.False(t, item.Stale)
}

func TestTTLsOfCallsAndJitter(t *testing.T) {
	t.Parallel()
	server, c := setupCache[string](t, store.WithTTL(time.Hour), store.WithJitter(0.5), store.WithStale(10*time.Hour))
	client := server.Client(t)
	seen := make(map[time.Duration]bool)
	for i := range 20 {
		key := fmt.Sprint("k", i)
		loader, _ := loads("v")
		_, err := c.GetOrLoad(t.Context(), key, loader)
		require.NoError(t, err)
		left := client.PTTL(t.Context(), redisKey(key)).Val() - 10*time.Hour
		assert.LessOrEqual(t, left, time.Hour)
		assert.Greater(t, left, time.Hour/2-patience)
		seen[left.Round(time.Minute)] = true
	}
	assert.Greater(t, len(seen), 3, "they do not all end together")
	require.NoError(t, c.Set(t.Context(), "k", "v", store.WithTTL(time.Minute), store.WithJitter(0), store.WithStale(0)))
	left := client.PTTL(t.Context(), redisKey("k")).Val()
	assert.LessOrEqual(t, left, time.Minute)
	assert.Greater(t, left, time.Minute-patience)
	require.NoError(t, c.Set(t.Context(), "k", "v", store.WithTTL(0)))
	assert.Greater(t, client.PTTL(t.Context(), redisKey("k")).Val(), 10*time.Hour, "0 is the Cache's own")
}

func TestEarlyRefresh(t *testing.T) {
	t.Parallel()
	server, a, b := two[string](t, store.WithTTL(time.Hour), store.WithEarly(0.5))
	aged(t, server.Client(t), "v", time.Hour, 20*time.Minute)
	loader := newGated[string]()
	for _, c := range []*store.Cache[string]{a, b, a, b} {
		item, err := c.GetOrLoadItem(t.Context(), "k", loader.load)
		require.NoError(t, err)
		assert.Equal(t, "a", item.Value, "callers do not wait")
		assert.False(t, item.Stale)
	}
	receive(t, loader.began, "the load")
	loader.give("new", nil)
	require.Eventually(t, func() bool {
		v, err := b.Get(t.Context(), "k")
		require.NoError(t, err)
		return v == "new"
	}, patience, tick)
	for range 10 {
		for _, c := range []*store.Cache[string]{a, b} {
			v, err := c.GetOrLoad(t.Context(), "k", loader.load)
			require.NoError(t, err)
			assert.Equal(t, "new", v)
		}
	}
	assert.EqualValues(t, 1, loader.runs.Load(), "one process has loaded, once")
}

func TestEarlyRefreshThatFailsKeepsTheValue(t *testing.T) {
	t.Parallel()
	server, c := setupCache[string](t, store.WithTTL(time.Hour), store.WithEarly(0.5), store.WithFailurePause(time.Minute))
	aged(t, server.Client(t), "v", time.Hour, 20*time.Minute)
	loader := newGated[string]()
	loader.give("", errDatabase)
	for range 100 {
		v, err := c.GetOrLoad(t.Context(), "k", loader.load)
		require.NoError(t, err)
		assert.Equal(t, "a", v)
		if loader.runs.Load() > 0 {
			break
		}
	}
	receive(t, loader.began, "the load")
	for range 20 {
		v, err := c.GetOrLoad(t.Context(), "k", loader.load)
		require.NoError(t, err)
		assert.Equal(t, "a", v)
	}
	assert.EqualValues(t, 1, loader.runs.Load(), "for the pause nobody tries again")
}

func TestSlidingCache(t *testing.T) {
	t.Parallel()
	server, c := setupCache[string](t, store.WithTTL(time.Hour), store.WithSliding())
	client := server.Client(t)
	aged(t, client, "v", 30*time.Minute, 14*time.Minute)
	before, err := c.GetItem(t.Context(), "k")
	require.NoError(t, err)
	left := func() time.Duration { return client.PTTL(t.Context(), redisKey("k")).Val() }
	require.Eventually(t, func() bool { return left() > 29*time.Minute }, patience, tick)
	server.ResetCommands(t)
	after, err := c.GetOrLoadItem(t.Context(), "k", never)
	require.NoError(t, err)
	assert.Equal(t, before.Version, after.Version)
	assert.Zero(t, server.Commands(t)["set"], "there is enough left")
}

// TestSlidingKeepsWhatIsKeptBeyondTheTTL, and the tags for as long. It is up to the call that has stored the value.
func TestSlidingKeepsWhatIsKeptBeyondTheTTL(t *testing.T) {
	t.Parallel()
	server, c := setupCache[string](t, store.WithTTL(time.Hour), store.WithSliding(), store.WithStale(10*time.Minute))
	client, loader := server.Client(t), func(context.Context) (string, error) { return "v", nil }
	left := func(key string) time.Duration { return client.PTTL(t.Context(), key).Val() }
	tag := "cache:t:" + name + ":{a}"
	for _, kept := range []time.Duration{0, 1000 * time.Hour} {
		opts := []store.Option{store.WithStale(kept), store.WithTags("a")}
		require.NoError(t, c.Set(t.Context(), "set", "v", opts...))
		_, err := c.GetOrLoad(t.Context(), "loaded", loader, opts...)
		require.NoError(t, err)
		for _, key := range []string{"set", "loaded"} {
			older(t, client, key, 40*time.Minute)
			require.Less(t, left(redisKey(key)), kept+20*time.Minute+time.Second)
			require.NoError(t, client.PExpire(t.Context(), tag, time.Hour).Err())
			_, err := c.Get(t.Context(), key)
			require.NoError(t, err)
			require.Eventually(t, func() bool {
				return left(redisKey(key)) > kept+59*time.Minute && left(tag) > kept+59*time.Minute
			}, patience, tick)
			assert.LessOrEqual(t, left(redisKey(key)), kept+time.Hour+time.Second)
		}
		require.NoError(t, c.Delete(t.Context(), "set", "loaded"))
	}
}

func TestRoundTripsOfACache(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	proxy := faultproxy.New(t, server.Addr())
	c := newCache[string](t, newCacheStore(t, newClient(t, proxy.Addr())))
	loader, _ := loads("v")
	require.NoError(t, c.Set(t.Context(), "warm", "up"))
	require.NoError(t, c.Delete(t.Context(), "warm"))
	_, err := c.GetOrLoad(t.Context(), "warm", loader) // the server knows the scripts now
	require.NoError(t, err)
	trips := func(f func()) int {
		before := proxy.Requests()
		f()
		return proxy.Requests() - before
	}
	assert.Equal(t, 3, trips(func() {
		_, err := c.GetOrLoad(t.Context(), "k", loader)
		require.NoError(t, err)
	}), "read, lease, fill")
	assert.Equal(t, 1, trips(func() {
		_, err := c.GetOrLoad(t.Context(), "k", never)
		require.NoError(t, err)
	}))
	assert.Equal(t, 1, trips(func() {
		_, err := c.Get(t.Context(), "k")
		require.NoError(t, err)
	}))
	assert.Equal(t, 1, trips(func() { require.NoError(t, c.Set(t.Context(), "k", "w")) }))
	assert.Equal(t, 1, trips(func() { require.NoError(t, c.Delete(t.Context(), "k")) }))
	keys := make([]string, 100)
	for i := range keys {
		keys[i] = fmt.Sprint("many", i)
	}
	many := &table{rows: make(map[string]string)}
	for _, key := range keys {
		many.rows[key] = "v" + key
	}
	assert.LessOrEqual(t, trips(func() {
		values, err := c.LoadMany(t.Context(), keys, many.load)
		require.NoError(t, err)
		assert.Len(t, values, 100)
	}), 3)
	assert.Len(t, many.calls(), 1)
	for what, f := range map[string]func() (map[string]string, error){
		"LoadMany": func() (map[string]string, error) { return c.LoadMany(t.Context(), keys, many.load) },
		"GetMany":  func() (map[string]string, error) { return c.GetMany(t.Context(), keys) },
	} {
		assert.Equal(t, 1, trips(func() {
			values, err := f()
			require.NoError(t, err)
			assert.Len(t, values, 100)
			assert.Equal(t, "vmany7", values["many7"])
		}), what)
	}
	assert.Len(t, many.calls(), 1)
}
