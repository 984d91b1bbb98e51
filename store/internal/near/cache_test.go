package near_test

import (
	"context"
	"fmt"
	"math"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/compozy/cache/internal/arguments"
	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/store/internal/near"
)

// A value is served while it is fresh, counted from before Redis was asked for it.
func TestFresh(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	b := start(t, newClient(t, server.Addr()), nil)
	b.up()
	const fresh = time.Second
	mark := b.cache.Begin(key(1))
	pause(t.Context(), fresh/2)
	require.True(t, b.cache.Put(mark, key(1), "v", 1, fresh))
	hit, ok := b.cache.Get(key(1))
	require.True(t, ok)
	assert.GreaterOrEqual(t, hit.Age, fresh/2)
	assert.Less(t, hit.Age, fresh)
	assert.Zero(t, hit.Over)
	pause(t.Context(), fresh/2)
	_, ok = b.cache.Get(key(1))
	assert.False(t, ok)
	hit, ok = b.cache.Stale(key(1))
	require.True(t, ok)
	assert.Equal(t, "v", hit.Value)
	assert.Equal(t, hit.Age-fresh, hit.Over)
	for _, never := range []time.Duration{0, -1} {
		assert.False(t, b.cache.Put(b.cache.Begin(key(2)), key(2), "v", 1, never))
	}
	require.True(t, b.cache.Put(b.cache.Begin(key(2)), key(2), "v", 1, forever))
	_, ok = b.cache.Get(key(2))
	assert.True(t, ok)
}

// What nobody vouches for any more can be asked for, until Redis is back.
func TestStale(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	b := start(t, newClient(t, server.Addr()), bounded)
	_, ok := b.cache.Stale(key(1))
	assert.False(t, ok)
	b.up()
	b.fill(key(1))
	b.cache.Keep(b.cache.Begin(key(2)), key(2), "kept", 4, time.Hour)
	_, ok = b.cache.Get(key(2))
	assert.False(t, ok, "nobody vouches for it")
	server.Kill()
	b.gone("the server died", key(1))
	for _, k := range []string{key(1), key(2)} {
		hit, ok := b.cache.Stale(k)
		require.True(t, ok)
		assert.Zero(t, hit.Over)
	}
	b.cache.Delete(key(2))
	_, ok = b.cache.Stale(key(2))
	assert.False(t, ok)
	mark := b.cache.Begin(key(3))
	assert.False(t, b.cache.Put(mark, key(3), "v", 1, forever), "nobody would hear of a change")
	server.Restart()
	b.up()
	_, ok = b.cache.Stale(key(1))
	assert.False(t, ok, "a new session begins empty")
	b.fill(key(1))
}

// Delete and Clear also drop what is being read.
func TestOwnWrites(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	b := start(t, newClient(t, server.Addr()), nil)
	b.up()
	for name, remove := range map[string]func(){"Delete": func() { b.cache.Delete(key(1)) }, "Clear": b.cache.Clear} {
		b.fill(key(1))
		mark := b.cache.Begin(key(1))
		remove()
		_, ok := b.cache.Get(key(1))
		assert.False(t, ok, name)
		assert.False(t, b.cache.Put(mark, key(1), "old", 3, forever), name)
	}
}

// A FLUSHALL between the read and the put drops the put.
func TestFlushDropsPuts(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	b := start(t, newClient(t, server.Addr()), nil)
	b.up()
	mark := b.cache.Begin(key(1))
	flushes := b.tracker.Status().Flushes
	require.NoError(t, b.client.FlushAll(t.Context()).Err())
	require.Eventually(t, func() bool { return b.tracker.Status().Flushes > flushes }, patience, tick)
	assert.False(t, b.cache.Put(mark, key(1), "old", 3, forever))
	assert.True(t, b.tracker.Status().Up)
}

