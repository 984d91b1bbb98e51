package store_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
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

// TestNearIsNeverOlderThanItMayBe: the near cache's connections break in every way, while another process writes.
func TestNearIsNeverOlderThanItMayBe(t *testing.T) {
	t.Parallel()
	const bound = 300 * time.Millisecond
	server := redistest.Start(t)
	client, proxy := paths(t, server, true)
	writer := newCache[string](t, newCacheStore(t, newClient(t, server.Addr())))
	c := newCache[string](t, newCacheStore(t, client), store.WithNear(10, bound))
	ctx, cancel := context.WithCancel(t.Context())
	began := time.Now()
	var written [1 << 20]atomic.Int64 // when each number was confirmed
	var last atomic.Int64
	write := func(n int64) {
		if !assert.NoError(t, writer.Set(t.Context(), "k", strconv.FormatInt(n, 10))) {
			cancel()
		}
		written[n].Store(int64(time.Since(began)))
		last.Store(n)
	}
	write(1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for n := int64(2); ctx.Err() == nil && n < int64(len(written)); n++ {
			write(n)
			sleep(ctx, time.Millisecond)
		}
	}()
	hits, oldest := 0, time.Duration(0)
	read := func(d time.Duration) {
		for until := time.Now().Add(d); time.Now().Before(until); {
			at := time.Since(began)
			item, err := c.GetItem(t.Context(), "k")
			require.NoError(t, err)
			require.False(t, item.Stale)
			n, err := strconv.ParseInt(item.Value, 10, 64)
			require.NoError(t, err)
			if n >= last.Load() {
				continue
			}
			if next := time.Duration(written[n+1].Load()); next > 0 && next < at {
				oldest = max(oldest, at-next)
			}
			if item.Source == store.SourceNear {
				hits++
			}
		}
	}
	for _, fault := range []func(on bool){
		proxy.SwallowToClient, proxy.SwallowToServer, func(bool) { proxy.Cut() },
		func(on bool) { proxy.Refuse(on); proxy.Cut() },
	} {
		require.Eventually(t, func() bool {
			item, err := c.GetItem(t.Context(), "k")
			return err == nil && item.Source == store.SourceNear
		}, patience, time.Microsecond)
		fault(true)
		read(2 * bound)
		fault(false)
	}
	cancel()
	<-done
	t.Logf("oldest %v, %d old hits", oldest, hits)
	assert.LessOrEqual(t, oldest, bound)
	assert.Positive(t, hits, "some values are old")
}

// slow is a hook that delays what comes back of reads.
type slow struct {
	redistest.Hook

	delay atomic.Int64
}

func (s *slow) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		err := next(ctx, cmds)
		sleep(ctx, time.Duration(s.delay.Load()))
		return err
	}
}

func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// TestDelayedReadsLeaveNothingOldInTheNearCache: reads whose replies come late do not put what was replaced meanwhile.
func TestDelayedReadsLeaveNothingOldInTheNearCache(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client := newClient(t, server.Addr())
	hook := &slow{}
	client.AddHook(hook)
	writer := newCache[string](t, newCacheStore(t, newClient(t, server.Addr())))
	c := newCache[string](t, newCacheStore(t, client), near())
	require.NoError(t, writer.Set(t.Context(), "up", "v"))
	fill(t, c, "up")
	fromNear := 0
	for round := range 600 {
		key := "k" + strconv.Itoa(round%7)
		old, want := fmt.Sprint("old", round), fmt.Sprint("new", round)
		require.NoError(t, writer.Set(t.Context(), key, old))
		becomes(t, c, key, old)
		require.NoError(t, writer.Delete(t.Context(), key))
		require.NoError(t, writer.Set(t.Context(), key, old))
		hook.delay.Store(int64(time.Duration(round%5) * time.Millisecond / 2))
		read := make(chan error, 1)
		go func() {
			var err error
			switch round % 3 {
			case 0:
				_, err = c.Get(t.Context(), key)
			case 1:
				_, err = c.GetOrLoad(t.Context(), key, failingLoader)
			case 2:
				_, err = c.GetMany(t.Context(), []string{key})
			}
			read <- err
		}()
		sleep(t.Context(), time.Duration(round%4)*time.Millisecond/2)
		require.NoError(t, writer.Set(t.Context(), key, want))
		require.NoError(t, receive(t, read, "the read"))
		becomes(t, c, key, want) // for an hour it would be the old value
		if item, err := c.GetItem(t.Context(), key); assert.NoError(t, err) && assert.Equal(t, want, item.Value) &&
			item.Source == store.SourceNear {
			fromNear++
		}
	}
	assert.Positive(t, fromNear)
}

