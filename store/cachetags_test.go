package store_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/internal/redisx"
	"github.com/compozy/cache/store"
)

// tagKey is the key of a tag in Redis.
func tagKey(tag string) string { return "cache:t:" + name + ":" + redisx.HashTag(tag) }

// load loads a value that must be loaded, or must not.
func loadOne(t testing.TB, c *store.Cache[string], key, value string, from store.Source, opts ...store.Option) {
	t.Helper()
	loader, _ := loads(value)
	item, err := c.GetOrLoadItem(t.Context(), key, loader, opts...)
	require.NoError(t, err)
	assert.Equal(t, from, item.Source, key)
	assert.Equal(t, value, item.Value, key)
}

func TestTags(t *testing.T) {
	t.Parallel()
	odd := []string{"a b", "}", "%", "x=1,y=2", "ü\n", "{c}"}
	for _, named := range []bool{true, false} { // in NewCache, or only in the call that stores
		t.Run(strconv.FormatBool(named), func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t)
			var opts []store.Option
			if named {
				opts = append(opts, store.WithTags(odd...))
			}
			opts = append(opts, store.WithStale(time.Hour))
			client := newClient(t, server.Addr())
			a := newCache[string](t, newCacheStore(t, client), append(opts, store.WithNegative(time.Hour))...)
			b := newCache[string](t, newCacheStore(t, newClient(t, server.Addr())), opts...)
			ctx := t.Context()
			for i, tag := range odd {
				with := store.WithTags(odd...)
				require.NoError(t, a.Set(ctx, "set", "v", with))
				loadOne(t, a, "load"+strconv.Itoa(i), "v", store.SourceLoaded, with)
				_, err := a.LoadMany(ctx, []string{"many"}, func(_ context.Context, keys []string) (map[string]string, error) {
					return map[string]string{"many": "v"}, nil
				}, with)
				require.NoError(t, err)
				_, err = a.GetOrLoad(ctx, "absent", func(context.Context) (string, error) { return "", store.ErrNotFound }, with)
				require.ErrorIs(t, err, store.ErrNotFound)
				require.NoError(t, a.Set(ctx, "other", "v", store.WithTags("other")))
				keys := []string{"set", "load" + strconv.Itoa(i), "many"}
				for _, c := range []*store.Cache[string]{a, b} {
					for _, key := range append(keys, "other") {
						v, err := c.Get(ctx, key)
						require.NoError(t, err, key)
						require.Equal(t, "v", v)
					}
					many, err := c.GetMany(ctx, keys)
					require.NoError(t, err)
					require.Len(t, many, 3)
					item, err := c.GetOrLoadItem(ctx, "absent", never)
					require.ErrorIs(t, err, store.ErrNotFound)
					require.Equal(t, store.SourceRedis, item.Source)
				}
				require.NoError(t, b.InvalidateTag(ctx, tag))
				for _, c := range []*store.Cache[string]{a, b} {
					for _, key := range keys {
						_, err := c.Get(ctx, key)
						require.ErrorIs(t, err, store.ErrNotFound, "%s %s", key, tag)
					}
					many, err := c.GetMany(ctx, keys)
					require.NoError(t, err)
					require.Empty(t, many)
					_, err = c.Get(ctx, "other")
					require.Equal(t, named, errors.Is(err, store.ErrNotFound), "it has the tags of NewCache")
				}
				_, err = b.GetOrLoad(ctx, "set", failingLoader, store.WithFailurePause(0))
				require.ErrorIs(t, err, errDatabase, "it is as good as deleted, stale or not")
				loadOne(t, b, "set", "w", store.SourceLoaded)
				loadOne(t, a, "set", "w", store.SourceRedis)
				loadOne(t, b, "absent", "w", store.SourceLoaded)
				many, err := b.LoadMany(ctx, keys, func(_ context.Context, keys []string) (map[string]string, error) {
					got := make(map[string]string)
					for _, key := range keys {
						got[key] = "x"
					}
					return got, nil
				})
				require.NoError(t, err)
				require.Equal(t, map[string]string{"set": "w", "many": "x", keys[1]: "x"}, many)
				require.NoError(t, a.Delete(ctx, "absent", "many"))
			}
			require.NoError(t, a.InvalidateTag(ctx, "other", "unknown"))
			_, err := b.Get(ctx, "other")
			require.ErrorIs(t, err, store.ErrNotFound)
			require.NoError(t, a.InvalidateTag(ctx))
		})
	}
}

