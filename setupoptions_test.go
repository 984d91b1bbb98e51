package cache_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
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
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/compozy/cache"
	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/lock"
	"github.com/compozy/cache/notification"
	"github.com/compozy/cache/store"
)

func TestSetupOptions(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	core, logs := observer.New(zap.InfoLevel)
	spans := tracetest.NewSpanRecorder()
	registry := prometheus.NewPedanticRegistry()
	c, err := cache.SetupCache(timeout(t), configOf(server),
		cache.SetupWithName("sessions"),
		cache.SetupWithLogger(zap.New(core)),
		cache.SetupWithTracerProvider(sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans))),
		cache.SetupWithRegisterer(registry))
	require.NoError(t, err)
	defer c.Close()

	require.NoError(t, c.Redis.Set(timeout(t), "k", "v", 0).Err())
	assert.NotEmpty(t, spans.Ended())
	started := logs.FilterMessage("cache: started").All()
	require.Len(t, started, 1)
	assert.Equal(t, "sessions", started[0].ContextMap()["cache"])
	assert.Equal(t, true, started[0].ContextMap()["tracing"])

	problems, err := testutil.GatherAndLint(registry)
	require.NoError(t, err)
	assert.Empty(t, problems)
	families, err := registry.Gather()
	require.NoError(t, err)
	require.NotEmpty(t, families)
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			assert.Contains(t, metric.String(), `value:"sessions"`)
		}
	}
	for _, result := range c.Health().Run(timeout(t)).Checks {
		assert.Contains(t, result.Name, "sessions.")
	}

	require.NoError(t, c.Close())
	families, err = registry.Gather()
	require.NoError(t, err)
	assert.Empty(t, families, "Close unregisters")
}

// Nil options leave their default.
func TestSetupOptionsOfNil(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	var registry *prometheus.Registry
	var provider *sdktrace.TracerProvider
	c, err := cache.SetupCache(timeout(t), configOf(server),
		cache.SetupWithLogger(nil), cache.SetupWithTracerProvider(nil), cache.SetupWithRegisterer(nil),
		cache.SetupWithTracerProvider(provider), cache.SetupWithRegisterer(registry))
	require.NoError(t, err)
	require.NoError(t, c.Close())
}

// A constructor may return a provider that is nil while tracing is off.
func TestNilTracerProviderOfSomeType(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	none := func() trace.TracerProvider { return (*sdktrace.TracerProvider)(nil) }
	var c *cache.Redis
	startApp(t, server, fx.Provide(none), fx.Populate(&c))
	ctx := timeout(t)
	locks, err := lock.NewRedisLockManager(c, lock.WithTracerProvider(none()))
	require.NoError(t, err)
	l, err := locks.Acquire(ctx, "job", time.Minute)
	require.NoError(t, err)
	require.NoError(t, l.Release(ctx))
	require.NoError(t, locks.Close(ctx))
	events, err := notification.NewRedisNotificationSystem(c, notification.WithTracerProvider(none()))
	require.NoError(t, err)
	require.NoError(t, events.PublishWorkflowEvent(ctx, &cache.WorkflowEvent{ID: "w", Status: "s"}))
	require.NoError(t, events.Close())
	values, err := store.New(c, store.WithTracerProvider(none()))
	require.NoError(t, err)
	st, err := store.NewState[int](values, "orders")
	require.NoError(t, err)
	_, err = st.Put(ctx, "k", 1)
	require.NoError(t, err)
	require.NoError(t, values.Close(ctx))
}

