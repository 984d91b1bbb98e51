package store_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/faultproxy"
	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/store"
)

// near switches the near cache on, for tests in which nothing goes wrong, on a busy machine.
func near() store.Option { return store.WithNear(1000, 10*time.Second) }

// split sends what the application asks through one client, and has connections of the store's own made like those of another.
type split struct {
	redis.UniversalClient

	own *redis.Client
}

func (s split) Unwrap() redis.UniversalClient { return s.own }

// paths returns a client on which either the application's connections or the near cache's go through a proxy.
func paths(t *testing.T, server *redistest.Server, own bool) (redis.UniversalClient, *faultproxy.Proxy) {
	t.Helper()
	proxy := faultproxy.New(t, server.Addr())
	direct, through := newClient(t, server.Addr()), newClient(t, proxy.Addr())
	if own {
		return split{direct, through}, proxy
	}
	return split{through, direct}, proxy
}

// fill reads a key until it comes from the near cache, and returns the item.
func fill[V any](t testing.TB, c *store.Cache[V], key string) (item store.Item[V]) {
	t.Helper()
	require.Eventually(t, func() bool {
		var err error
		item, err = c.GetItem(t.Context(), key)
		return err == nil && item.Source == store.SourceNear
	}, patience, tick, key)
	return item
}

// becomes waits until a key has a value, "" for none.
func becomes(t testing.TB, c *store.Cache[string], key, value string) {
	t.Helper()
	require.Eventually(t, func() bool {
		v, err := c.Get(t.Context(), key)
		return v == value && (err == nil || value == "" && errors.Is(err, store.ErrNotFound))
	}, patience, tick, "%s: %s", key, value)
}

func failingLoader[V any](context.Context) (v V, err error) { return v, errDatabase }

func failingMany[V any](context.Context, []string) (map[string]V, error) { return nil, errDatabase }

func TestNearHitsAskNobody(t *testing.T) {
	t.Parallel()
	server, c := setupCache[[]string](t, store.WithNegative(time.Minute), near())
	ctx := t.Context()
	require.NoError(t, c.Set(ctx, "k", []string{"v"}))
	_, err := c.GetOrLoad(ctx, "none", func(context.Context) ([]string, error) { return nil, store.ErrNotFound })
	require.ErrorIs(t, err, store.ErrNotFound)
	first, err := c.GetItem(ctx, "k")
	require.NoError(t, err)
	assert.Equal(t, store.SourceRedis, first.Source)
	first.Value[0] = "changed by a caller"
	fill(t, c, "k")
	require.Eventually(t, func() bool {
		item, err := c.GetItem(ctx, "none")
		require.ErrorIs(t, err, store.ErrNotFound)
		return item.Source == store.SourceNear
	}, patience, tick)
	server.ResetCommands(t)
	for range 2 {
		for _, get := range []func() (store.Item[[]string], error){
			func() (store.Item[[]string], error) { return c.GetItem(ctx, "k") },
			func() (store.Item[[]string], error) { return c.GetOrLoadItem(ctx, "k", failingLoader) },
			func() (store.Item[[]string], error) {
				return c.GetOrLoadItem(ctx, "k", failingLoader, store.WithTTL(time.Minute))
			},
		} {
			item, err := get()
			require.NoError(t, err)
			assert.Equal(t, store.SourceNear, item.Source)
			assert.Equal(t, []string{"v"}, item.Value)
			assert.Equal(t, first.Version, item.Version)
			assert.GreaterOrEqual(t, item.Age, first.Age)
			item.Value[0] = "changed by a caller"
		}
	}
	want := map[string][]string{"k": {"v"}}
	many, err := c.GetMany(ctx, []string{"k", "none"})
	require.NoError(t, err)
	assert.Equal(t, want, many)
	many, err = c.LoadMany(ctx, []string{"k", "none"}, failingMany)
	require.NoError(t, err)
	assert.Equal(t, want, many)
	item, err := c.GetOrLoadItem(ctx, "none", failingLoader)
	require.ErrorIs(t, err, store.ErrNotFound)
	assert.Equal(t, store.SourceNear, item.Source)
	counts := server.Commands(t)
	assert.Zero(t, counts["get"]+counts["mget"]+counts["evalsha"])

	require.NoError(t, c.Set(ctx, "k", []string{"w"}))
	got, err := c.GetItem(ctx, "k")
	require.NoError(t, err)
	assert.Equal(t, []string{"w"}, got.Value)
	fill(t, c, "k")
	require.NoError(t, c.Delete(ctx, "k"))
	_, err = c.Get(ctx, "k")
	require.ErrorIs(t, err, store.ErrNotFound)

	_, err = c.GetOrLoad(ctx, "k", failingLoader, store.WithSliding())
	refused(t, err, "WithSliding")
}

