package store_test

import (
	"context"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/store"
)

func TestMetrics(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client := newClient(t, server.Addr())
	s, other := newStore(t, client, store.WithName("main")), newStore(t, client, store.WithName("other"))
	registry := prometheus.NewPedanticRegistry()
	require.NoError(t, registry.Register(s.Collector()))
	require.NoError(t, registry.Register(other.Collector()))
	st := newState[string](t, s, store.WithMaxSize(100))
	ctx := t.Context()
	_, _ = st.Get(ctx, "k")
	version := put(t, st, "k", "a", store.WithFence(5))
	put(t, st, "k", "b")
	_, _ = st.Create(ctx, "k", "c")
	_, _ = st.Put(ctx, "k", "c", store.IfVersion(version))
	_, _ = st.Put(ctx, "k", "c", store.WithFence(4))
	_, _ = st.Put(ctx, "k", strings.Repeat("x", 100))
	conflicts := 0
	_, err := st.Update(ctx, "k", func(*string) error {
		if conflicts++; conflicts == 1 {
			put(t, st, "k", "d")
		}
		return nil
	})
	require.NoError(t, err)
	assert.Len(t, list(t, st, ""), 1)
	require.NoError(t, st.Touch(ctx, "k", time.Hour))
	require.NoError(t, st.Delete(ctx, "k"))
	require.NoError(t, client.Set(ctx, redisKey("k"), "x", 0).Err())
	_, _ = st.Get(ctx, "k")
	assert.NoError(t, testutil.GatherAndCompare(registry, strings.NewReader(`
# HELP cache_store_conflicts_total Writes that found another version, repetitions within Update included.
# TYPE cache_store_conflicts_total counter
cache_store_conflicts_total{cache="main",name="things"} 3
# HELP cache_store_oversize_total Values that were too large to be stored or read.
# TYPE cache_store_oversize_total counter
cache_store_oversize_total{cache="main",name="things"} 1
# HELP cache_store_state_calls_total Calls of States, by what they do and how they ended.
# TYPE cache_store_state_calls_total counter
cache_store_state_calls_total{cache="main",name="things",op="create",outcome="conflict"} 1
cache_store_state_calls_total{cache="main",name="things",op="delete",outcome="ok"} 1
cache_store_state_calls_total{cache="main",name="things",op="get",outcome="codec"} 1
cache_store_state_calls_total{cache="main",name="things",op="get",outcome="not_found"} 1
cache_store_state_calls_total{cache="main",name="things",op="list",outcome="ok"} 1
cache_store_state_calls_total{cache="main",name="things",op="put",outcome="conflict"} 1
cache_store_state_calls_total{cache="main",name="things",op="put",outcome="fenced"} 1
cache_store_state_calls_total{cache="main",name="things",op="put",outcome="ok"} 3
cache_store_state_calls_total{cache="main",name="things",op="put",outcome="too_large"} 1
cache_store_state_calls_total{cache="main",name="things",op="touch",outcome="ok"} 1
cache_store_state_calls_total{cache="main",name="things",op="update",outcome="ok"} 1
`), "cache_store_conflicts_total", "cache_store_oversize_total", "cache_store_state_calls_total"))
}