func TestTagsCostLittle(t *testing.T) {
	t.Parallel()
	server, c := setupCache[string](t, store.WithTags("a", "b"))
	loadOne(t, c, "warm", "v", store.SourceLoaded)
	server.ResetCommands(t)
	loadOne(t, c, "k", "v", store.SourceLoaded)
	counts := server.Commands(t)
	assert.EqualValues(t, 4, counts["evalsha"], "lease, two epochs, fill")
	require.NoError(t, c.InvalidateTag(t.Context(), "a"))
	server.ResetCommands(t)
	loadOne(t, c, "k", "v", store.SourceLoaded)
	loadOne(t, c, "warm", "v", store.SourceLoaded)
	assert.EqualValues(t, 8, server.Commands(t)["evalsha"])
	server.ResetCommands(t)
	_, err := c.Get(t.Context(), "k")
	require.NoError(t, err)
	_, err = c.GetMany(t.Context(), []string{"k", "warm"})
	require.NoError(t, err)
	counts = server.Commands(t)
	assert.EqualValues(t, 3, counts["get"])
	assert.EqualValues(t, 1, counts["mget"])
	assert.EqualValues(t, 2, counts["time"], "one pipeline each")
	server.ResetCommands(t)
	for range 3 {
		require.NoError(t, c.Set(t.Context(), "k", "v"))
	}
	assert.Zero(t, server.Commands(t)["pexpire"], "epochs are made to last once a day")
	ttl := server.Client(t).TTL(t.Context(), tagKey("a")).Val()
	assert.Greater(t, ttl, 24*time.Hour)
	require.NoError(t, c.Set(t.Context(), "k", "v", store.WithTTL(100*time.Hour), store.WithStale(100*time.Hour)))
	assert.Greater(t, server.Client(t).TTL(t.Context(), tagKey("a")).Val(), 220*time.Hour, "longer than the value")
}

// TestLoadsThatATagEnds: what was loaded before the tag was invalidated is returned to those who were there, and to nobody else,
// in this process or another.
func TestLoadsThatATagEnds(t *testing.T) {
	t.Parallel()
	for i, want := range []error{nil, store.ErrNotFound, nil, store.ErrNotFound} {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			_, a, b := two[string](t, store.WithTags("tag"))
			both := i < 2
			loader := newGated[string]()
			before := async(t.Context(), a, "k", loader.load)
			receive(t, loader.began, "the load")
			require.NoError(t, b.InvalidateTag(t.Context(), "tag"))
			next, count := loads("new")
			var after []<-chan outcome[string]
			if both {
				after = append(after, async(t.Context(), a, "k", next))
				require.Eventually(t, func() bool { return store.Callers(a, "k") == 2 }, patience, tick)
			}
			for _, c := range []*store.Cache[string]{b, b} {
				after = append(after, async(t.Context(), c, "k", next))
			}
			requireWaiting(t, b)
			require.Eventually(t, func() bool { return store.Callers(b, "k") == 2 }, patience, tick)
			loader.give("old", want)
			require.ErrorIs(t, receive(t, before, "the value").err, want)
			for _, ch := range after {
				out := receive(t, ch, "the value")
				require.NoError(t, out.err)
				assert.Equal(t, "new", out.item.Value)
			}
			assert.EqualValues(t, 1, count.Load())
			v, err := a.Get(t.Context(), "k")
			require.NoError(t, err)
			assert.Equal(t, "new", v)
		})
	}
}

// TestNoStaleFillAfterATagIsInvalidated: random interleavings in two processes.
func TestNoStaleFillAfterATagIsInvalidated(t *testing.T) {
	t.Parallel()
	server, c := setupCache[string](t)
	processes := startProcesses(t, server, 2)
	client := server.Client(t)
	for round := range 400 {
		key := "k" + strconv.Itoa(round)
		what := task{Op: "race", Key: key, Tags: [][]string{{"one"}, {"two", "x"}, {key}}[round%3]}
		other := what
		what.Callers = 1
		processes[round%2].send(t, what)
		processes[1-round%2].send(t, other)
		for _, p := range processes {
			require.Empty(t, p.receive(t).Errors, round)
		}
		v, err := c.Get(t.Context(), key)
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		require.NoError(t, err)
		require.Equal(t, client.Get(t.Context(), "db:"+key).Val(), v, "stored after round %d", round)
	}
}

