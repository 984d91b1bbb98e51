package store_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/embedded"
	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/store"
)

// line is a hook that makes a round trip take some time, and more for what is large.
type line struct {
	redistest.Hook

	trip    time.Duration
	perMega time.Duration // for a million bytes of what is sent or comes back
}

func (l line) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		return l.wait(ctx, []redis.Cmder{cmd}, err)
	}
}

func (l line) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		err := next(ctx, cmds)
		return l.wait(ctx, cmds, err)
	}
}

func (l line) wait(ctx context.Context, cmds []redis.Cmder, err error) error {
	size := 0
	for _, cmd := range cmds {
		if l.perMega > 0 {
			size += len(cmd.String()) // its arguments and its reply
		}
	}
	timer := time.NewTimer(l.trip + l.perMega*time.Duration(size)/1_000_000) // in a bubble
	defer timer.Stop()
	select {
	case <-timer.C:
		return err
	case <-ctx.Done():
		for _, cmd := range cmds {
			cmd.SetErr(ctx.Err())
		}
		return ctx.Err()
	}
}

// far runs f in a bubble, with a Cache on a server at the end of a line, and the usual time-outs.
func far(t *testing.T, l line, f func(t *testing.T, c *store.Cache[string], client *redis.Client)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		server := embedded.New()
		options := &redis.Options{
			ContextTimeoutEnabled: true, Dialer: server.Dial, PoolSize: 100,
			MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		}
		client, near := redis.NewClient(options), redis.NewClient(options)
		client.AddHook(l)
		s, err := store.New(client)
		require.NoError(t, err)
		defer func() {
			require.NoError(t, s.Close(t.Context()))
			_, _ = client.Close(), near.Close()
			_ = server.Close()
			time.Sleep(time.Minute) // in a bubble: a client may still be trying to dial in the background
		}()
		c := newCache[string](t, s)
		warm, _ := loads("up")
		for item := (store.Item[string]{}); item.Source != store.SourceRedis; { // as there is a connection
			item, err = c.GetOrLoadItem(t.Context(), "warm", warm)
			require.NoError(t, err)
		}
		f(t, c, near)
	})
}

// TestManyCallersAreNoOutage: each waits for its turn for longer than Redis may take to answer.
func TestManyCallersAreNoOutage(t *testing.T) {
	t.Parallel()
	far(t, line{trip: 200 * time.Millisecond}, func(t *testing.T, c *store.Cache[string], _ *redis.Client) {
		t.Helper()
		var all sync.WaitGroup
		for i := range 1500 {
			all.Go(func() {
				_, err := c.Get(t.Context(), fmt.Sprint("k", i))
				assert.ErrorIs(t, err, store.ErrNotFound)
			})
		}
		all.Wait()
		assert.Zero(t, store.BreakersOpen(c))
	})
}

// TestManyKeysAreNoOutage: they take several round trips, which together take longer than Redis may take to answer.
func TestManyKeysAreNoOutage(t *testing.T) {
	t.Parallel()
	far(t, line{trip: 200 * time.Millisecond}, func(t *testing.T, c *store.Cache[string], client *redis.Client) {
		t.Helper()
		l := &table{rows: make(map[string]string)}
		var keys []string
		for i := range 520 {
			keys = append(keys, fmt.Sprint("k", i))
			l.rows[keys[i]] = "v"
		}
		for range 2 {
			values, err := c.LoadMany(t.Context(), keys, l.load)
			require.NoError(t, err)
			assert.Equal(t, len(keys), len(values)) //nolint:testifylint // Len would show all of them
		}
		assert.Equal(t, 1, len(l.calls())) //nolint:testifylint // Len would show all of them
		assert.EqualValues(t, len(keys)+1, client.DBSize(t.Context()).Val(), "and warm")
	})
}

// scales is a hook that notes how many bytes of values are sent in one round trip at most, and how many are asked for.
type scales struct {
	redistest.Hook

	sent, asked atomic.Int64
}

func (s *scales) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		sent, asked := int64(0), int64(0)
		for _, cmd := range cmds {
			for _, arg := range cmd.Args() {
				payload, _ := arg.([]byte)
				sent += int64(len(payload))
			}
			if name := cmd.Name(); name == "get" || name == "mget" {
				asked += int64(len(cmd.Args()) - 1)
			}
		}
		for most, n := range map[*atomic.Int64]int64{&s.sent: sent, &s.asked: asked} {
			for old := most.Load(); n > old && !most.CompareAndSwap(old, n); {
				old = most.Load()
			}
		}
		return next(ctx, cmds)
	}
}

// TestLargeValuesGoInParts whatever is done with them: all together would take Redis so long that it looked like an outage.
func TestLargeValuesGoInParts(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client := newClient(t, server.Addr())
	s := new(scales)
	client.AddHook(s)
	c := newCache[string](t, newCacheStore(t, client), store.WithStale(time.Hour))
	l := &table{rows: make(map[string]string)}
	var keys []string
	for i := range 30 {
		keys = append(keys, fmt.Sprint("k", i))
		l.rows[keys[i]] = strings.Repeat("x", 200_000)
	}
	for range 2 {
		values, err := c.LoadMany(t.Context(), keys, l.load)
		require.NoError(t, err)
		assert.Equal(t, len(keys), len(values)) //nolint:testifylint // Len would show all of them
	}
	assert.Equal(t, 1, len(l.calls())) //nolint:testifylint // Len would show all of them
	s.asked.Store(0)
	values, err := c.GetMany(t.Context(), keys)
	require.NoError(t, err)
	assert.Equal(t, len(keys), len(values)) //nolint:testifylint // Len would show all of them
	var all sync.WaitGroup
	for _, key := range keys {
		all.Go(func() {
			_, err := c.Get(t.Context(), key)
			assert.NoError(t, err)
			assert.NoError(t, c.Set(t.Context(), key, l.rows[key]))
		})
	}
	all.Wait()
	assert.LessOrEqual(t, s.sent.Load(), int64(1<<20))
	assert.LessOrEqual(t, s.asked.Load(), int64(6), "1 MiB")
	require.NoError(t, c.Delete(t.Context(), keys...))
	assert.Zero(t, server.Client(t).DBSize(t.Context()).Val())
}

