package cache_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/fx"
	uberfxtest "go.uber.org/fx/fxtest"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/compozy/cache"
	"github.com/compozy/cache/internal/redistest"
)

// everything is all that the module provides.
type everything struct {
	fx.In
	Config               *cache.Config
	Redis                *cache.Redis
	Universal            redis.UniversalClient
	LockManager          cache.LockManager
	Locker               cache.Locker
	RedisLockManager     *cache.RedisLockManager
	Notification         cache.NotificationSystem
	NotificationConcrete *cache.RedisNotificationSystem
	Store                *cache.Store
	Health               *cache.Health
}

func TestModuleProvidesWorkingParts(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	var parts everything
	startApp(t, server, fx.Invoke(func(p everything) { parts = p }))
	ctx := timeout(t)

	require.NoError(t, parts.Redis.Set(ctx, "greeting", "hello", 0).Err())
	assert.Equal(t, "hello", parts.Universal.Get(ctx, "greeting").Val())
	assert.Same(t, parts.RedisLockManager, parts.LockManager, "interface and concrete type are one instance")
	assert.Same(t, parts.RedisLockManager, parts.Locker)
	assert.Same(t, parts.NotificationConcrete, parts.Notification)

	lock, err := parts.LockManager.Acquire(ctx, "invoice-7", time.Minute)
	require.NoError(t, err)
	_, err = parts.LockManager.Acquire(ctx, "invoice-7", time.Minute)
	require.ErrorIs(t, err, cache.ErrLockNotAcquired)
	require.NoError(t, lock.Release(ctx))

	sub := parts.Notification.Subscribe(ctx, "workflow:*")
	require.NoError(t, parts.Notification.PublishWorkflowEvent(ctx, &cache.WorkflowEvent{ID: "w1", Status: "running"}))
	select {
	case msg := <-sub.Messages():
		assert.Contains(t, msg.Payload, `"status":"running"`)
	case <-ctx.Done():
		t.Fatal("the event did not arrive")
	}
}

func TestModuleTwiceIsAnError(t *testing.T) {
	t.Parallel()
	app := fx.New(fx.NopLogger, cache.Module, cache.Module)
	require.ErrorContains(t, app.Err(), "already provided")
}

// The documentation says to write WithConfig instead.
func TestConfigSuppliedBesideTheModuleIsAnError(t *testing.T) {
	t.Parallel()
	app := fx.New(fx.NopLogger, cache.Module, fx.Supply(&cache.Config{}))
	require.ErrorContains(t, app.Err(), "already provided")
}

func TestModuleLeavesTheTimeoutsOfTheApplicationAlone(t *testing.T) {
	t.Parallel()
	app := fx.New(fx.NopLogger, fx.StartTimeout(time.Minute), fx.StopTimeout(time.Hour), cache.Module)
	require.NoError(t, app.Err())
	assert.Equal(t, time.Minute, app.StartTimeout())
	assert.Equal(t, time.Hour, app.StopTimeout())
}

func TestModuleValidates(t *testing.T) {
	t.Parallel()
	require.NoError(t, fx.ValidateApp(fx.NopLogger, cache.Module, fx.Invoke(func(everything) {})))
}

func TestConflictingOptions(t *testing.T) {
	t.Parallel()
	cfg := &cache.Config{}
	for name, opts := range map[string][]fx.Option{
		"config and prefix": {cache.WithConfig(cfg), cache.WithEnvPrefix("APP_")},
		"two configs":       {cache.WithConfig(cfg), cache.WithConfig(cfg)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			app := fx.New(append(opts, cache.Module, fx.NopLogger)...)
			require.ErrorIs(t, app.Err(), cache.ErrConflictingOptions)
			require.ErrorContains(t, app.Err(), "WithConfig")
		})
	}
}