// TestEpochsThatAreLost do not make anything valid again.
func TestEpochsThatAreLost(t *testing.T) {
	t.Parallel()
	server, c := setupCache[string](t, store.WithTags("tag"))
	client := server.Client(t)
	ctx := t.Context()
	for name, lose := range map[string]func() error{
		"gone":     func() error { return client.Del(ctx, tagKey("tag")).Err() },
		"replaced": func() error { return client.Set(ctx, tagKey("tag"), "0123456789abcdef", 0).Err() },
		"foreign":  func() error { return client.Set(ctx, tagKey("tag"), "-", 0).Err() },
		"type": func() error {
			return errors.Join(client.Del(ctx, tagKey("tag")).Err(), client.LPush(ctx, tagKey("tag"), "x").Err())
		},
	} {
		require.NoError(t, client.Del(ctx, tagKey("tag")).Err())
		require.NoError(t, c.Set(ctx, "k", "v"), name)
		_, err := c.Get(ctx, "k")
		require.NoError(t, err)
		require.NoError(t, lose())
		_, err = c.Get(ctx, "k")
		require.ErrorIs(t, err, store.ErrNotFound, name)
		many, err := c.GetMany(ctx, []string{"k"})
		require.NoError(t, err)
		assert.Empty(t, many)
		if name == "foreign" || name == "type" {
			loader, count := loads("v")
			_, err = c.GetOrLoad(ctx, "k", loader)
			require.ErrorIs(t, err, store.ErrCodec, name)
			_, err = c.LoadMany(ctx, []string{"k", "l"}, failingMany)
			require.ErrorIs(t, err, store.ErrCodec, name)
			assert.Zero(t, count.Load())
			require.ErrorIs(t, c.Set(ctx, "k", "v"), store.ErrCodec, name)
			require.ErrorIs(t, c.InvalidateTag(ctx, "tag"), store.ErrCodec, name)
			assert.EqualValues(t, 1, client.Exists(ctx, tagKey("tag")).Val(), "it stays")
			continue
		}
		loadOne(t, c, "k", "w", store.SourceLoaded)
		loadOne(t, c, "k", "w", store.SourceRedis)
	}
	require.NoError(t, client.Del(ctx, tagKey("tag")).Err())
	require.NoError(t, c.Set(ctx, "k", "v"))
	raw := client.Get(ctx, redisKey("k")).Val()
	require.NoError(t, client.FlushAll(ctx).Err())
	require.NoError(t, c.Set(ctx, "other", "v"))
	require.NoError(t, client.Set(ctx, redisKey("k"), raw, 0).Err())
	_, err := c.Get(ctx, "k")
	require.ErrorIs(t, err, store.ErrNotFound, "an entry of before")
	require.NoError(t, client.Set(ctx, redisKey("k"), strings.Replace(raw, "tag=", "tag", 1), 0).Err())
	_, err = c.Get(ctx, "k")
	require.ErrorIs(t, err, store.ErrCodec, "tags that are none")
}

func TestTagsInNearCaches(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string][]redistest.Option{
		"tracking": nil,
		"channel":  {redistest.WithConfig("user", "default on nopass ~* &* +@all -client|tracking")},
	} {
		for _, named := range []store.Option{store.WithTags("a", "b"), store.WithTags()} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				server := redistest.Start(t, opts...)
				a := newCache[string](t, newCacheStore(t, newClient(t, server.Addr())), named)
				b := newCache[string](t, newCacheStore(t, newClient(t, server.Addr())), named, near())
				ctx := t.Context()
				for i := range 20 {
					for _, key := range []string{"k", "l"} {
						require.NoError(t, a.Set(ctx, key, fmt.Sprint(i), store.WithTags("a", "b", key)))
						becomes(t, b, key, fmt.Sprint(i))
						fill(t, b, key)
					}
					require.NoError(t, a.InvalidateTag(ctx, "k"))
					becomes(t, b, "k", "")
					v, err := b.Get(ctx, "l")
					require.NoError(t, err)
					assert.Equal(t, fmt.Sprint(i), v)
					fill(t, b, "l")
					require.NoError(t, b.InvalidateTag(ctx, "b"))
					_, err = b.Get(ctx, "l")
					require.ErrorIs(t, err, store.ErrNotFound, "in the same process it is so at once")
				}
			})
		}
	}
}

