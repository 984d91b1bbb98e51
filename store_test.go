package cache_test

import (
	"context"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/fx"
	uberfxtest "go.uber.org/fx/fxtest"

	"github.com/compozy/cache"
	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/store"
)

// flow is what these tests keep.
type flow struct{ Status string }

// typed is what an application keeps in its store.
type typed struct {
	fx.In
	Flows *cache.State[flow]
	Users *cache.StoreCache[string]
}

func TestTypedValues(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	spans := tracetest.NewSpanRecorder()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans))
	reg := prometheus.NewPedanticRegistry()
	var values typed
	startApp(t, server, cache.NewState[flow]("flows"), cache.NewCache[string]("users", cache.WithTTL(time.Hour)),
		fx.Supply(fx.Annotate(provider, fx.As(new(trace.TracerProvider))), fx.Annotate(reg, fx.As(new(prometheus.Registerer)))),
		cache.RegisterMetrics, fx.Invoke(func(v typed) { values = v }))
	ctx := timeout(t)

	version, err := values.Flows.Create(ctx, "f", flow{"new"})
	require.NoError(t, err)
	_, err = values.Flows.Put(ctx, "f", flow{"running"}, cache.IfVersion(version), cache.WithFence(7))
	require.NoError(t, err)
	_, err = values.Flows.Put(ctx, "f", flow{"lost"}, cache.IfVersion(version))
	require.ErrorIs(t, err, cache.ErrConflict)
	_, err = values.Flows.Put(ctx, "f", flow{"zombie"}, cache.WithFence(6))
	require.ErrorIs(t, err, cache.ErrFenced)
	name, err := values.Users.GetOrLoad(ctx, "7", func(context.Context) (string, error) { return "Ann", nil })
	require.NoError(t, err)
	assert.Equal(t, "Ann", name)

	admin := server.Client(t)
	assert.Positive(t, admin.Exists(ctx, "cache:v:flows:{f}").Val(), "below the prefix of all keys")
	assert.InDelta(t, time.Hour, admin.PTTL(ctx, "cache:v:users:{7}").Val(), float64(10*time.Minute), "its own TTL, less some jitter")
	problems, err := testutil.GatherAndLint(reg)
	require.NoError(t, err)
	assert.Empty(t, problems)
	families, err := reg.Gather()
	require.NoError(t, err)
	seen := map[string]string{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			labels := map[string]string{}
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			assert.Equal(t, "default", labels["cache"], f.GetName())
			seen[f.GetName()] = labels["name"]
		}
	}
	assert.Equal(t, "flows", seen["cache_store_conflicts_total"])
	assert.Equal(t, "users", seen["cache_store_loads_total"])
	var names []string
	for _, span := range spans.Ended() {
		names = append(names, span.Name())
	}
	assert.Contains(t, names, "store.put")
}

func TestTypedValuesOfANamedInstance(t *testing.T) {
	t.Parallel()
	one, two := redistest.Start(t), redistest.Start(t)
	var main typed
	var second struct {
		fx.In
		Store *cache.Store              `name:"sessions"`
		Flows *cache.State[flow]        `name:"sessions"`
		Users *cache.StoreCache[string] `name:"sessions"`
	}
	startApp(t, one, cache.NewState[flow]("flows"), cache.NewCache[string]("users"),
		cache.Named("sessions", cache.WithConfig(configOf(two)), cache.NewState[flow]("flows"), cache.NewCache[string]("users")),
		fx.Invoke(func(m typed) { main = m }), fx.Populate(&second))
	ctx := timeout(t)
	_, err := second.Flows.Create(ctx, "f", flow{"new"})
	require.NoError(t, err)
	require.NoError(t, second.Users.Set(ctx, "7", "Ann"))
	_, err = main.Flows.Get(ctx, "f")
	require.ErrorIs(t, err, cache.ErrNotFound)
	_, err = main.Users.Get(ctx, "7")
	require.ErrorIs(t, err, cache.ErrNotFound)
	assert.EqualValues(t, 2, two.Client(t).Exists(ctx, "cache:v:flows:{f}", "cache:v:users:{7}").Val())
	assert.Equal(t, `store "sessions"`, second.Store.String())
}