func TestInvalidOptions(t *testing.T) {
	t.Parallel()
	for call, opt := range map[string]fx.Option{
		"WithConfig":                cache.WithConfig(nil),
		"WithEnvPrefix":             cache.WithEnvPrefix(""),
		"ReplaceConfig":             cache.ReplaceConfig(nil),
		"ReplaceLockManager":        cache.ReplaceLockManager(nil),
		"ReplaceNotificationSystem": cache.ReplaceNotificationSystem(nil),
	} {
		t.Run(call, func(t *testing.T) {
			t.Parallel()
			err := fx.New(fx.NopLogger, cache.Module, opt).Err()
			require.ErrorIs(t, err, cache.ErrInvalidOption)
			require.ErrorContains(t, err, call)
		})
	}
}

func TestInvalidConfigIsATypedErrorBeforeAnyConnection(t *testing.T) {
	t.Parallel()
	app := fx.New(fx.NopLogger, cache.Module,
		cache.WithConfig(&cache.Config{Port: "99999", PoolSize: -1, Password: "hunter2"}))

	require.ErrorIs(t, fx.New(fx.NopLogger, cache.Module, cache.ReplaceConfig(&cache.Config{Port: "99999"})).Err(),
		cache.ErrInvalidConfig, "a replacement is judged as well")
	var invalid *cache.ConfigError
	require.ErrorAs(t, app.Err(), &invalid)
	require.ErrorIs(t, app.Err(), cache.ErrInvalidConfig)
	assert.Len(t, invalid.Fields, 2, "all bad fields at once")
	assert.NotContains(t, app.Err().Error(), "hunter2")
}

func TestEnvironment(t *testing.T) { // sets the environment, so not in parallel
	server := redistest.Start(t)
	t.Setenv("CACHETEST_REDIS_URL", server.URL())
	t.Setenv("CACHETEST_REDIS_KEY_PREFIX", "env-test:")
	var cfg *cache.Config
	app := uberfxtest.New(t, cache.Module, cache.WithEnvPrefix("CACHETEST_"), fx.Populate(&cfg))
	app.RequireStart().RequireStop()
	assert.Equal(t, server.URL(), cfg.URL)
	assert.Equal(t, "env-test:", cfg.KeyPrefix)
}

func TestLazyPartsDoNothingUnlessUsed(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	startApp(t, server, fx.Invoke(func(everything) {}))

	clients, err := server.Client(t).Do(timeout(t), "CLIENT", "LIST", "TYPE", "pubsub").Text()
	require.NoError(t, err)
	assert.Empty(t, clients, "nobody subscribed, so there is no pub/sub connection")
	// The check of the start runs a script of its own, with and without the parts.
	alone := redistest.Start(t)
	rdb, err := cache.NewRedis(timeout(t), configOf(alone))
	require.NoError(t, err)
	defer rdb.Close()
	assert.Equal(t, alone.Commands(t)["evalsha"], server.Commands(t)["evalsha"], "nobody locked or published")
}

func TestPartsOutliveTheStartContext(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	var parts everything
	app := uberfxtest.New(t, cache.Module, cache.WithConfig(configOf(server)), fx.Populate(),
		fx.Invoke(func(p everything, lc fx.Lifecycle) {
			parts = p
			lc.Append(fx.StartHook(func(ctx context.Context) error { return nil }))
		}))
	startCtx, cancel := context.WithTimeout(t.Context(), patience)
	require.NoError(t, app.Start(startCtx))
	cancel()
	t.Cleanup(app.RequireStop)
	ctx := timeout(t)

	require.NoError(t, parts.Redis.HealthCheck(ctx))
	lock, err := parts.LockManager.Acquire(ctx, "outlives", 6*time.Second)
	require.NoError(t, err)
	held := lock.(*cache.RedisLock)
	first := held.Until()
	eventually(t, "the lock is renewed", func() bool { return held.Until().After(first) })
}