// TestNearSeesWhatOthersDo: another process' writes, other programs', expiry and FLUSHALL.
func TestNearSeesWhatOthersDo(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string][]redistest.Option{
		"tracking": nil,
		"channel":  {redistest.WithConfig("user", "default on nopass ~* &* +@all -client|tracking")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t, opts...)
			client := newClient(t, server.Addr())
			a := newCache[string](t, newCacheStore(t, client), store.WithNegative(time.Hour))
			b := newCache[string](t, newCacheStore(t, newClient(t, server.Addr())), near())
			ctx := t.Context()
			for _, key := range []string{"k", "}", "%", "a b {c} ü"} {
				for i, change := range []func() error{
					func() error { return a.Set(ctx, key, "new") },
					func() error { return a.Delete(ctx, key) },
				} {
					require.NoError(t, a.Set(ctx, key, "old"))
					becomes(t, b, key, "old")
					assert.Equal(t, "old", fill(t, b, key).Value)
					require.NoError(t, change())
					becomes(t, b, key, [...]string{"new", ""}[i])
				}
			}
			loader, _ := loads("v")
			item, err := b.GetOrLoadItem(ctx, "early", loader)
			require.NoError(t, err)
			require.Equal(t, store.SourceLoaded, item.Source)
			fill(t, b, "early")
			second, _ := loads("w")
			_, err = a.GetOrLoad(ctx, "early", second, store.WithEarly(1e-9)) // stores
			require.NoError(t, err)
			becomes(t, b, "early", "w")

			fill(t, b, "early")
			expire(t, server, "early")
			if name == "channel" {
				return // nobody says that
			}
			becomes(t, b, "early", "")
			require.NoError(t, a.Set(ctx, "k", "v", store.WithTTL(50*time.Millisecond)))
			becomes(t, b, "k", "")
			require.NoError(t, a.Set(ctx, "k", "v"))
			fill(t, b, "k")
			require.NoError(t, client.FlushAll(ctx).Err())
			becomes(t, b, "k", "")
			require.NoError(t, a.Set(ctx, "k", "v"))
			fill(t, b, "k")
			require.NoError(t, client.LPush(ctx, redisKey("other"), "x").Err())
			require.NoError(t, client.Rename(ctx, redisKey("other"), redisKey("k")).Err())
			require.Eventually(t, func() bool {
				_, err := b.Get(ctx, "k")
				return errors.Is(err, store.ErrCodec)
			}, patience, tick)
		})
	}
}