// A million values: neither limit is exceeded, and the memory used is what was counted.
func TestWeight(t *testing.T) { //nolint:paralleltest // measures the heap
	server := redistest.Start(t)
	for name, test := range map[string]struct { //nolint:paralleltest // as above
		entries, size, puts int
		bytes               int64
	}{
		"by bytes":   {entries: 1_000_000, bytes: 32 << 20, size: 200, puts: 1_000_000},
		"by entries": {entries: 20_000, bytes: 64 << 20, size: 200, puts: 200_000},
	} {
		t.Run(name, func(t *testing.T) {
			b := start(t, newClient(t, server.Addr()), func(s *near.CacheSettings) {
				s.Entries, s.Bytes = test.entries, test.bytes
			})
			b.up()
			before := heap()
			for i := range test.puts {
				k := key(i)
				b.cache.Put(b.cache.Begin(k), k, make([]byte, test.size), test.size, forever)
				if i%50_000 == 0 {
					s := b.cache.Stats()
					// What is not yet evicted is bounded too.
					assert.LessOrEqual(t, s.Bytes, test.bytes+test.bytes/10)
					assert.LessOrEqual(t, s.Entries, test.entries+test.entries/10)
				}
			}
			require.Eventually(t, func() bool {
				s := b.cache.Stats()
				return s.Bytes <= test.bytes && s.Entries <= test.entries
			}, patience, tick)
			used := heap() - before
			s := b.cache.Stats()
			t.Logf("%d entries, %d bytes counted, %d used, %d each", s.Entries, s.Bytes, used, used/int64(s.Entries))
			assert.Greater(t, s.Entries, min(test.entries, int(test.bytes)/500)*9/10)
			assert.LessOrEqual(t, used, test.bytes+test.bytes/10)
		})
	}
	b := start(t, newClient(t, server.Addr()), func(s *near.CacheSettings) { s.Bytes = 1 << 20 })
	b.up()
	assert.False(t, b.cache.Put(b.cache.Begin(key(1)), key(1), "v", 1<<20, forever), "larger than the cache")
}

// However large the limits are, neither is exceeded, and values are kept.
func TestLargestLimits(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	for _, entries := range []int{1, 10, math.MaxInt} {
		for _, bytes := range []int64{math.MaxInt64, math.MaxInt64 / 2, 1 << 46, 1 << 33} {
			b := start(t, newClient(t, server.Addr()), func(s *near.CacheSettings) { s.Entries, s.Bytes = entries, bytes })
			b.up()
			for i := range 100 {
				assert.True(t, b.cache.Put(b.cache.Begin(key(i)), key(i), "v", 1, forever))
			}
			require.Eventually(t, func() bool { return b.cache.Stats().Entries <= min(entries, 100) }, patience, tick)
			assert.GreaterOrEqual(t, b.cache.Stats().Entries, max(min(entries, 100)*9/10, 1), "%d entries, %d bytes", entries, bytes)
		}
	}
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc) //nolint:gosec // is small
}

func TestHitAllocatesNothing(t *testing.T) { //nolint:paralleltest // counts allocations
	server := redistest.Start(t)
	b := start(t, newClient(t, server.Addr()), nil)
	b.up()
	b.fill(key(1))
	k := key(1)
	allocs := testing.AllocsPerRun(10_000, func() { _, _ = b.cache.Get(k) })
	assert.Zero(t, int(allocs))
}

// An idle tracker sends three rounds in MaxStaleness and nothing else, whatever the number of caches and values.
func TestIdleCost(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	b := start(t, newClient(t, server.Addr()), func(s *near.CacheSettings) { s.MaxStaleness = 600 * time.Millisecond })
	b.up()
	for i := range 1000 {
		b.cache.Put(b.cache.Begin(key(i)), key(i), i, 8, forever)
	}
	server.ResetCommands(t)
	began := time.Now()
	pause(t.Context(), 2*time.Second)
	sent := server.Commands(t)
	most := int64(time.Since(began)/(200*time.Millisecond)) + 2
	assert.LessOrEqual(t, sent["ping"], most)
	assert.LessOrEqual(t, sent["hello"], most)
	assert.Positive(t, sent["ping"])
	delete(sent, "ping")
	delete(sent, "hello")
	assert.Empty(t, sent)
}

// handshake is how long a server may take that a session is opened with.
const handshake = 5 * time.Second