func TestSetupOptionsAreRefused(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		cfg    *cache.Config
		opt    cache.SetupOption
		option string
		says   string
	}{
		"nil option":           {nil, nil, "opts", "contains nil"},
		"empty prefix":         {nil, cache.SetupWithEnvPrefix(""), "SetupWithEnvPrefix", "is empty"},
		"prefix beside config": {&cache.Config{}, cache.SetupWithEnvPrefix("APP_"), "SetupWithEnvPrefix", "use one of them"},
		"empty name":           {nil, cache.SetupWithName(""), "SetupWithName", "is empty"},
		"reserved name":        {nil, cache.SetupWithName("default"), "SetupWithName", "the unnamed instance"},
		"odd name":             {nil, cache.SetupWithName("my sessions"), "SetupWithName", "letters, digits"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := cache.SetupCache(t.Context(), test.cfg, test.opt)
			var bad *cache.ArgumentError
			require.ErrorAs(t, err, &bad)
			require.ErrorIs(t, err, cache.ErrInvalidArgument)
			assert.Equal(t, test.option, bad.Argument)
			require.ErrorContains(t, err, test.says)
		})
	}
	_, err := cache.SetupCache(t.Context(), &cache.Config{}, cache.SetupWithEnvPrefix("APP_"), cache.SetupWithName(""))
	require.ErrorIs(t, err, cache.ErrConflictingOptions)
	require.ErrorContains(t, err, "SetupWithName", "all that is wrong at once")
}

func TestSetupWithEnvPrefix(t *testing.T) { // sets the environment, so not in parallel
	server := redistest.Start(t)
	t.Setenv("SETUPTEST_REDIS_URL", server.URL())
	t.Setenv("REDIS_URL", "redis://127.0.0.1:1")
	c, err := cache.SetupCache(timeout(t), nil, cache.SetupWithEnvPrefix("SETUPTEST_"))
	require.NoError(t, err)
	assert.Equal(t, server.Addr(), c.Redis.Addr())
	require.NoError(t, c.Close())

	server.Kill()
	ctx, cancel := context.WithTimeout(t.Context(), startBudget)
	defer cancel()
	_, err = cache.SetupCache(ctx, nil, cache.SetupWithEnvPrefix("SETUPTEST_"), cache.SetupWithName("sessions"))
	require.ErrorContains(t, err, `instance "sessions", configured by SETUPTEST_REDIS_URL`)
}

// A start that fails takes its collectors out of the registry, with Fx and without,
// whatever failed: the next application of the process registers them again.
func TestMetricsAfterAFailedStart(t *testing.T) {
	t.Parallel()
	server, down := redistest.Start(t), redistest.Start(t)
	down.Kill()
	bad := errors.New("bad luck")
	ctx := func() context.Context {
		ctx, cancel := context.WithTimeout(t.Context(), startBudget)
		t.Cleanup(cancel)
		return ctx
	}
	app := func(registry prometheus.Registerer, server *redistest.Server, opts ...fx.Option) *fx.App {
		return fx.New(fx.NopLogger, cache.Module, cache.WithConfig(configOf(server)), cache.RegisterMetrics,
			fx.Supply(fx.Annotate(registry, fx.As(new(prometheus.Registerer)))), fx.Options(opts...))
	}
	for name, fail := range map[string]func(registry prometheus.Registerer) error{
		"fx, Redis down": func(r prometheus.Registerer) error { return app(r, down).Start(ctx()) },
		"fx, a later hook": func(r prometheus.Registerer) error {
			return app(r, server, fx.Invoke(func(lc fx.Lifecycle) {
				lc.Append(fx.StartHook(func() error { return bad }))
			})).Start(ctx())
		},
		"fx, a later invoke": func(r prometheus.Registerer) error {
			return app(r, server, fx.Invoke(func() error { return bad })).Err()
		},
		"fx, never started": func(r prometheus.Registerer) error { _ = app(r, server); return bad },
		"fx, registered twice": func(r prometheus.Registerer) error {
			err := app(r, server, cache.RegisterMetrics).Start(ctx())
			require.Equal(t, 1, strings.Count(err.Error(), "include cache.RegisterMetrics once"), "%v", err)
			for _, part := range []string{"cache_client_", "cache_lock_", "cache_notification_", "cache_store_"} {
				require.Equal(t, 1, strings.Count(err.Error(), part), "%v", err)
			}
			return err
		},
		"SetupCache, Redis down": func(r prometheus.Registerer) error {
			_, err := cache.SetupCache(ctx(), configOf(down), cache.SetupWithRegisterer(r))
			return err
		},
		"SetupCache, registered before": func(r prometheus.Registerer) error {
			c, err := cache.SetupCache(ctx(), configOf(server), cache.SetupWithRegisterer(r))
			require.NoError(t, err)
			_, err = cache.SetupCache(ctx(), configOf(server), cache.SetupWithRegisterer(r))
			families, gatherErr := r.(prometheus.Gatherer).Gather()
			require.NoError(t, gatherErr)
			assert.NotEmpty(t, families, "those of the first stay")
			require.NoError(t, c.Close())
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			registry := prometheus.NewPedanticRegistry()
			require.Error(t, fail(registry))

			families, err := registry.Gather()
			require.NoError(t, err)
			assert.Empty(t, families)
			next := app(registry, server)
			require.NoError(t, next.Start(timeout(t)))
			require.NoError(t, next.Stop(timeout(t)))
		})
	}
}