// TestOwnWritesAreSeenAtOnce, although the near cache does not hear of them.
func TestOwnWritesAreSeenAtOnce(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client, proxy := paths(t, server, true)
	c := newCache[string](t, newCacheStore(t, client), store.WithNear(100, time.Minute))
	ctx := t.Context()
	require.NoError(t, c.Set(ctx, "k", "v"))
	fill(t, c, "k")
	proxy.SwallowToClient(true)
	for i := range 10 {
		require.NoError(t, c.Set(ctx, "k", strconv.Itoa(i)))
		for _, from := range []store.Source{store.SourceRedis, store.SourceNear} {
			item, err := c.GetItem(ctx, "k")
			require.NoError(t, err)
			assert.Equal(t, strconv.Itoa(i), item.Value)
			assert.Equal(t, from, item.Source)
		}
		require.NoError(t, c.Delete(ctx, "k"))
		_, err := c.Get(ctx, "k")
		require.ErrorIs(t, err, store.ErrNotFound)
	}
	require.NoError(t, c.Set(ctx, "k", "v"))
	fill(t, c, "k")
	early, _ := loads("w")
	_, err := c.GetOrLoad(ctx, "k", early, store.WithEarly(1e-9))
	require.NoError(t, err)
	becomes(t, c, "k", "w")
	require.NoError(t, c.Clear(ctx))
	_, err = c.Get(ctx, "k")
	require.ErrorIs(t, err, store.ErrNotFound)
}

// TestNearIsPublishedOnlyIfSomebodyListens: where keys are tracked nothing is published.
func TestNearIsPublishedOnlyIfSomebodyListens(t *testing.T) {
	t.Parallel()
	server, c := setupCache[string](t, near())
	ctx := t.Context()
	require.NoError(t, c.Set(ctx, "k", "v"))
	fill(t, c, "k")
	server.ResetCommands(t)
	require.NoError(t, c.Set(ctx, "k", "v"))
	require.NoError(t, c.Delete(ctx, "k"))
	loader, _ := loads("v")
	_, err := c.GetOrLoad(ctx, "k", loader)
	require.NoError(t, err)
	assert.EqualValues(t, 3, server.Commands(t)["pubsub|numsub"])
	assert.Zero(t, server.Commands(t)["publish"])
	sub := newClient(t, server.Addr()).Subscribe(ctx, "cache:near")
	t.Cleanup(func() { _ = sub.Close() })
	_, err = sub.Receive(ctx)
	require.NoError(t, err)
	require.NoError(t, c.Delete(ctx, "k"))
	published := func(name string) {
		t.Helper()
		assert.Equal(t, name, receive(t, sub.Channel(), "what is published").Payload)
	}
	published(redisKey("k"))
	_, err = c.GetOrLoad(ctx, "k", loader, store.WithTags("tag"))
	require.NoError(t, err)
	published(redisKey("k"))
	require.NoError(t, c.InvalidateTag(ctx, "tag"))
	published(tagKey("tag"))
	expire(t, server, "k")
	_, err = c.GetOrLoad(ctx, "k", func(context.Context) (string, error) { return "", store.ErrNotFound })
	require.ErrorIs(t, err, store.ErrNotFound)
	published(redisKey("k"))
}

func TestNearOnACluster(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, 3)
	for name, opts := range map[string][]store.Option{
		"keys":   nil,
		"groups": {store.WithGroup(func(key string) string { return key[:1] + "}:{" })},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := must(store.NewCache[string](newCacheStore(t, clusterClient(t, cluster)), name, opts...))
			b := must(store.NewCache[string](newCacheStore(t, clusterClient(t, cluster)), name, append(opts, near())...))
			keys, want := make([]string, 50), make(map[string]string)
			for i := range keys {
				keys[i] = fmt.Sprintf("%d }:{ %d", i, i)
				want[keys[i]] = "v"
				require.NoError(t, a.Set(t.Context(), keys[i], "v"))
			}
			for _, key := range keys {
				fill(t, b, key)
			}
			hits := 0
			for _, key := range keys {
				item, err := b.GetItem(t.Context(), key)
				require.NoError(t, err)
				if item.Source == store.SourceNear {
					hits++
				}
			}
			assert.Greater(t, hits, 25)
			got, err := b.GetMany(t.Context(), keys)
			require.NoError(t, err)
			assert.Equal(t, want, got)
			for _, key := range keys {
				require.NoError(t, a.Set(t.Context(), key, "w"))
			}
			for _, key := range keys {
				becomes(t, b, key, "w")
			}
		})
	}
}