func TestTagsOnACluster(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, 3)
	a := newCache[string](t, newStore(t, clusterClient(t, cluster), store.WithTimeout(patience)), store.WithTags("all"))
	b := newCache[string](t, newStore(t, clusterClient(t, cluster), store.WithTimeout(patience)), near())
	ctx := t.Context()
	loader := func(_ context.Context, keys []string) (map[string]string, error) {
		got := make(map[string]string)
		for _, key := range keys {
			got[key] = "loaded"
		}
		return got, nil
	}
	keys := make([]string, 20)
	for i := range keys {
		keys[i] = strconv.Itoa(i)
		require.NoError(t, a.Set(ctx, keys[i], "v", store.WithTags("some", keys[i])))
	}
	for _, tag := range []string{"7", "some", "all"} {
		for _, key := range keys {
			becomes(t, b, key, map[string]string{"7": "v", "some": "loaded", "all": "loaded"}[tag])
		}
		require.NoError(t, a.InvalidateTag(ctx, tag))
		for _, key := range keys {
			if tag != "7" || key == "7" {
				becomes(t, b, key, "")
			}
		}
		_, err := b.Get(ctx, "8")
		assert.Equal(t, tag == "7", err == nil)
		if tag == "7" {
			require.NoError(t, a.Delete(ctx, keys...))
		}
		got, err := a.LoadMany(ctx, keys, loader, store.WithTags("some"))
		require.NoError(t, err)
		assert.Len(t, got, len(keys))
	}
}

// TestTagsWithoutRedis: it is repeated until Redis has done it.
func TestTagsWithoutRedis(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client, proxy := paths(t, server, false)
	c := newCache[string](t, newStore(t, client), store.WithTags("tag"), near())
	ctx := t.Context()
	require.Eventually(t, func() bool { return c.Set(ctx, "k", "v") == nil }, patience, tick)
	fill(t, c, "k")
	proxy.Refuse(true)
	proxy.Cut()
	err := c.InvalidateTag(ctx, "tag", "other")
	require.ErrorIs(t, err, store.ErrUnavailable)
	var many *store.ManyError
	require.ErrorAs(t, err, &many)
	assert.Len(t, many.Errs, 2)
	assert.Equal(t, 2, store.Pending(c))
	_, err = c.Get(ctx, "k")
	require.ErrorIs(t, err, store.ErrUnavailable, "not from the near cache of the process that wanted it gone")
	_, err = c.GetOrLoad(ctx, "k", failingLoader)
	require.ErrorIs(t, err, errDatabase)
	proxy.Refuse(false)
	require.Eventually(t, func() bool { return store.Pending(c) == 0 }, patience, tick)
	require.Eventually(t, func() bool {
		_, err = c.Get(ctx, "k")
		return errors.Is(err, store.ErrNotFound)
	}, patience, tick)
}

func TestTagsRefuseArguments(t *testing.T) {
	t.Parallel()
	server, c := setupCache[string](t, store.WithTags("a"))
	many := make([]string, 32)
	for i := range many {
		many[i] = strconv.Itoa(i)
	}
	server.ResetCommands(t)
	for _, bad := range [][]string{{""}, {"b", strings.Repeat("x", 257)}, many} {
		refused(t, c.Set(t.Context(), "k", "v", store.WithTags(bad...)), "WithTags")
		_, err := c.GetOrLoad(t.Context(), "k", never, store.WithTags(bad...))
		refused(t, err, "WithTags")
		if len(bad) < 3 {
			refused(t, c.InvalidateTag(t.Context(), bad...), "tags")
		}
	}
	refused(t, c.InvalidateTag(nil, "a"), "ctx") //nolint:staticcheck // that is the point
	refused(t, (*store.Cache[string])(nil).InvalidateTag(t.Context(), "a"), "Cache")
	refused(t, new(store.Cache[string]).Clear(t.Context()), "Cache")
	refused(t, c.Clear(nil), "ctx") //nolint:staticcheck // that is the point
	assert.Zero(t, server.Commands(t)["evalsha"])
	require.NoError(t, c.Set(t.Context(), "k", "v", store.WithTags(many[1:]...)))
	_, err := c.Get(t.Context(), "k")
	require.NoError(t, err)
}