// TestNearInAnOutage: what is fresh, what may be stale, then loaders.
func TestNearInAnOutage(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client, proxy := paths(t, server, false)
	s := newStore(t, client, store.WithTimeout(time.Second))
	c, lists := newCache[string](t, s, near()), must(store.NewCache[[]string](s, "lists", near(), store.WithMaxSize(100)))
	ctx := t.Context()
	require.NoError(t, c.Set(ctx, "k", "v"))
	fill(t, c, "k")
	proxy.Refuse(true)
	proxy.Cut()
	item, err := c.GetOrLoadItem(ctx, "k", failingLoader)
	require.NoError(t, err)
	assert.Equal(t, store.SourceNear, item.Source, "the near cache still hears of changes")
	assert.False(t, item.Stale)

	server.Kill()
	for _, get := range []func() (store.Item[string], error){
		func() (store.Item[string], error) { return c.GetItem(ctx, "k") },
		func() (store.Item[string], error) { return c.GetOrLoadItem(ctx, "k", failingLoader) },
	} {
		require.Eventually(t, func() bool {
			item, err = get()
			return err == nil && item.Source == store.SourceStale
		}, patience, tick)
		assert.Equal(t, "v", item.Value)
		assert.True(t, item.Stale)
		require.ErrorIs(t, item.Cause, store.ErrUnavailable)
	}
	many, err := c.GetMany(ctx, []string{"k"})
	require.NoError(t, err)
	assert.Equal(t, map[string]string{"k": "v"}, many)
	many, err = c.LoadMany(ctx, []string{"k"}, failingMany)
	require.NoError(t, err)
	assert.Equal(t, map[string]string{"k": "v"}, many)

	for _, value := range []string{"v", strings.Repeat("too large", 100)} {
		loader, count := loads([]string{value})
		for range 3 {
			v, err := lists.GetOrLoad(ctx, value, loader)
			require.NoError(t, err)
			assert.Equal(t, []string{value}, v)
			v[0] = "changed by a caller"
		}
		assert.EqualValues(t, 1, count.Load(), "it stays in the near cache for a while")
	}
	require.Error(t, c.Delete(ctx, "k"))
	_, err = c.GetOrLoad(ctx, "k", failingLoader)
	require.ErrorIs(t, err, errDatabase, "a Delete that failed removes it from the near cache")

	loader := newGated[string]()
	old := async(ctx, c, "deleted", loader.load)
	receive(t, loader.began, "the load")
	require.Error(t, c.Delete(ctx, "deleted"))
	loader.give("old", nil)
	require.NoError(t, receive(t, old, "the value").err)
	_, err = c.GetOrLoad(ctx, "deleted", failingLoader)
	require.ErrorIs(t, err, errDatabase, "what was loaded before the Delete is not kept")
}

