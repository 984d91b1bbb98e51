package store_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/faultproxy"
	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/store"
)

func TestPanicAndGoexitOfALoader(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(){
		"panic": func() { panic(io.ErrUnexpectedEOF) }, "goexit": runtime.Goexit,
	} {
		_, a, b := two[string](t)
		loader := newGated[string]()
		failing := func(ctx context.Context) (string, error) {
			_, _ = loader.load(ctx)
			end()
			return "", nil
		}
		first := async(t.Context(), a, "k", failing)
		receive(t, loader.began, "the load")
		second, other := async(t.Context(), a, "k", failing), async(t.Context(), b, "k", failing)
		requireWaiting(t, b)
		requireCallers(t, a, "k", 2)
		loader.give("", nil)
		for _, ch := range []<-chan outcome[string]{first, second} {
			err := receive(t, ch, "a caller").err
			require.ErrorIs(t, err, store.ErrPanic, name)
			assert.Equal(t, name == "panic", errors.Is(err, io.ErrUnexpectedEOF), name)
		}
		err := receive(t, other, "the other process").err
		require.ErrorIs(t, err, store.ErrPanic, name)
		require.ErrorIs(t, err, store.ErrLoad, name)
		works, _ := loads("v")
		v, err := b.GetOrLoad(t.Context(), "k", works)
		require.NoError(t, err, "there is no pause")
		assert.Equal(t, "v", v)
	}
}

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

func TestTooLargeIsReturnedAndNotStored(t *testing.T) {
	t.Parallel()
	server, a, b := two[string](t, store.WithMaxSize(10), store.WithFailurePause(time.Minute))
	loader, count := loads("much too large")
	for _, c := range []*store.Cache[string]{a, b, a} {
		item, err := c.GetOrLoadItem(t.Context(), "k", loader)
		require.NoError(t, err)
		assert.Equal(t, "much too large", item.Value)
		assert.Zero(t, item.Version)
	}
	assert.EqualValues(t, 3, count.Load())
	assert.Zero(t, server.Client(t).Exists(t.Context(), redisKey("k")).Val())
	require.ErrorIs(t, a.Set(t.Context(), "k", "much too large"), store.ErrTooLarge)

	held := newGated[string]()
	first := async(t.Context(), a, "many", held.load)
	receive(t, held.began, "the load")
	second := async(t.Context(), a, "many", held.load)
	requireCallers(t, a, "many", 2)
	held.give("also too large", nil)
	for _, ch := range []<-chan outcome[string]{first, second} {
		out := receive(t, ch, "a caller")
		require.NoError(t, out.err)
		assert.Equal(t, "also too large", out.item.Value)
	}
}

func TestForeignValuesStayAsTheyAre(t *testing.T) {
	t.Parallel()
	server, c := setupCache[string](t)
	client := server.Client(t)
	for what, set := range map[string]func(key string){
		"text":        func(key string) { client.Set(t.Context(), key, "hello", 0) },
		"list":        func(key string) { client.RPush(t.Context(), key, "hello") },
		"codec":       func(key string) { client.Set(t.Context(), key, "cs1 vx- 1 0 0 ab -\n\"x\"", 0) },
		"compression": func(key string) { client.Set(t.Context(), key, "cs1 vjz 1 0 0 ab -\n\"x\"", 0) },
		"state":       func(key string) { client.Set(t.Context(), key, "cs1 sj- 1 0 0 ab -\n\"x\"", 0) },
	} {
		set(redisKey(what))
		before := client.Dump(t.Context(), redisKey(what)).Val()
		_, err := c.Get(t.Context(), what)
		require.ErrorIs(t, err, store.ErrCodec, what)
		_, err = c.GetOrLoad(t.Context(), what, never)
		require.ErrorIs(t, err, store.ErrCodec, what)
		require.ErrorIs(t, c.Set(t.Context(), what, "v"), store.ErrCodec, what)
		require.ErrorIs(t, c.Delete(t.Context(), what), store.ErrCodec, what)
		assert.Equal(t, before, client.Dump(t.Context(), redisKey(what)).Val(), what)

		late := what + " while it is loaded"
		loader := newGated[string]()
		one := async(t.Context(), c, late, loader.load)
		receive(t, loader.began, "the load")
		set(redisKey(late))
		loader.give("v", nil)
		require.ErrorIs(t, receive(t, one, "a caller").err, store.ErrCodec, what)
		assert.Equal(t, before, client.Dump(t.Context(), redisKey(late)).Val(), what)
	}
	type other struct{ N int }
	require.NoError(t, c.Set(t.Context(), "type", "a string"))
	numbers, err := store.NewCache[other](newCacheStore(t, newClient(t, server.Addr())), name)
	require.NoError(t, err)
	_, err = numbers.Get(t.Context(), "type")
	require.ErrorIs(t, err, store.ErrCodec)
	assert.NotContains(t, err.Error(), "a string")
}

