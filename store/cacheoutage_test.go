package store_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/faultproxy"
	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/store"
)

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

// A loader may ask for something else of the same Store: all of them run already when those that they wait for are to run.
func TestLoadersWithoutRedisMayAskForOthers(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := newStore(t, newClient(t, server.Addr()))
	c, others := newCache[string](t, s), must(store.NewCache[string](s, "others"))
	server.Kill()
	require.Eventually(t, func() bool {
		_, err := c.Get(t.Context(), "k")
		require.ErrorIs(t, err, store.ErrUnavailable)
		return store.BreakersOpen(c) == 1
	}, patience, tick)

	table := &table{rows: map[string]string{"a": "1", "b": "2", "c": "3"}}
	loader, waiting := newGated[string](), make(chan struct{})
	var running []<-chan outcome[string]
	for i := range 40 {
		running = append(running, async(t.Context(), c, fmt.Sprint("k", i), func(ctx context.Context) (string, error) {
			_, _ = loader.load(ctx)
			<-waiting
			values, err := others.LoadMany(ctx, []string{"b", "c"}, func(ctx context.Context, _ []string) (map[string]string, error) {
				_, err := c.GetOrLoad(ctx, fmt.Sprint("inner", i), func(context.Context) (string, error) { return "v", nil })
				assert.NoError(t, err)
				return table.rows, nil
			})
			if err != nil {
				return "", err
			}
			v, err := others.GetOrLoad(ctx, "single", func(context.Context) (string, error) { return values["c"], nil })
			return v, err
		}))
	}
	for range 32 {
		receive(t, loader.began, "a loader that may run")
	}
	single := async(t.Context(), others, "single", func(context.Context) (string, error) { return "3", nil })
	several := make(chan error, 1)
	go func() {
		_, err := others.LoadMany(t.Context(), []string{"a", "b"}, table.load)
		several <- err
	}()
	requireCallers(t, others, "single", 1)
	requireCallers(t, others, "b", 1)
	assert.Empty(t, table.calls(), "what no loader asks for has to wait")
	for range 40 {
		loader.give("v", nil)
	}
	close(waiting)
	for _, ch := range append(running, single) {
		out := receive(t, ch, "a value")
		require.NoError(t, out.err)
		assert.Equal(t, "3", out.item.Value)
	}
	require.NoError(t, receive(t, several, "several values"))
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

// TestSilentRedisForCallersWithLittleTime: all have less than Redis may be silent, and lose it at first only.
func TestSilentRedisForCallersWithLittleTime(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	c := newCache[string](t, newStore(t, newClient(t, server.Addr())))
	loader, _ := loads("v")
	_, err := c.GetOrLoad(t.Context(), "warm", loader)
	require.NoError(t, err)
	server.Stop()
	defer server.Continue()
	require.Eventually(t, func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		_, err := c.GetOrLoad(ctx, "k", loader)
		return err == nil
	}, patience, tick)
}
