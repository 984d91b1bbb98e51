package store_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/store"
)

// aged makes a value, v for a Cache or s for a State, one that was written with a TTL of which some is left.
func aged(t *testing.T, c *redis.Client, kind string, ttl, left time.Duration) {
	t.Helper()
	raw := fmt.Sprintf("cs1 %sj- 5 %d+%d 0 00 -\n\"a\"", kind, time.Now().Add(left).UnixMicro(), ttl.Milliseconds())
	require.NoError(t, c.Set(t.Context(), redisKey("k"), raw, left).Err())
}

// TestSliding: of 100 readers that find less than half of the TTL left one extends it, to the TTL that the value has.
func TestSliding(t *testing.T) {
	t.Parallel()
	server, st := setup[string](t, store.WithTTL(2*time.Hour), store.WithSliding())
	client := server.Client(t)
	left := func() time.Duration { return client.PTTL(t.Context(), redisKey("k")).Val() }
	read := func() {
		t.Helper()
		server.ResetCommands(t)
		var all sync.WaitGroup
		for range 100 {
			all.Go(func() {
				item, err := st.Get(t.Context(), "k")
				if assert.NoError(t, err) {
					assert.EqualValues(t, 5, item.Version)
				}
			})
		}
		all.Wait()
	}
	for range 2 {
		aged(t, client, "s", time.Hour, 29*time.Minute)
		read()
		require.Eventually(t, func() bool { return left() > 59*time.Minute }, patience, tick)
		assert.LessOrEqual(t, left(), time.Hour, "no more than the value was written with")
		read()
		assert.EqualValues(t, 0, server.Commands(t)["set"])
	}
	aged(t, client, "s", time.Hour, 31*time.Minute)
	read()
	assert.Zero(t, server.Commands(t)["set"])
}

// TestSlidingKeepsWhatAWriteAskedFor: a write's own TTL is no reason to extend it, and neither is that of Touch or Update.
func TestSlidingKeepsWhatAWriteAskedFor(t *testing.T) {
	t.Parallel()
	server, st := setup[string](t, store.WithTTL(time.Hour), store.WithSliding())
	server.ResetCommands(t)
	put(t, st, "put", "a", store.WithTTL(time.Minute))
	put(t, st, "touched", "a")
	require.NoError(t, st.Touch(t.Context(), "touched", time.Minute))
	put(t, st, "always", "a", store.WithTTL(0))
	for _, key := range []string{"put", "touched", "always"} {
		get(t, st, key)
	}
	assert.EqualValues(t, 4, server.Commands(t)["set"])

	other, err := store.NewState[string](newStore(t, newClient(t, server.Addr())), name) // whose Update keeps the TTL
	require.NoError(t, err)
	aged(t, server.Client(t), "s", time.Hour, 29*time.Minute)
	_, err = other.Update(t.Context(), "k", func(v *string) error { *v = "b"; return nil })
	require.NoError(t, err)
	get(t, st, "k")
	assert.Eventually(t, func() bool {
		return server.Client(t).PTTL(t.Context(), redisKey("k")).Val() > 59*time.Minute
	}, patience, tick)
}

// TestSlidingGetDoesNotWait for a server that makes writes wait, and Close does not either.
func TestSlidingGetDoesNotWait(t *testing.T) {
	t.Parallel()
	server, _ := setup[string](t)
	client := newClient(t, server.Addr())
	s := newStore(t, client)
	st := newState[string](t, s, store.WithTTL(time.Hour), store.WithSliding())
	aged(t, server.Client(t), "s", time.Hour, time.Minute)
	var once sync.Once
	started, release := make(chan struct{}), make(chan struct{})
	client.AddHook(hooked{f: func(name string) {
		if name == "evalsha" {
			once.Do(func() { close(started) })
			<-release
			panic("the hook's own fault, of which there is nobody to tell")
		}
	}})
	for range 10 {
		require.NoError(t, inTime(t, "get", func() error { _, err := st.Get(t.Context(), "k"); return err }))
	}
	<-started
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, s.Close(ctx), context.DeadlineExceeded)
	close(release)
	require.NoError(t, s.Close(timeout(t, patience)))
}

// TestSlidingKeyChangesOncePerHalfTTL, however many read it, so that near caches hear of it seldom.
func TestSlidingKeyChangesOncePerHalfTTL(t *testing.T) {
	t.Parallel()
	const processes = 4
	opts := []store.Option{store.WithTTL(2 * time.Hour), store.WithSliding()}
	for kind, reader := range map[string]func(s *store.Store) func(key string) error{
		"s": func(s *store.Store) func(key string) error {
			st := newState[string](t, s, opts...)
			return func(key string) error { _, err := st.Get(t.Context(), key); return err }
		},
		"v": func(s *store.Store) func(key string) error {
			c := newCache[string](t, s, append(opts, near())...)
			return func(key string) error { _, err := c.Get(t.Context(), key); return err }
		},
	} {
		server := redistest.Start(t)
		client := server.Client(t)
		s := newCacheStore(t, newClient(t, server.Addr()))
		observer := newCache[string](t, s, near()) // hears of what is below its name, whatever it is
		writer := newCache[string](t, newCacheStore(t, newClient(t, server.Addr())))
		heard := func() float64 {
			registry := prometheus.NewRegistry()
			require.NoError(t, registry.Register(s.Collector()))
			families, err := registry.Gather()
			require.NoError(t, err)
			for _, f := range families {
				if f.GetName() == "cache_store_near_invalidated_total" {
					return f.GetMetric()[0].GetCounter().GetValue()
				}
			}
			return -1
		}
		marked := func(value string) { // returns when what happened before has been heard
			fill(t, observer, "mark")
			require.NoError(t, writer.Set(t.Context(), "mark", value))
			becomes(t, observer, "mark", value)
		}
		require.NoError(t, writer.Set(t.Context(), "mark", "up"))
		var reads []func(key string) error
		for range processes {
			reads = append(reads, reader(newCacheStore(t, newClient(t, server.Addr()))))
		}
		for i := range 3 {
			aged(t, client, kind, time.Hour, 29*time.Minute)
			marked(fmt.Sprint("before ", i))
			before := heard()
			var all sync.WaitGroup
			for n := range 100 {
				all.Go(func() {
					for range 5 {
						assert.NoError(t, reads[n%processes]("k"))
					}
				})
			}
			all.Wait()
			require.Eventually(t, func() bool {
				assert.NoError(t, reads[0]("k")) // the near caches may not have heard of the value until now
				return client.PTTL(t.Context(), redisKey("k")).Val() > 59*time.Minute
			}, patience, tick)
			marked(fmt.Sprint("after ", i))
			changes := heard() - before - 1 // of the mark
			assert.Positive(t, changes, kind)
			assert.LessOrEqual(t, changes, 2.0, kind)
		}
	}
}
