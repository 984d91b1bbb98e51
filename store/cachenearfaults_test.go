package store_test

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/store"
)

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