func TestValueThatCannotBeEncoded(t *testing.T) {
	t.Parallel()
	_, c := setupCache[any](t)
	loader, _ := loads[any](make(chan int))
	_, err := c.GetOrLoad(t.Context(), "k", loader)
	require.ErrorIs(t, err, store.ErrCodec)
	require.ErrorIs(t, c.Set(t.Context(), "k", make(chan int)), store.ErrCodec)
}

func TestDroppedRepliesLoadOnce(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	proxy := faultproxy.New(t, server.Addr())
	client := redis.NewClient(&redis.Options{Addr: proxy.Addr(), ContextTimeoutEnabled: true, MaxRetries: -1})
	t.Cleanup(func() { _ = client.Close() })
	c := newCache[string](t, newCacheStore(t, client))
	warm, _ := loads("up")
	_, err := c.GetOrLoad(t.Context(), "warm", warm)
	require.NoError(t, err)
	for drops := 1; drops <= 3; drops++ {
		key := fmt.Sprint("k", drops)
		loader := newGated[string]()
		proxy.DropReplies(drops)
		one := async(t.Context(), c, key, loader.load)
		receive(t, loader.began, "the load")
		proxy.DropReplies(drops)
		loader.give("v", nil)
		out := receive(t, one, "the value")
		proxy.DropReplies(0)
		require.NoError(t, out.err)
		assert.Equal(t, store.SourceLoaded, out.item.Source)
		assert.Positive(t, out.item.Version, "its own fill was recognised")
		assert.EqualValues(t, 1, loader.runs.Load())
		v, err := c.Get(t.Context(), key)
		require.NoError(t, err)
		assert.Equal(t, "v", v)
	}
}

func TestLostRepliesOfWrites(t *testing.T) {
	t.Parallel()
	server, other := setupCache[string](t)
	client := newClient(t, server.Addr())
	c := newCache[string](t, newCacheStore(t, client))
	require.NoError(t, other.Set(t.Context(), "k", "old"))
	require.NoError(t, other.Delete(t.Context(), "k"))
	l := &loss{}
	client.AddHook(l)
	l.arm(true, nil)
	require.NoError(t, c.Set(t.Context(), "k", "v"), "its own write was recognised")
	l.arm(true, nil)
	require.NoError(t, c.Delete(t.Context(), "k"))
	l.arm(false, nil)
	require.NoError(t, c.Delete(t.Context(), "k"))
	assert.Zero(t, store.Pending(c))

	l.arm(true, func() { require.NoError(t, other.Set(t.Context(), "k", "newer")) })
	require.ErrorIs(t, c.Set(t.Context(), "k", "v"), store.ErrUncertain)
	require.Eventually(t, func() bool {
		_, err := c.Get(t.Context(), "k")
		return errors.Is(err, store.ErrNotFound) && store.Pending(c) == 0
	}, patience, tick, "nobody knows what is right, so it is loaded again")
}

