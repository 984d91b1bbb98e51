package store_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/store"
)

// several returns some keys, and a loader that has them all and counts its calls.
func several(count int) (keys []string, loader func(context.Context, []string) (map[string]string, error), calls *atomic.Int64) {
	for i := range count {
		keys = append(keys, fmt.Sprint("k", i))
	}
	calls = new(atomic.Int64)
	return keys, func(_ context.Context, missing []string) (map[string]string, error) {
		calls.Add(1)
		values := make(map[string]string)
		for _, key := range missing {
			values[key] = "v"
		}
		return values, nil
	}, calls
}

// Redis stops to answer while another process loads the keys of a LoadMany. Few calls of the loader have them all, and not one
// each, whether all keys meet that at once or one after the other.
func TestKeysThatOthersLoadWhenRedisDies(t *testing.T) {
	t.Parallel()
	for how, stop := range map[string]func(*testing.T, *redistest.Server){
		"killed": func(_ *testing.T, s *redistest.Server) { s.Kill() },
		"silent": func(t *testing.T, s *redistest.Server) {
			t.Helper()
			s.Stop()
			t.Cleanup(s.Continue)
		},
	} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t)
			a := newCache[string](t, newStore(t, newClient(t, server.Addr()), store.WithTimeout(time.Second)))
			b := newCache[string](t, newStore(t, newClient(t, server.Addr()), store.WithTimeout(time.Second)))
			keys, loader, calls := several(2000)
			began, end := make(chan struct{}), make(chan struct{})
			defer close(end)
			go func() {
				_, _ = a.LoadMany(t.Context(), keys, func(context.Context, []string) (map[string]string, error) {
					close(began)
					<-end
					return nil, errDatabase
				})
			}()
			receive(t, began, "the load")
			got := make(chan map[string]string, 1)
			var running, most atomic.Int64
			go func() {
				values, err := b.LoadMany(t.Context(), keys, func(ctx context.Context, missing []string) (map[string]string, error) {
					most.Store(max(most.Load(), running.Add(1)))
					defer running.Add(-1)
					<-time.After(300 * time.Millisecond) // a database, and not a map
					return loader(ctx, missing)
				})
				assert.NoError(t, err)
				got <- values
			}()
			require.Eventually(t, func() bool { return store.Waiting(b) == len(keys) }, patience, tick)
			stop(t, server)
			assert.Len(t, receive(t, got, "the values"), len(keys))
			assert.Less(t, calls.Load(), int64(20))
			assert.LessOrEqual(t, most.Load(), int64(4))
		})
	}
}

// stalling is a hook that stops a server until one pipeline has got no answer in time: the first large one after it was armed.
// Those that come later wait for release, if there is one.
type stalling struct {
	redistest.Hook

	server  *redistest.Server
	armed   atomic.Bool
	stalled atomic.Bool
	release chan struct{}
}

func (h *stalling) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		switch {
		case len(cmds) >= 100 && h.armed.CompareAndSwap(true, false):
			h.stalled.Store(true)
		case len(cmds) >= 100 && h.stalled.Load() && h.release != nil:
			<-h.release
			return next(ctx, cmds)
		default:
			return next(ctx, cmds)
		}
		h.server.Stop()
		defer context.AfterFunc(ctx, h.server.Continue)()
		return next(ctx, cmds)
	}
}

// A moment in which Redis does not answer costs those values that are being stored, and not all of the LoadMany.
func TestStallWhileManyValuesAreStored(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	registry := prometheus.NewPedanticRegistry()
	client := newClient(t, server.Addr())
	h := &stalling{server: server}
	client.AddHook(h)
	mine := newStore(t, client, store.WithTimeout(800*time.Millisecond)) // less than a lease lasts without its renewal
	registry.MustRegister(mine.Collector())
	a := newCache[string](t, mine)
	b := newCache[string](t, newStore(t, newClient(t, server.Addr()), store.WithTimeout(time.Second)))
	l, keys := rows(2000)
	began := make(chan struct{})
	first := make(chan map[string]string, 1)
	go func() {
		values, err := a.LoadMany(t.Context(), keys, func(context.Context, []string) (map[string]string, error) {
			close(began)
			for store.Waiting(b) < len(keys) {
				<-time.After(tick)
			}
			h.armed.Store(true)
			return l.rows, nil
		})
		assert.NoError(t, err)
		first <- values
	}()
	receive(t, began, "the load")
	values, err := b.LoadMany(t.Context(), keys, l.load)
	require.NoError(t, err)
	assert.Equal(t, l.rows, values)
	assert.Equal(t, l.rows, receive(t, first, "the first process"))
	again := 0
	for _, call := range l.calls() {
		again += len(call)
	}
	assert.LessOrEqual(t, again, 500, "of one round trip")
	assert.NoError(t, testutil.GatherAndCompare(registry, strings.NewReader(`
# HELP cache_store_fills_failed_total Loaded values that Redis has not confirmed to have stored.
# TYPE cache_store_fills_failed_total counter
cache_store_fills_failed_total{cache="default",name="things"} 500
`), "cache_store_fills_failed_total"))
}

// Nobody waits for what is still to be stored when Redis has not answered in time: the values are there.
func TestNobodyWaitsForFillsBehindAStall(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client := newClient(t, server.Addr())
	h := &stalling{server: server, release: make(chan struct{})}
	client.AddHook(h)
	s := newStore(t, client, store.WithTimeout(2*time.Second))
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(s.Collector())
	c := newCache[string](t, s)
	l, keys := rows(2000)
	defer close(h.release)
	values, err := c.LoadMany(t.Context(), keys, func(context.Context, []string) (map[string]string, error) {
		h.armed.Store(true)
		return l.rows, nil
	})
	require.NoError(t, err)
	assert.Equal(t, l.rows, values)
	families, err := registry.Gather()
	require.NoError(t, err)
	for _, f := range families {
		if f.GetName() == "cache_store_fills_failed_total" {
			assert.LessOrEqual(t, f.GetMetric()[0].GetCounter().GetValue(), 500.0, "the second round trip is under way")
		}
	}
}

// When the queue of an outage ends with Redis having the values, one call of the loader has all that are to be loaded early.
func TestEarlyRefreshAfterTheQueue(t *testing.T) {
	t.Parallel()
	cabled(t, func(t *testing.T, a, _ *store.Store, cable *cable) {
		t.Helper()
		c := newCache[string](t, a, store.WithTTL(time.Hour), store.WithEarly(0.01))
		keys, loader, calls := several(100)
		_, err := c.LoadMany(t.Context(), keys, loader)
		require.NoError(t, err)
		cable.cut()
		stop := make(chan struct{})
		defer close(stop)
		for i := range 32 {
			async(t.Context(), c, fmt.Sprint(i), func(context.Context) (string, error) {
				<-stop
				return "", nil
			})
		}
		time.Sleep(59 * time.Second) // in a bubble: all have their slots
		calls.Store(0)
		got := make(chan map[string]string, 1)
		go func() {
			values, err := c.LoadMany(t.Context(), keys, loader, store.WithHardTimeout(time.Hour))
			assert.NoError(t, err)
			got <- values
		}()
		time.Sleep(3 * time.Second) // in a bubble
		cable.mend()
		assert.Len(t, receive(t, got, "the values"), len(keys))
		synctest.Wait()
		assert.EqualValues(t, 1, calls.Load())
	})
}