// TestSizesAreLearnt: of a Cache that has never seen a value, or only small ones, too many are read together, and then fewer.
func TestSizesAreLearnt(t *testing.T) {
	t.Parallel()
	far(t, line{trip: time.Millisecond, perMega: 200 * time.Millisecond}, func(
		t *testing.T, _ *store.Cache[string], client *redis.Client,
	) {
		t.Helper()
		direct := redis.NewClient(client.Options())
		defer func() { _ = direct.Close() }()
		here, err := store.New(direct)
		require.NoError(t, err)
		defer func() { require.NoError(t, here.Close(t.Context())) }()
		c := newCache[string](t, here)
		var keys []string
		for i := range 100 {
			keys = append(keys, fmt.Sprint("k", i))
			require.NoError(t, c.Set(t.Context(), keys[i], strings.Repeat("x", 20_000)))
		}
		distant := redis.NewClient(client.Options())
		defer func() { _ = distant.Close() }()
		distant.AddHook(line{trip: time.Millisecond, perMega: 200 * time.Millisecond})
		s, err := store.New(distant)
		require.NoError(t, err)
		defer func() { require.NoError(t, s.Close(t.Context())) }()
		fresh := newCache[string](t, s)
		require.NoError(t, c.Set(t.Context(), "small", "x"))
		for _, small := range []int{0, 1, 1000} { // since large ones were read
			for range small {
				_, err = fresh.Get(t.Context(), "small")
				require.NoError(t, err)
			}
			values, err := fresh.GetMany(t.Context(), keys)
			require.NoError(t, err)
			assert.Equal(t, len(keys), len(values)) //nolint:testifylint // Len would show all of them
		}
		began := time.Now()
		_, err = fresh.GetMany(t.Context(), keys)
		require.NoError(t, err)
		assert.Less(t, time.Since(began), time.Second, "nothing was too much") // in a bubble
		assert.Zero(t, store.BreakersOpen(fresh))
	})
}

// TestAbsentValuesWithTagsAreLoadedOnce in all processes.
func TestAbsentValuesWithTagsAreLoadedOnce(t *testing.T) {
	t.Parallel()
	_, a, b := two[string](t, store.WithTags("one", "two, three"))
	loader := newGated[string]()
	first := async(t.Context(), a, "k", loader.load)
	receive(t, loader.began, "the load")
	second := async(t.Context(), b, "k", never)
	requireWaiting(t, b)
	loader.give("", store.ErrNotFound)
	for _, ch := range []<-chan outcome[string]{first, second} {
		require.ErrorIs(t, receive(t, ch, "a caller").err, store.ErrNotFound)
	}
}

// TestSilenceOfRedisCostsLittle however many wait, and although it has answered a moment ago.
func TestSilenceOfRedisCostsLittle(t *testing.T) {
	t.Parallel()
	var silent atomic.Bool
	synctest.Test(t, func(t *testing.T) {
		server := embedded.New()
		client := redis.NewClient(&redis.Options{
			ContextTimeoutEnabled: true, Dialer: server.Dial,
			MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		})
		client.AddHook(muteness{silent: &silent})
		s, err := store.New(client)
		require.NoError(t, err)
		defer func() {
			require.NoError(t, s.Close(t.Context()))
			_ = client.Close()
			_ = server.Close()
			time.Sleep(time.Minute) // in a bubble: a client may still be trying to dial in the background
		}()
		c := newCache[string](t, s)
		require.NoError(t, c.Set(t.Context(), "k", "v"))
		_, err = c.Get(t.Context(), "k")
		require.NoError(t, err)
		silent.Store(true)
		began := time.Now()
		var all sync.WaitGroup
		for range 1000 {
			all.Go(func() {
				_, err := c.Get(t.Context(), "k")
				assert.ErrorIs(t, err, store.ErrUnavailable)
			})
		}
		all.Wait()
		assert.LessOrEqual(t, time.Since(began), 250*time.Millisecond)
		assert.Equal(t, 1, store.BreakersOpen(c))
	})
}

// muteness is a hook behind which nothing is answered while it is on.
type muteness struct {
	redistest.Hook

	silent *atomic.Bool
}

func (m muteness) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if !m.silent.Load() {
			return next(ctx, cmd)
		}
		<-ctx.Done()
		cmd.SetErr(ctx.Err())
		return ctx.Err()
	}
}

func (m muteness) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if !m.silent.Load() {
			return next(ctx, cmds)
		}
		<-ctx.Done()
		for _, cmd := range cmds {
			cmd.SetErr(ctx.Err())
		}
		return ctx.Err()
	}
}
