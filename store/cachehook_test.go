package store_test

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/compozy/cache/internal/faultproxy"
	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/store"
)

// mine is a hook that fails while it is armed.
type mine struct {
	redistest.Hook

	armed   atomic.Bool
	blown   atomic.Int64
	explode func()
}

func (m *mine) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		m.step()
		return next(ctx, cmd)
	}
}

func (m *mine) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		m.step()
		return next(ctx, cmds)
	}
}

func (m *mine) step() {
	if m.armed.Load() {
		m.blown.Add(1)
		m.explode()
	}
}

// mined returns a Cache behind a proxy whose client has a mine, and what it logs.
func mined(t *testing.T, explode func(), opts ...store.Option) (*mine, *faultproxy.Proxy, *store.Cache[string], *observer.ObservedLogs) {
	t.Helper()
	server := redistest.Start(t)
	proxy := faultproxy.New(t, server.Addr())
	client := newClient(t, proxy.Addr())
	m := &mine{explode: explode}
	client.AddHook(m)
	core, logs := observer.New(zap.WarnLevel)
	c := newCache[string](t, newStore(t, client, store.WithLogger(zap.New(core))), opts...)
	warm, _ := loads("up")
	_, err := c.GetOrLoad(t.Context(), "warm", warm)
	require.NoError(t, err)
	return m, proxy, c, logs
}

func TestHookThatPanicsReachesTheCaller(t *testing.T) {
	t.Parallel()
	m, _, c, _ := mined(t, func() { panic("the hook's own fault") }, store.WithTags("t", "u"))
	m.armed.Store(true)
	for name, call := range map[string]func() error{
		"delete one":  func() error { return c.Delete(t.Context(), "a") },
		"delete many": func() error { return c.Delete(t.Context(), "a", "b") },
		"tags":        func() error { return c.InvalidateTag(t.Context(), "t", "u") },
		"set":         func() error { return c.Set(t.Context(), "a", "v") },
		"get many":    func() error { _, err := c.GetMany(t.Context(), []string{"a", "b"}); return err },
		"load": func() error {
			_, err := c.GetOrLoad(t.Context(), "a", never)
			return err
		},
		"clear": func() error { return c.Clear(t.Context()) },
	} {
		func() {
			defer func() { assert.Contains(t, recover(), "the hook's own fault", name) }()
			assert.NoError(t, call(), name)
		}()
	}
	m.armed.Store(false)
	_, err := c.LoadMany(t.Context(), []string{"x", "y"}, func(context.Context, []string) (map[string]string, error) {
		m.armed.Store(true)
		return map[string]string{"x": "1"}, nil
	})
	var many *store.ManyError
	require.ErrorAs(t, err, &many)
	assert.EqualError(t, many.Errs["x"], `store: panic in loader, codec or client hook: the hook's own fault: load_many "x" of "things"`)
	m.armed.Store(false)
	require.NoError(t, c.Delete(t.Context(), "x", "y"))
}

// TestHookThatFailsInTheBackground, where no caller could recover, ends neither the process nor the work.
func TestHookThatFailsInTheBackground(t *testing.T) {
	t.Parallel()
	for name, explode := range map[string]func(){"panic": func() { panic("the hook's own fault") }, "goexit": runtime.Goexit} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, proxy, c, logs := mined(t, explode)
			blows := func() {
				t.Helper()
				before := m.blown.Load()
				require.Eventually(t, func() bool { return m.blown.Load() >= before+3 }, patience, tick)
			}
			proxy.Refuse(true)
			proxy.Cut()
			require.ErrorIs(t, c.Delete(t.Context(), "a"), store.ErrUnavailable)
			m.armed.Store(true)
			proxy.Refuse(false)
			blows() // deletes are repeated, and the inbox connects again
			m.armed.Store(false)
			require.Eventually(t, func() bool { return store.Pending(c) == 0 }, patience, tick)

			loader := newGated[string]()
			got := async(t.Context(), c, "k", loader.load)
			receive(t, loader.began, "the load")
			m.armed.Store(true)
			blows() // leases are renewed
			m.armed.Store(false)
			loader.give("v", nil)
			out := receive(t, got, "the value")
			require.NoError(t, out.err)
			assert.Equal(t, "v", out.item.Value)
			if name == "panic" {
				for _, entry := range logs.FilterLevelExact(zap.ErrorLevel).All() {
					assert.Equal(t, "the hook's own fault", entry.ContextMap()["panic"])
				}
			}
		})
	}
}