// TestNearHitsAllocateNothing where callers share values.
func TestNearHitsAllocateNothing(t *testing.T) { //nolint:paralleltest // counts allocations
	_, c := setupCache[user](t, near(), store.WithShared(), store.WithEarly(0.8))
	ctx := t.Context()
	require.NoError(t, c.Set(ctx, "k", user{Name: "Ada", Tags: []string{"x"}}))
	fill(t, c, "k")
	missed := 0
	for _, get := range []func() (store.Item[user], error){
		func() (store.Item[user], error) { return c.GetItem(ctx, "k") },
		func() (store.Item[user], error) { return c.GetOrLoadItem(ctx, "k", never) },
	} {
		assert.Zero(t, testing.AllocsPerRun(1000, func() {
			if item, err := get(); err != nil || item.Source != store.SourceNear {
				missed++
			}
		}))
	}
	assert.Zero(t, missed)
}

func TestSharedAndClonedValues(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := newCacheStore(t, newClient(t, server.Addr()))
	var copies atomic.Int64
	for name, opts := range map[string][]store.Option{
		"shared": {store.WithShared()},
		"cloned": {store.WithClone(func(u user) user {
			copies.Add(1)
			return user{u.Name, append([]string(nil), u.Tags...)}
		})},
	} {
		c, err := store.NewCache[user](s, name, append(opts, near())...)
		require.NoError(t, err)
		require.NoError(t, c.Set(t.Context(), "k", user{"Ada", []string{"x"}}))
		fill(t, c, "k")
		first, err := c.Get(t.Context(), "k")
		require.NoError(t, err)
		first.Tags[0] = "changed"
		for range 2 {
			second, err := c.GetOrLoad(t.Context(), "k", never)
			require.NoError(t, err)
			assert.Equal(t, map[string]string{"shared": "changed", "cloned": "x"}[name], second.Tags[0])
		}
	}
	assert.GreaterOrEqual(t, copies.Load(), int64(4))
	_, err := store.NewCache[user](s, "wrong", store.WithClone(func(v string) string { return v }))
	refused(t, err, "WithClone")
	_, err = store.NewCache[user](s, "wrong", store.WithClone[user](nil))
	refused(t, err, "WithClone")
}

func TestNearOptions(t *testing.T) {
	t.Parallel()
	for argument, options := range map[string][]store.Option{
		"WithNear":      {store.WithNear(-1, time.Second), store.WithNear(1, -1), store.WithNear(1, time.Millisecond)},
		"WithNearBytes": {store.WithNearBytes(0), store.WithNearBytes(-1)},
	} {
		s := newStore(t, newClient(t, "localhost:1"))
		for _, option := range options {
			_, err := store.New(newClient(t, "localhost:1"), option)
			refused(t, err, argument)
			_, err = store.NewCache[int](s, "a", option)
			refused(t, err, argument)
			_, err = store.NewState[int](s, "a", option)
			refused(t, err, argument)
		}
	}
	server := redistest.Start(t)
	s := newStore(t, newClient(t, server.Addr()), store.WithTimeout(patience), store.WithNear(100, 0), store.WithNearBytes(1<<20))
	on, off := newCache[int](t, s), must(store.NewCache[int](s, "off", store.WithNear(0, 0)))
	tiny := must(store.NewCache[int](s, "tiny", store.WithNearBytes(1)))
	for _, c := range []*store.Cache[int]{on, off, tiny} {
		require.NoError(t, c.Set(t.Context(), "k", 1))
	}
	fill(t, on, "k")
	for range 5 {
		for _, c := range []*store.Cache[int]{off, tiny} {
			item, err := c.GetItem(t.Context(), "k")
			require.NoError(t, err)
			assert.Equal(t, store.SourceRedis, item.Source)
		}
	}
	for i := range 1000 {
		key := strconv.Itoa(i)
		require.NoError(t, on.Set(t.Context(), key, i))
		_, err := on.Get(t.Context(), key)
		require.NoError(t, err)
	}
	assert.LessOrEqual(t, store.NearEntries(on), 100)
}