// Close ends everything, again and in whatever state.
func TestClose(t *testing.T) { //nolint:paralleltest // looks at all goroutines
	server := redistest.Start(t)
	app := newClient(t, server.Addr())
	require.NoError(t, app.Ping(t.Context()).Err())
	before := goleak.IgnoreCurrent()
	for name, prepare := range map[string]func(b *bundle, stop func()){
		"at once":  func(*bundle, func()) {},
		"up":       func(b *bundle, _ func()) { b.up(); b.fill(key(1)) },
		"frozen":   func(b *bundle, stop func()) { b.up(); stop() },
		"starting": func(_ *bundle, stop func()) { stop() },
	} {
		b := start(t, app, nil)
		prepare(b, server.Stop)
		began := time.Now()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		require.NoError(t, b.tracker.Close(ctx), name)
		assert.Less(t, time.Since(began), handshake/2, name)
		require.NoError(t, b.tracker.Close(ctx), name)
		cancel()
		server.Continue()
		_, hit := b.cache.Get(key(1))
		assert.False(t, hit)
		assert.Zero(t, b.cache.Stats().Entries)
		require.ErrorIs(t, b.tracker.Status().Cause, near.ErrClosed)
		b.tracker.Start()
		assert.False(t, b.cache.Put(b.cache.Begin(key(1)), key(1), "v", 1, forever))
		require.NoError(t, goleak.Find(before), name)
		require.Eventually(t, func() bool { return len(tracking(t, app)) == 0 }, patience, tick, name)
	}
}

// A tracker that nobody uses has no goroutine and no connection, so an application that is never started leaks nothing.
func TestUnused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var dials atomic.Int64
		c := redis.NewClient(&redis.Options{
			Dialer: dialNothing(&dials), MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		})
		tracker, err := near.New(near.Settings{Client: c, Channel: "near"})
		require.NoError(t, err)
		tracker.Start()
		cache, err := tracker.NewCache(near.CacheSettings{Prefix: prefix, MaxStaleness: time.Second})
		require.NoError(t, err)
		_, hit := cache.Get(key(1))
		assert.False(t, hit)
		synctest.Wait()
		assert.Zero(t, dials.Load())
		// The first read starts it. It goes on trying, ever more slowly.
		assert.False(t, cache.Put(cache.Begin(key(1)), key(1), "v", 1, forever))
		time.Sleep(time.Minute) // in the bubble
		assert.InDelta(t, 80, dials.Load(), 40)
		require.Error(t, tracker.Status().Cause)
		require.NoError(t, tracker.Close(t.Context()))
		require.NoError(t, c.Close())
	})
}

func TestArguments(t *testing.T) {
	t.Parallel()
	refused := func(name string, err error) {
		t.Helper()
		var bad *arguments.Error
		require.ErrorAs(t, err, &bad)
		assert.Equal(t, name, bad.Argument)
	}
	c := newClient(t, "127.0.0.1:1")
	_, err := near.New(near.Settings{Channel: "near"})
	refused("Client", err)
	ring := redis.NewRing(&redis.RingOptions{})
	defer ring.Close()
	_, err = near.New(near.Settings{Client: ring, Channel: "near"})
	refused("Client", err)
	_, err = near.New(near.Settings{Client: c})
	refused("Channel", err)
	tracker, err := near.New(near.Settings{Client: c, Channel: "near"})
	require.NoError(t, err)
	good := near.CacheSettings{Prefix: prefix, MaxStaleness: time.Second}
	for name, spoil := range map[string]func(*near.CacheSettings){
		"Prefix": func(s *near.CacheSettings) { s.Prefix = "" }, "Entries": func(s *near.CacheSettings) { s.Entries = -1 },
		"Bytes":        func(s *near.CacheSettings) { s.Bytes = -1 },
		"MaxStaleness": func(s *near.CacheSettings) { s.MaxStaleness = 0 },
	} {
		set := good
		spoil(&set)
		_, err := tracker.NewCache(set)
		refused(name, err)
	}
	cache, err := tracker.NewCache(good)
	require.NoError(t, err)
	cache.Keep(cache.Begin(key(1)), key(1), "secret", 6, time.Hour)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%d"} {
		assert.Equal(t, "near.Cache("+prefix+")", fmt.Sprintf(verb, cache))
	}
	assert.NotContains(t, fmt.Sprintf("%+v", tracker.Status()), "secret")
	require.NoError(t, tracker.Close(t.Context()))
}