// What the comment of NewCache shows for a second cache of the same type.
func TestSecondCacheOfATypeHasANameTag(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	var caches struct {
		fx.In
		Users   *cache.StoreCache[string]
		Archive *cache.StoreCache[string] `name:"archive"`
	}
	startApp(t, server, cache.NewCache[string]("users"), fx.Populate(&caches),
		fx.Provide(fx.Annotated{Name: "archive", Target: func(s *cache.Store) (*cache.StoreCache[string], error) {
			return store.NewCache[string](s, "archive")
		}}))
	require.NoError(t, caches.Archive.Set(timeout(t), "7", "Ann"))
	_, err := caches.Users.Get(timeout(t), "7")
	require.ErrorIs(t, err, cache.ErrNotFound)
}

// A Store that is replaced is that of all that is made on it, and is its owner's to close.
func TestReplacedStore(t *testing.T) {
	t.Parallel()
	server, other := redistest.Start(t), redistest.Start(t)
	replacement, err := store.New(other.Client(t), store.WithTimeout(patience))
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, replacement.Close(context.Background())) })
	var flows *cache.State[flow]
	var got *cache.Store
	app := uberfxtest.New(t, cache.Module, cache.WithConfig(configOf(server)), fx.Replace(replacement),
		cache.NewState[flow]("flows"), fx.Populate(&flows, &got))
	app.RequireStart()
	assert.Same(t, replacement, got)
	_, err = flows.Create(timeout(t), "f", flow{"new"})
	require.NoError(t, err)
	assert.EqualValues(t, 1, other.Client(t).Exists(timeout(t), "cache:v:flows:{f}").Val())
	app.RequireStop()
	_, err = flows.Get(timeout(t), "f")
	require.NoError(t, err)
}

// Users of typed values can use them until they have stopped, wherever the module stands, and not after that.
func TestStoreStopsAfterItsUsers(t *testing.T) {
	t.Parallel()
	type marker struct{}
	server := redistest.Start(t)
	for name, first := range map[string]bool{"user first": true, "module first": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var flows *cache.State[flow]
			user := fx.Module("user", cache.NewState[flow](name),
				fx.Provide(func(lc fx.Lifecycle, s *cache.State[flow]) *marker {
					flows = s
					lc.Append(fx.Hook{
						OnStart: func(ctx context.Context) error {
							_, err := s.Create(ctx, "f", flow{"started"})
							return err
						},
						OnStop: func(ctx context.Context) error {
							_, err := s.Put(ctx, "f", flow{"stopped"})
							return err
						},
					})
					return &marker{}
				}), fx.Invoke(func(*marker) {}))
			opts := []fx.Option{cache.Module, cache.WithConfig(configOf(server)), user}
			if first {
				opts = []fx.Option{user, cache.Module, cache.WithConfig(configOf(server))}
			}
			uberfxtest.New(t, opts...).RequireStart().RequireStop()
			_, err := flows.Get(timeout(t), "f")
			require.ErrorIs(t, err, cache.ErrStoreClosed)
			c, err := cache.SetupCache(timeout(t), configOf(server))
			require.NoError(t, err)
			defer c.Close()
			again, err := store.NewState[flow](c.Store, name)
			require.NoError(t, err)
			item, err := again.Get(timeout(t), "f")
			require.NoError(t, err)
			assert.Equal(t, "stopped", item.Value.Status)
		})
	}
}

// A name or an option that cannot be used is found while the application is built, also if nobody asks for the value.
func TestUnusableTypedValuesAreTypedErrors(t *testing.T) {
	t.Parallel()
	for _, opt := range []fx.Option{
		cache.NewState[flow]("a:b"), cache.NewCache[flow]("flows", cache.WithTTL(-1)), cache.NewCache[flow]("flows", cache.StoreOption{}),
	} {
		err := fx.New(fx.NopLogger, cache.Module, opt).Err()
		require.ErrorIs(t, err, cache.ErrInvalidArgument)
		var bad *cache.ArgumentError
		require.ErrorAs(t, err, &bad)
	}
	require.ErrorContains(t, fx.New(fx.NopLogger, cache.NewState[flow]("flows")).Err(), "missing type: *store.Store")
}