// What a program without Fx sees of its health is what one with Fx sees.
func TestHealthIsTheSameWithAndWithoutFx(t *testing.T) {
	t.Parallel()
	server, nodes := redistest.Start(t), redistest.StartN(t, 3)
	cfg := brittleConfigOf(server)
	for _, node := range nodes {
		cfg.LockNodes = append(cfg.LockNodes, node.Addr())
	}
	c, err := cache.SetupCache(timeout(t), cfg)
	require.NoError(t, err)
	defer c.Close()
	var parts everything
	var collectors struct {
		fx.In
		Collectors []prometheus.Collector `group:"metrics"`
	}
	startConfigured(t, cfg, fx.Invoke(func(p everything) { parts = p }), fx.Populate(&collectors))

	names := func(h *cache.Health) map[string]cache.CheckKind {
		kinds := map[string]cache.CheckKind{}
		for _, result := range h.Run(timeout(t)).Checks {
			kinds[result.Name] = result.Kind
		}
		return kinds
	}
	assert.Len(t, names(c.Health()), 7)
	assert.Equal(t, names(parts.Health), names(c.Health()))
	assert.Len(t, c.Collectors(), len(collectors.Collectors))
	require.NoError(t, c.HealthCheck(timeout(t)))
	assert.Equal(t, http.StatusOK, status(c.Health().Handler(), "/readyz"))

	for _, node := range nodes[:2] {
		node.Kill()
	}
	err = c.HealthCheck(timeout(t))
	require.ErrorContains(t, err, "lock_nodes")
	assert.Equal(t, http.StatusServiceUnavailable, status(c.Health().Handler(), "/readyz"))
	assert.Equal(t, http.StatusServiceUnavailable, status(parts.Health.Handler(), "/readyz"))
	assert.Equal(t, http.StatusOK, status(c.Health().Handler(), "/livez"))
	server.Kill()
	eventually(t, "the server is missed as well", func() bool {
		return errors.Is(c.HealthCheck(timeout(t)), cache.ErrUnreachable)
	})
}

// A Cache made by hand is not taken for healthy.
func TestHealthOfACacheMadeByHand(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	rdb, err := cache.NewRedis(timeout(t), configOf(server))
	require.NoError(t, err)
	c := &cache.Cache{Redis: rdb, LockManager: fakeLocks{}}
	require.NoError(t, c.HealthCheck(timeout(t)))
	assert.Empty(t, c.Collectors())
	require.ErrorIs(t, c.Close(), cache.ErrInvalidArgument, "its parts are the caller's to close")
	require.NoError(t, rdb.Ping(timeout(t)).Err())
	require.NoError(t, rdb.Close())
	require.ErrorIs(t, c.HealthCheck(timeout(t)), cache.ErrClientClosed)
}

// panicking is a registerer that panics.
type panicking struct{ prometheus.Registerer }

func (panicking) Register(prometheus.Collector) error { panic("boom") }

// The panic is the caller's to see, and nothing is left running behind it.
func TestSetupWithRegistererThatPanics(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	require.PanicsWithValue(t, "boom", func() {
		_, _ = cache.SetupCache(timeout(t), configOf(server), cache.SetupWithRegisterer(panicking{prometheus.NewRegistry()}))
	})
	eventually(t, "all connections are closed", func() bool { return connections(t, server) == 0 })
}