func TestGroupThatFailsReachesTheCaller(t *testing.T) {
	t.Parallel()
	explode := func() { panic("no group") }
	_, c := setupCache[string](t, store.WithGroup(func(key string) string {
		if strings.HasPrefix(key, "bad") {
			explode()
		}
		return key[:1]
	}))
	for _, keys := range [][]string{{"bad"}, {"a", "bad"}, {"bad", "bad"}} {
		func() {
			defer func() { assert.Contains(t, recover(), "no group") }()
			assert.NoError(t, c.Delete(t.Context(), keys...))
		}()
	}
	explode = runtime.Goexit
	require.Error(t, c.Delete(t.Context(), "a", "bad"), "a was deleted, and the other not")
}

// TestCallsThatDoNotReturn are counted as errors, whatever ends them, and what ends them is what their callers see.
func TestCallsThatDoNotReturn(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	spans := tracetest.NewSpanRecorder()
	s := newStore(t, newClient(t, server.Addr()), store.WithTimeout(patience),
		store.WithTracerProvider(sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans))))
	registry := prometheus.NewPedanticRegistry()
	require.NoError(t, registry.Register(s.Collector()))
	explode := func() {}
	c := newCache[string](t, s, store.WithClone(func(v string) string { explode(); return v }), store.WithCodec(bomb{explode: &explode}))
	explode = func() {}
	require.NoError(t, c.Set(t.Context(), "k", "v"))
	ended := len(spans.Ended())
	calls := []func(){
		func() { _, _ = c.Get(t.Context(), "k") },
		func() { _, _ = c.GetOrLoad(t.Context(), "k", never) },
		func() { _, _ = c.GetMany(t.Context(), []string{"k"}) },
		func() { _, _ = c.LoadMany(t.Context(), []string{"k"}, (&table{}).load) },
		func() { _ = c.Set(t.Context(), "k", "w") },
	}
	fault := errors.New("the function's own fault")
	for i, end := range []func(){func() { panic(fault) }, runtime.Goexit} {
		explode = end
		for _, call := range calls {
			done := make(chan any, 1)
			go func() {
				defer func() { done <- recover() }()
				call()
			}()
			v := receive(t, done, "the end")
			assert.Equal(t, i == 0, v == any(fault), v)
		}
	}
	for _, span := range spans.Ended()[ended:] {
		assert.Contains(t, span.Attributes(), attribute.String("store.outcome", "error"), span.Name())
	}
	assert.Len(t, spans.Ended()[ended:], 2*len(calls))
	assert.NoError(t, testutil.GatherAndCompare(registry, strings.NewReader(`
# HELP cache_store_cache_writes_total Keys, tags and whole Caches that writes were about, by outcome.
# TYPE cache_store_cache_writes_total counter
cache_store_cache_writes_total{cache="default",name="things",op="set",outcome="error"} 2
cache_store_cache_writes_total{cache="default",name="things",op="set",outcome="ok"} 1
# HELP cache_store_requests_total Keys that were asked for, by where their values came from.
# TYPE cache_store_requests_total counter
cache_store_requests_total{cache="default",name="things",source="error"} 4
cache_store_requests_total{cache="default",name="things",source="loaded"} 0
cache_store_requests_total{cache="default",name="things",source="near"} 0
cache_store_requests_total{cache="default",name="things",source="none"} 0
cache_store_requests_total{cache="default",name="things",source="redis"} 0
cache_store_requests_total{cache="default",name="things",source="stale"} 0
`), "cache_store_cache_writes_total", "cache_store_requests_total"))
	explode = func() {}
	v, err := c.GetOrLoad(t.Context(), "k", never)
	require.NoError(t, err)
	assert.Equal(t, "v", v)
}

// bomb is a codec that may not return.
type bomb struct {
	store.JSON

	explode *func()
}

func (bomb) Letter() byte { return 'b' }

func (b bomb) Marshal(v any) ([]byte, error) {
	(*b.explode)()
	return b.JSON.Marshal(v)
}