func TestFlushUnderALoad(t *testing.T) {
	t.Parallel()
	server, c := setupCache[string](t)
	loader := newGated[string]()
	one := async(t.Context(), c, "k", loader.load)
	receive(t, loader.began, "the load")
	require.NoError(t, server.Client(t).FlushAll(t.Context()).Err())
	loader.give("v", nil)
	out := receive(t, one, "the value")
	require.NoError(t, out.err)
	assert.Equal(t, "v", out.item.Value)
	_, err := c.Get(t.Context(), "k")
	require.ErrorIs(t, err, store.ErrNotFound)
}

// outages are ways in which Redis can fail.
func outages(server *redistest.Server, proxy *faultproxy.Proxy) map[string][2]func() {
	return map[string][2]func(){
		"stopped": {server.Stop, server.Continue},
		"refused": {server.Kill, server.Restart},
		"black-holed": {
			func() { proxy.SwallowToServer(true); proxy.SwallowToClient(true) },
			func() { proxy.SwallowToServer(false); proxy.SwallowToClient(false); proxy.Cut() },
		},
	}
}

// proxied returns a Cache with the usual timeout behind a proxy. It has opened its connections.
func proxied(t testing.TB, opts ...store.Option) (*redistest.Server, *faultproxy.Proxy, *store.Cache[string]) {
	t.Helper()
	server := redistest.Start(t)
	proxy := faultproxy.New(t, server.Addr())
	c := newCache[string](t, newStore(t, newClient(t, proxy.Addr())), opts...)
	warm, _ := loads("up")
	_, err := c.GetOrLoad(t.Context(), "warm", warm)
	require.NoError(t, err)
	return server, proxy, c
}

func TestOutageLadder(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"stopped", "refused", "black-holed"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, proxy, c := proxied(t)
			outage := outages(server, proxy)[name]
			outage[0]()
			loader, count := loads("v")
			for i := range 10 {
				item, err := c.GetOrLoadItem(t.Context(), fmt.Sprint("k", i), loader)
				require.NoError(t, err, "the loader works")
				assert.Equal(t, "v", item.Value)
				assert.Equal(t, store.SourceLoaded, item.Source)
				assert.Zero(t, item.Version)
			}
			assert.EqualValues(t, 10, count.Load())
			assert.Equal(t, 1, store.BreakersOpen(c))
			_, err := c.Get(t.Context(), "k0")
			require.ErrorIs(t, err, store.ErrUnavailable)
			values, err := c.GetMany(t.Context(), []string{"k0", "k1"})
			require.ErrorIs(t, err, store.ErrUnavailable)
			assert.Empty(t, values)
			l := &table{rows: map[string]string{"a": "1", "b": "2"}}
			values, err = c.LoadMany(t.Context(), []string{"a", "b"}, l.load)
			require.NoError(t, err)
			assert.Equal(t, l.rows, values)
			require.ErrorIs(t, c.Set(t.Context(), "k0", "v"), store.ErrUnavailable)
			_, err = c.GetOrLoad(t.Context(), "k0", func(context.Context) (string, error) { return "", errDatabase })
			require.ErrorIs(t, err, errDatabase)

			outage[1]()
			require.Eventually(t, func() bool {
				item, err := c.GetOrLoadItem(t.Context(), "after", loader)
				require.NoError(t, err)
				return item.Source == store.SourceRedis
			}, patience, tick)
			assert.Zero(t, store.BreakersOpen(c))
		})
	}
}