// TestNearStartsWhenItIsUsed: a Cache that is only made connects to nothing.
func TestNearStartsWhenItIsUsed(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	proxy := faultproxy.New(t, server.Addr())
	c := newCache[int](t, newCacheStore(t, newClient(t, proxy.Addr())), near())
	assert.Zero(t, proxy.Accepted())
	require.NoError(t, c.Set(t.Context(), "k", 1))
	fill(t, c, "k")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s := newCacheStore(t, newClient(t, proxy.Addr()))
	closed := newCache[int](t, s, near())
	fill(t, closed, "k")
	_ = s.Close(ctx)
	require.NoError(t, s.Close(t.Context()))
	_, err := closed.Get(t.Context(), "k")
	require.ErrorIs(t, err, store.ErrClosed)
	_, err = store.NewCache[int](s, "late", near())
	require.ErrorIs(t, err, store.ErrClosed)
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

func TestMetricsOfANearCache(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := newStore(t, newClient(t, server.Addr()), store.WithName("main"), store.WithTimeout(patience))
	registry := prometheus.NewPedanticRegistry()
	require.NoError(t, registry.Register(s.Collector()))
	count, err := testutil.GatherAndCount(registry, "cache_store_near_up", "cache_store_near_entries")
	require.NoError(t, err)
	assert.Zero(t, count, "there is none")
	c := newCache[string](t, s, near())
	require.NoError(t, c.Set(t.Context(), "k", "v"))
	fill(t, c, "k")
	fill(t, must(store.NewCache[string](s, name, near())), "k") // which empties the other
	fill(t, c, "k")
	assert.NoError(t, testutil.GatherAndCompare(registry, strings.NewReader(`
# HELP cache_store_near_entries Values in near caches.
# TYPE cache_store_near_entries gauge
cache_store_near_entries{cache="main",name="things"} 2
# HELP cache_store_near_up Whether near caches hear of changes, and serve values.
# TYPE cache_store_near_up gauge
cache_store_near_up{cache="main"} 1
`), "cache_store_near_entries", "cache_store_near_up"))
	for _, name := range []string{"bytes", "invalidated_total", "dropped_total", "age_seconds", "flushes_total"} {
		count, err := testutil.GatherAndCount(registry, "cache_store_near_"+name)
		require.NoError(t, err)
		assert.Equal(t, 1, count, name)
	}
	require.NoError(t, s.HealthCheck(t.Context()))
}

// TestNearPermissions: a user who may do no more than a near cache needs has one; without CLIENT TRACKING it hears what is
// published, whoever writes.
func TestNearPermissions(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	user := func(name string, more ...any) *redis.Client {
		rules := []any{
			"acl", "setuser", name, "on", ">pw", "~cache:*", "resetchannels", "&cache:*", "+eval", "+evalsha", "+get", "+mget",
			"+set", "+del", "+pttl", "+pexpire", "+time", "+publish", "+subscribe", "+ping", "+hello", "+scan", "+info",
		}
		require.NoError(t, server.Client(t).Do(t.Context(), append(rules, more...)...).Err())
		options := server.Options()
		options.Username, options.Password, options.ContextTimeoutEnabled = name, "pw", true
		client := redis.NewClient(options)
		t.Cleanup(func() { _ = client.Close() })
		return client
	}
	ctx := t.Context()
	writer := newCache[string](t, newCacheStore(t, user("writer", "+client|tracking")), store.WithTags("tag"))
	for name, more := range map[string][]any{"tracks": {"+client|tracking", "+pubsub|numsub"}, "listens": nil} {
		c := newCache[string](t, newCacheStore(t, user(name, more...)), near())
		require.NoError(t, writer.Set(ctx, "k", "old"))
		becomes(t, c, "k", "old")
		fill(t, c, "k")
		require.NoError(t, writer.Set(ctx, "k", "new"))
		becomes(t, c, "k", "new")
		fill(t, c, "k")
		require.NoError(t, writer.InvalidateTag(ctx, "tag"))
		becomes(t, c, "k", "")
		require.NoError(t, c.Clear(ctx))
	}
}