func TestMetricsOfACache(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := newStore(t, newClient(t, server.Addr()), store.WithName("main"), store.WithTimeout(patience))
	registry := prometheus.NewPedanticRegistry()
	require.NoError(t, registry.Register(s.Collector()))
	c := newCache[string](t, s, store.WithStale(time.Hour), store.WithMaxSize(10), store.WithFailurePause(0))
	ctx := t.Context()
	loader, _ := loads("v")
	for range 2 {
		_, _ = c.GetOrLoad(ctx, "k", loader)
	}
	expire(t, server, "k")
	_, _ = c.GetOrLoad(ctx, "k", func(context.Context) (string, error) { return "", errDatabase })
	_, _ = c.Get(ctx, "none")
	_, _ = c.GetOrLoad(ctx, "none", func(context.Context) (string, error) { panic("oops") })
	_, _ = c.GetOrLoad(ctx, "large", func(context.Context) (string, error) { return "much too large", nil })
	_, _ = c.GetOrLoad(ctx, "refused", func(context.Context) (string, error) {
		return "v", c.Delete(ctx, "refused")
	})
	require.Error(t, c.Set(ctx, "k", "much too large"))
	assert.NoError(t, testutil.GatherAndCompare(registry, strings.NewReader(`
# HELP cache_store_breakers_open Redis servers that Caches do without just now.
# TYPE cache_store_breakers_open gauge
cache_store_breakers_open{cache="main"} 0
# HELP cache_store_cache_writes_total Keys, tags and whole Caches that writes were about, by outcome.
# TYPE cache_store_cache_writes_total counter
cache_store_cache_writes_total{cache="main",name="things",op="delete",outcome="ok"} 1
cache_store_cache_writes_total{cache="main",name="things",op="set",outcome="too_large"} 1
# HELP cache_store_deletes_pending Keys whose delete failed and is to be repeated.
# TYPE cache_store_deletes_pending gauge
cache_store_deletes_pending{cache="main"} 0
# HELP cache_store_fills_failed_total Loaded values that Redis has not confirmed to have stored.
# TYPE cache_store_fills_failed_total counter
cache_store_fills_failed_total{cache="main",name="things"} 0
# HELP cache_store_fills_refused_total Loaded values that were not stored, as somebody else had written or deleted.
# TYPE cache_store_fills_refused_total counter
cache_store_fills_refused_total{cache="main",name="things"} 1
# HELP cache_store_lease_waits_total Keys for whose load in another process this one has waited.
# TYPE cache_store_lease_waits_total counter
cache_store_lease_waits_total{cache="main",name="things"} 0
# HELP cache_store_loads_total Loads, by outcome.
# TYPE cache_store_loads_total counter
cache_store_loads_total{cache="main",name="things",outcome="error"} 1
cache_store_loads_total{cache="main",name="things",outcome="ok"} 3
cache_store_loads_total{cache="main",name="things",outcome="panic"} 1
# HELP cache_store_loads_without_redis Loaders that run without Redis just now.
# TYPE cache_store_loads_without_redis gauge
cache_store_loads_without_redis{cache="main"} 0
# HELP cache_store_oversize_total Values that were too large to be stored or read.
# TYPE cache_store_oversize_total counter
cache_store_oversize_total{cache="main",name="things"} 2
# HELP cache_store_requests_total Keys that were asked for, by where their values came from.
# TYPE cache_store_requests_total counter
cache_store_requests_total{cache="main",name="things",source="error"} 1
cache_store_requests_total{cache="main",name="things",source="loaded"} 3
cache_store_requests_total{cache="main",name="things",source="near"} 0
cache_store_requests_total{cache="main",name="things",source="none"} 1
cache_store_requests_total{cache="main",name="things",source="redis"} 1
cache_store_requests_total{cache="main",name="things",source="stale"} 1
# HELP cache_store_stale_served_total Stale values that were returned, by cause.
# TYPE cache_store_stale_served_total counter
cache_store_stale_served_total{cache="main",cause="load",name="things"} 1
`), "cache_store_breakers_open", "cache_store_cache_writes_total", "cache_store_deletes_pending",
		"cache_store_fills_failed_total", "cache_store_fills_refused_total", "cache_store_lease_waits_total", "cache_store_loads_total",
		"cache_store_loads_without_redis", "cache_store_oversize_total", "cache_store_requests_total",
		"cache_store_stale_served_total"))
	count, err := testutil.GatherAndCount(registry, "cache_store_load_seconds")
	require.NoError(t, err)
	assert.Equal(t, 1, count)
}

// TestCallsThatPanic are not counted as ok.
func TestCallsThatPanic(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := newStore(t, newClient(t, server.Addr()))
	st := newState[string](t, s)
	put(t, st, "k", "a")
	assert.Panics(t, func() { _, _ = st.Update(t.Context(), "k", func(*string) error { panic("oh") }) })
	var all sync.WaitGroup
	all.Go(func() {
		_, _ = st.Update(t.Context(), "k", func(*string) error { runtime.Goexit(); return nil })
	})
	all.Wait()
	assert.Panics(t, func() {
		_, _ = newState[panicking](t, s).Put(t.Context(), "k", panicking{})
	})
	assert.NoError(t, testutil.CollectAndCompare(s.Collector(), strings.NewReader(`
# HELP cache_store_state_calls_total Calls of States, by what they do and how they ended.
# TYPE cache_store_state_calls_total counter
cache_store_state_calls_total{cache="default",name="things",op="put",outcome="error"} 1
cache_store_state_calls_total{cache="default",name="things",op="put",outcome="ok"} 1
cache_store_state_calls_total{cache="default",name="things",op="update",outcome="error"} 2
`), "cache_store_state_calls_total"))
}

// panicking is a value that cannot be encoded.
type panicking struct{}

func (panicking) MarshalText() ([]byte, error) { panic("oh") }

func TestSpans(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	spans := tracetest.NewSpanRecorder()
	tp := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans))
	st := newState[string](t, newStore(t, newClient(t, server.Addr()), store.WithTracerProvider(tp)))
	ctx := t.Context()
	_, _ = st.Get(ctx, "secret key")
	put(t, st, "secret key", "hunter2")
	_, _ = st.Create(ctx, "secret key", "hunter2")
	list(t, st, "")
	canceled, cancel := context.WithCancel(ctx)
	cancel()
	_, _ = st.Get(canceled, "secret key")
	want := []string{"store.get not_found", "store.put ok", "store.create conflict", "store.list ok", "store.get canceled"}
	ended := spans.Ended()
	require.Len(t, ended, len(want))
	for i, s := range ended {
		outcome, values := "", ""
		for _, a := range s.Attributes() {
			if a.Key == "store.outcome" {
				outcome = a.Value.AsString()
			}
			values += a.Value.String()
		}
		assert.Equal(t, want[i], s.Name()+" "+outcome)
		assert.Contains(t, values, name)
		assert.NotContains(t, values, "secret")
		assert.NotContains(t, values, "hunter2")
		assert.Equal(t, codes.Unset, s.Status().Code)
	}
}