func TestLoadersWithoutRedisAreLimited(t *testing.T) {
	t.Parallel()
	server, _, c := proxied(t)
	server.Kill()
	require.Eventually(t, func() bool {
		_, err := c.Get(t.Context(), "k")
		require.ErrorIs(t, err, store.ErrUnavailable)
		return store.BreakersOpen(c) == 1
	}, patience, tick)

	loader := newGated[string]()
	var running []<-chan outcome[string]
	for i := range 32 {
		running = append(running, async(t.Context(), c, fmt.Sprint("k", i), loader.load))
	}
	for range 32 {
		receive(t, loader.began, "a loader that may run")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := c.GetOrLoad(ctx, "excess", loader.load)
	require.ErrorIs(t, err, store.ErrOverloaded)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	_, err = c.GetOrLoad(t.Context(), "excess", loader.load, store.WithSoftTimeout(50*time.Millisecond))
	require.ErrorIs(t, err, store.ErrOverloaded)
	_, err = c.LoadMany(ctx, []string{"a", "b"}, (&table{}).load)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	patient := async(t.Context(), c, "patient", loader.load)
	assert.EqualValues(t, 32, loader.runs.Load())
	for range 33 {
		loader.give("v", nil)
	}
	for _, ch := range append(running, patient) {
		out := receive(t, ch, "a value")
		require.NoError(t, out.err)
		assert.Equal(t, "v", out.item.Value)
	}
	assert.EqualValues(t, 33, loader.runs.Load(), "what nobody waits for any more does not run")
}

func TestStaleValueOfRedisWhenItFailsInBetween(t *testing.T) {
	t.Parallel()
	server, proxy, c := proxied(t, store.WithStale(time.Minute))
	require.NoError(t, c.Set(t.Context(), "k", "stale"))
	expire(t, server, "k")
	proxy.Cut()
	item, err := c.GetOrLoadItem(t.Context(), "k", func(context.Context) (string, error) {
		server.Kill()
		return "", errDatabase
	})
	require.NoError(t, err)
	assert.Equal(t, "stale", item.Value)
	require.ErrorIs(t, item.Cause, errDatabase)
}

func TestUsedUpPool(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client := redis.NewClient(&redis.Options{Addr: server.Addr(), PoolSize: 2, PipelinePoolSize: 1, ContextTimeoutEnabled: true})
	t.Cleanup(func() { _ = client.Close() })
	c := newCache[string](t, newStore(t, client))
	var blocked sync.WaitGroup
	for range 2 {
		blocked.Go(func() { client.BLPop(t.Context(), patience, "list") })
	}
	blocked.Go(func() { // pipelines have a pool of their own
		pipe := client.Pipeline()
		pipe.BLPop(t.Context(), patience, "list")
		pipe.Get(t.Context(), "other")
		_, _ = pipe.Exec(t.Context())
	})
	require.Eventually(t, func() bool {
		return strings.Contains(server.Client(t).Info(t.Context(), "clients").Val(), "blocked_clients:3")
	}, patience, tick)
	loader, count := loads("v")
	for i := range 5 {
		item, err := c.GetOrLoadItem(t.Context(), fmt.Sprint("k", i), loader)
		require.NoError(t, err)
		assert.Equal(t, "v", item.Value)
		assert.Zero(t, item.Version)
	}
	assert.EqualValues(t, 5, count.Load())
	_, err := c.Get(t.Context(), "k0")
	require.ErrorIs(t, err, store.ErrUnavailable)
	require.NoError(t, server.Client(t).RPush(t.Context(), "list", 1, 2, 3).Err())
	blocked.Wait()
	require.Eventually(t, func() bool {
		item, err := c.GetOrLoadItem(t.Context(), "after", loader)
		require.NoError(t, err)
		return item.Source == store.SourceRedis
	}, patience, tick)
}

func TestFailedDeletesAreRepeated(t *testing.T) {
	t.Parallel()
	server, proxy, c := proxied(t, store.WithTTL(time.Hour))
	for i := range 10 {
		require.NoError(t, c.Set(t.Context(), fmt.Sprint("k", i), "old"))
	}
	require.NoError(t, c.Set(t.Context(), "stays", "v"))
	proxy.SwallowToServer(true)
	var keys []string
	for i := range 9 {
		keys = append(keys, fmt.Sprint("k", i))
	}
	err := c.Delete(t.Context(), keys...)
	require.ErrorIs(t, err, store.ErrUnavailable)
	var many *store.ManyError
	require.ErrorAs(t, err, &many)
	assert.Len(t, many.Errs, 9)
	require.ErrorIs(t, c.Set(t.Context(), "k9", "new"), store.ErrUnavailable)
	assert.Equal(t, 10, store.Pending(c), "what could not be replaced is outdated, too")
	proxy.SwallowToServer(false)
	proxy.Cut()
	require.Eventually(t, func() bool { return store.Pending(c) == 0 }, patience, tick)
	assert.EqualValues(t, 2, server.Client(t).DBSize(t.Context()).Val(), "what stays, and warm")
}

func TestCallersFollowTheirContextsWhateverRedisDoes(t *testing.T) {
	t.Parallel()
	server, _, _ := proxied(t)
	deaf := redis.NewClient(&redis.Options{Addr: server.Addr(), ReadTimeout: patience}) // heeds no contexts
	t.Cleanup(func() { _ = deaf.Close() })
	c := newCache[string](t, newCacheStore(t, deaf))
	server.Stop()
	defer server.Continue()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	loader, _ := loads("v")
	_, err := c.GetOrLoad(ctx, "k", loader)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	_, err = c.Get(ctx, "k")
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorIs(t, c.Set(ctx, "k", "v"), context.DeadlineExceeded)
	require.ErrorIs(t, c.Delete(ctx, "k"), context.DeadlineExceeded)
	server.Continue()
}

func TestFirstCallerThatGivesUpWhileReadingSpoilsNothing(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	proxy := faultproxy.New(t, server.Addr())
	c := newCache[string](t, newCacheStore(t, newClient(t, proxy.Addr())))
	loader, count := loads("v")
	_, err := c.GetOrLoad(t.Context(), "warm", loader)
	require.NoError(t, err)
	proxy.SwallowToServer(true)
	ctx, cancel := context.WithCancel(t.Context())
	first := async(ctx, c, "k", loader)
	requireCallers(t, c, "k", 1)
	var others []<-chan outcome[string]
	for range 20 {
		others = append(others, async(t.Context(), c, "k", loader))
	}
	requireCallers(t, c, "k", 21)
	cancel()
	require.ErrorIs(t, receive(t, first, "first").err, context.Canceled)
	proxy.SwallowToServer(false)
	proxy.Cut()
	for _, ch := range others {
		require.NoError(t, receive(t, ch, "another").err)
	}
	assert.EqualValues(t, 2, count.Load())
}

// clumsy is a codec that panics.
type clumsy struct {
	store.JSON

	broken atomic.Bool
}

func (c *clumsy) Letter() byte { return 'c' }

func (c *clumsy) Marshal(v any) ([]byte, error) {
	if c.broken.Load() {
		panic("clumsy")
	}
	return c.JSON.Marshal(v)
}

func TestPanickingCodecEndsNoProcess(t *testing.T) {
	t.Parallel()
	codec := &clumsy{}
	_, c := setupCache[string](t, store.WithCodec(codec))
	loader, count := loads("v")
	codec.broken.Store(true)
	_, err := c.GetOrLoad(t.Context(), "k", loader)
	require.ErrorIs(t, err, store.ErrPanic)
	assert.EqualError(t, err, `store: panic in loader, codec or client hook: clumsy: load "k"`)
	_, err = c.LoadMany(t.Context(), []string{"a", "b"}, (&table{rows: map[string]string{"a": "1"}}).load)
	require.ErrorIs(t, err, store.ErrPanic)
	codec.broken.Store(false)
	v, err := c.GetOrLoad(t.Context(), "k", loader)
	require.NoError(t, err, "once the lease has run out")
	assert.Equal(t, "v", v)
	assert.EqualValues(t, 2, count.Load())
}

// readPanics is a hook that panics once before something is read.
type readPanics struct {
	redistest.Hook
	atomic.Bool
}

func (r *readPanics) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if r.Swap(false) {
			panic("the hook's own fault")
		}
		return next(ctx, cmds)
	}
}