func TestOneStartUpLineAndTracing(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.WithPassword("hunter2"))
	core, logs := observer.New(zap.DebugLevel)
	spans := tracetest.NewSpanRecorder()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans))
	var rdb *cache.Redis
	startApp(t, server, fx.Populate(&rdb),
		fx.Supply(fx.Annotate(provider, fx.As(new(trace.TracerProvider)))),
		fx.Provide(func() *zap.Logger { return zap.New(core) }))
	require.NoError(t, rdb.Set(timeout(t), "secret-key", "secret-value", 0).Err())

	started := logs.FilterMessage("cache: started").All()
	require.Len(t, started, 1)
	fields := started[0].ContextMap()
	assert.Equal(t, true, fields["tracing"])
	assert.Equal(t, server.Addr(), fields["addr"])
	assert.NotContains(t, started[0].Entry.Message, "hunter2")
	assert.NotContains(t, fields, "hunter2")

	require.NotEmpty(t, spans.Ended())
	for _, span := range spans.Ended() {
		for _, attr := range span.Attributes() {
			assert.NotContains(t, attr.Value.String(), "secret")
		}
	}
}

func TestStartFailsInsideItsBudgetWithoutRedis(t *testing.T) {
	t.Parallel()
	for name, breakIt := range map[string]func(*redistest.Server){
		"down":    (*redistest.Server).Kill,
		"hanging": (*redistest.Server).Stop,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t)
			breakIt(server)
			app := uberfxtest.New(t, cache.Module, cache.WithConfig(configOf(server)))
			ctx, cancel := context.WithTimeout(t.Context(), startBudget)
			defer cancel()

			err := app.Start(ctx)

			// When the budget is over, Fx says no more than that.
			require.ErrorContains(t, err, server.Addr())
		})
	}
}

func TestStartNamesAWrongPasswordWithoutShowingIt(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.WithPassword("right"))
	cfg := &cache.Config{Host: server.Host(), Port: server.Port(), Password: "hunter2"}
	app := uberfxtest.New(t, cache.Module, cache.WithConfig(cfg))

	err := app.Start(timeout(t))

	require.ErrorContains(t, err, "WRONGPASS")
	assert.NotContains(t, err.Error(), "hunter2")
}

func TestFailedStartLeavesNoConnection(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	bad := errors.New("bad luck")
	app := uberfxtest.New(t, cache.Module, cache.WithConfig(configOf(server)),
		fx.Invoke(func(*cache.Redis, fx.Lifecycle) {}),
		fx.Invoke(func(lc fx.Lifecycle) { lc.Append(fx.StartHook(func() error { return bad })) }))

	require.ErrorIs(t, app.Start(timeout(t)), bad)

	eventually(t, "all connections are closed", func() bool { return connections(t, server) == 0 })
}

// connections counts those of everybody but the asking test.
func connections(t *testing.T, s *redistest.Server) int {
	t.Helper()
	rdb := s.Client(t)
	list, err := rdb.ClientList(timeout(t)).Result()
	require.NoError(t, err)
	n := -1
	for _, c := range list {
		if c == '\n' {
			n++
		}
	}
	require.NoError(t, rdb.Close())
	return n
}

func TestAppThatNeverStartsConnectsNowhere(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	bad := errors.New("constructor failed")
	app := fx.New(fx.NopLogger, cache.Module, cache.WithConfig(configOf(server)),
		fx.Invoke(func(everything) error { return bad }))

	require.ErrorIs(t, app.Err(), bad)
	assert.Zero(t, connections(t, server)) // and goleak finds no goroutine
}

func TestNotRequiredStartsWithoutRedisAndRecovers(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	server.Kill()
	no := false
	cfg := configOf(server)
	cfg.Required = &no
	var parts everything
	app := uberfxtest.New(t, cache.Module, cache.WithConfig(cfg), fx.Invoke(func(p everything) { parts = p }))
	app.RequireStart()
	t.Cleanup(app.RequireStop)

	require.Error(t, parts.Redis.HealthCheck(timeout(t)))
	server.Restart()
	eventually(t, "the client recovers by itself", func() bool { return parts.Redis.HealthCheck(timeout(t)) == nil })
}