func TestPanickingHookEndsNoProcess(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client := newClient(t, server.Addr())
	var reads readPanics
	client.AddHook(redistest.Panics{})
	client.AddHook(&reads)
	c := newCache[string](t, newCacheStore(t, client))
	loader, _ := loads("v")
	_, err := c.GetOrLoad(redistest.PanicBefore(t.Context()), "k", loader)
	require.ErrorIs(t, err, store.ErrPanic)
	for _, f := range []func(){
		func() { _, _ = c.GetOrLoad(t.Context(), "k", loader) },
		func() { _, _ = c.LoadMany(t.Context(), []string{"k"}, (&table{}).load) },
		func() { _, _ = c.GetMany(t.Context(), []string{"k"}) },
	} {
		reads.Store(true)
		assert.Panics(t, f)
	}
	v, err := c.GetOrLoad(t.Context(), "k", loader)
	require.NoError(t, err)
	assert.Equal(t, "v", v)
}

func TestCloseWaitsForLoadsAndEndsThemWithItsContext(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s, err := store.New(newClient(t, server.Addr()))
	require.NoError(t, err)
	c := newCache[string](t, s)
	loader := newGated[string]()
	ctx, leave := context.WithCancel(t.Context())
	first := async(ctx, c, "k", loader.load)
	inner := receive(t, loader.began, "the load")
	leave()
	require.ErrorIs(t, receive(t, first, "first").err, context.Canceled)
	second := async(t.Context(), c, "k", loader.load)
	requireCallers(t, c, "k", 1)

	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, s.Close(short), context.DeadlineExceeded)
	receive(t, inner.Done(), "loaders end with the context of Close")
	require.ErrorIs(t, receive(t, second, "second").err, store.ErrClosed)
	loader.give("late", nil)
	require.NoError(t, s.Close(t.Context()))
	_, err = c.GetOrLoad(t.Context(), "k", never)
	require.ErrorIs(t, err, store.ErrClosed)
	require.ErrorIs(t, c.Set(t.Context(), "k", "v"), store.ErrClosed)
	require.ErrorIs(t, c.Delete(t.Context(), "k"), store.ErrClosed)
	_, err = c.GetMany(t.Context(), []string{"k"})
	require.ErrorIs(t, err, store.ErrClosed)
	_, err = c.LoadMany(t.Context(), []string{"k"}, (&table{}).load)
	require.ErrorIs(t, err, store.ErrClosed)
}

func TestClosedLoaderLetsOthersLoad(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s, err := store.New(newClient(t, server.Addr()))
	require.NoError(t, err)
	a, b := newCache[string](t, s), newCache[string](t, newCacheStore(t, newClient(t, server.Addr())))
	first := async(t.Context(), a, "k", func(ctx context.Context) (string, error) {
		<-ctx.Done()
		return "", context.Cause(ctx)
	})
	requireCallers(t, a, "k", 1)
	require.Eventually(t, func() bool {
		return server.Client(t).Exists(t.Context(), "cache:l:"+name+":{k}").Val() == 1
	}, patience, tick)
	loader, _ := loads("v")
	second := async(t.Context(), b, "k", loader)
	requireWaiting(t, b)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_ = s.Close(ended)
	require.Error(t, receive(t, first, "first").err)
	out := receive(t, second, "second")
	require.NoError(t, out.err)
	assert.Equal(t, "v", out.item.Value)
	require.NoError(t, s.Close(t.Context()))
}

func TestHotKeyUnderWrites(t *testing.T) {
	t.Parallel()
	_, a, b := two[int](t)
	var written atomic.Int64
	require.NoError(t, a.Set(t.Context(), "k", 0))
	var all sync.WaitGroup
	stop := make(chan struct{})
	for _, c := range []*store.Cache[int]{a, b} {
		for range 8 {
			all.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					least := written.Load()
					got, err := c.GetOrLoad(t.Context(), "k", never[int])
					if !assert.NoError(t, err) || !assert.GreaterOrEqual(t, int64(got), least) {
						return
					}
				}
			})
		}
	}
	for i := range 300 {
		require.NoError(t, a.Set(t.Context(), "k", i+1))
		written.Store(int64(i + 1))
	}
	close(stop)
	all.Wait()
}
