package embedded_test

import (
	"context"
	"errors"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/fx"
	"go.uber.org/fx/fxevent"
	uberfxtest "go.uber.org/fx/fxtest"

	"github.com/compozy/cache"
	"github.com/compozy/cache/embedded"
)

// stopLog records in which order hooks are stopped.
type stopLog struct {
	mu    sync.Mutex // guards calls
	calls []string
}

func (l *stopLog) LogEvent(event fxevent.Event) {
	if e, ok := event.(*fxevent.OnStopExecuted); ok {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.calls = append(l.calls, e.FunctionName)
	}
}

func TestModuleGivesAnApplicationItsServer(t *testing.T) {
	t.Parallel()
	var (
		server *embedded.Server
		client *cache.Redis
		locks  cache.LockManager
	)
	app := uberfxtest.New(t, embedded.Module(), cache.Module, fx.Populate(&server, &client, &locks))
	app.RequireStart()
	ctx := t.Context()
	require.NoError(t, client.Set(ctx, "k", "v", 0).Err())
	direct := redis.NewClient(options(server))
	assert.Equal(t, "v", direct.Get(ctx, "k").Val())
	require.NoError(t, direct.Close())
	_, err := locks.Acquire(ctx, "r", time.Minute)
	require.NoError(t, err)
	assert.Empty(t, server.Addr(), "nobody asked for a port")
	app.RequireStop()
	_, err = server.Dial(ctx, "", "")
	require.ErrorIs(t, err, embedded.ErrClosed)
}

// The client still talks to the server when it stops, so the server must be the
// last, whatever the order of the options.
func TestServerStopsAfterTheClient(t *testing.T) {
	t.Parallel()
	for name, modules := range map[string]fx.Option{
		"after":  fx.Options(cache.Module, embedded.Module()),
		"before": fx.Options(embedded.Module(), cache.Module),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			log := &stopLog{}
			app := fx.New(modules, fx.WithLogger(func() fxevent.Logger { return log }),
				// Asked for early, it is made early.
				fx.Invoke(func(*embedded.Server) {}),
				fx.Invoke(func(lc fx.Lifecycle, client *cache.Redis, _ cache.LockManager, _ cache.NotificationSystem) {
					lc.Append(fx.StopHook(func(ctx context.Context) error { return client.Ping(ctx).Err() }))
				}))
			require.NoError(t, app.Start(t.Context()))
			require.NoError(t, app.Stop(t.Context()))
			require.NotEmpty(t, log.calls)
			last := log.calls[len(log.calls)-1]
			assert.True(t, strings.Contains(last, "embedded") && strings.Contains(last, "Close"), "%q", log.calls)
		})
	}
}

func TestModuleOpensAPortWhenGivenAnAddress(t *testing.T) {
	t.Parallel()
	var (
		server *embedded.Server
		client *cache.Redis
	)
	app := uberfxtest.New(t, cache.Module, embedded.Module(embedded.WithAddr("127.0.0.1:0")), fx.Populate(&server, &client))
	assert.Empty(t, server.Addr(), "no I/O before the start")
	app.RequireStart()
	require.NoError(t, client.Set(t.Context(), "k", "v", 0).Err())
	opts, err := redis.ParseURL(server.URL())
	require.NoError(t, err)
	byTCP := redis.NewClient(opts)
	assert.Equal(t, "v", byTCP.Get(t.Context(), "k").Val())
	require.NoError(t, byTCP.Close())
	app.RequireStop()
	assert.NotEmpty(t, server.Addr())
}

func TestModuleFailsToStartOnATakenPort(t *testing.T) {
	t.Parallel()
	_, other := setup(t)
	require.NoError(t, other.Start(t.Context()))
	app := fx.New(cache.Module, embedded.Module(embedded.WithAddr(other.Addr())), fx.NopLogger)
	err := app.Start(t.Context())
	require.Error(t, err)
	assert.Contains(t, err.Error(), other.Addr())
}

// Without a start there is nothing to stop.
func TestApplicationThatNeverStarts(t *testing.T) {
	t.Parallel()
	app := fx.New(cache.Module, embedded.Module(), fx.NopLogger,
		fx.Invoke(func(cache.LockManager, cache.NotificationSystem) error { return errors.New("refused") }))
	require.Error(t, app.Err())
}

func TestModuleKeepsOtherSettings(t *testing.T) {
	t.Parallel()
	optional := false
	var cfg *cache.Config
	app := fx.New(embedded.Module(), cache.Module, fx.NopLogger, fx.Populate(&cfg), cache.WithConfig(&cache.Config{
		URL: "rediss://user:secret@example.org:1/5", TLSEnabled: true, TLSServerName: "x", Username: "u", Password: "p",
		LockNodes: []string{"a:1", "b:1", "c:1"}, KeyPrefix: "mine:", NotificationBufferSize: 7, Required: &optional, DB: 3,
	}))
	require.NoError(t, app.Err())
	assert.Equal(t, "mine:", cfg.KeyPrefix)
	assert.Equal(t, 7, cfg.NotificationBufferSize)
	assert.Zero(t, cfg.DB, "a database of another server")
	assert.False(t, cfg.IsRequired())
	assert.Empty(t, cfg.URL+cfg.Username+cfg.Password+cfg.TLSServerName)
	assert.False(t, cfg.TLSEnabled)
	assert.Empty(t, cfg.LockNodes)
}

// What the environment says about another Redis does not count, be it good or bad. Not
// parallel: it sets the environment.
func TestModuleIgnoresStrayVariables(t *testing.T) {
	file := filepath.Join(t.TempDir(), "missing")
	for name, value := range map[string]string{
		"REDIS_URL": "redis://$(HOST)", "REDIS_HOST": "a,b", "REDIS_PORT": "tcp://10.0.171.239:6379", "REDIS_ADDRS": "tcp://10.0.171.239:6379",
		"REDIS_USERNAME": "a b", "REDIS_PASSWORD": "a\nb", "REDIS_PASSWORD_FILE": file, "REDIS_TLS": "maybe", "REDIS_TLS_CA_FILE": file,
		"REDIS_TLS_SKIP_VERIFY": "yes", "REDIS_CLUSTER": "perhaps", "REDIS_MASTER_NAME": "m m", "REDIS_SENTINEL_PASSWORD": "x",
		"REDIS_LOCK_NODES": "nowhere", "REDIS_DB": "first", "REDIS_KEY_PREFIX": "mine:",
	} {
		t.Setenv(name, value)
	}
	var client *cache.Redis
	var cfg *cache.Config
	app := uberfxtest.New(t, cache.Module, embedded.Module(), fx.Populate(&client, &cfg))
	app.RequireStart()
	require.NoError(t, client.Set(t.Context(), "k", "v", 0).Err())
	assert.Equal(t, "mine:", cfg.KeyPrefix)
	app.RequireStop()

	// Every variable is either of that kind, or judged.
	stray := func(variable, part string) bool { return variable != "" && part == "server" }
	for f := range reflect.TypeFor[cache.Config]().Fields() {
		variable, _, _ := strings.Cut(f.Tag.Get("env"), ",")
		if stray(variable, f.Tag.Get("part")) {
			t.Setenv(variable, "\"garbage\n$(X)")
		}
	}
	require.NoError(t, fx.New(cache.Module, embedded.Module(), fx.NopLogger, fx.Populate(&cfg)).Err())
	assert.Zero(t, cfg.DB)
	for f := range reflect.TypeFor[cache.Config]().Fields() {
		variable, _, _ := strings.Cut(f.Tag.Get("env"), ",")
		if variable == "" || stray(variable, f.Tag.Get("part")) {
			continue
		}
		t.Setenv(variable, "\"garbage\n$(X)")
		require.ErrorContains(t, fx.New(cache.Module, embedded.Module(), fx.NopLogger, fx.Populate(&cfg)).Err(), variable)
		t.Setenv(variable, "")
	}

	t.Setenv("REDIS_POOL_SIZE", "many") // that does count
	require.ErrorContains(t, fx.New(cache.Module, embedded.Module(), fx.NopLogger, fx.Populate(&client)).Err(), "REDIS_POOL_SIZE")
}

func TestServersOfNamedInstances(t *testing.T) {
	t.Parallel()
	sessions := embedded.New()
	t.Cleanup(func() { assert.NoError(t, sessions.Close()) })
	var main, other *cache.Redis
	app := uberfxtest.New(t, cache.Module, embedded.Module(),
		cache.Named("sessions", cache.WithConfig(sessions.Config())),
		fx.Populate(&main, fx.Annotate(&other, fx.ParamTags(`name:"sessions"`))))
	app.RequireStart()
	defer app.RequireStop()
	require.NoError(t, main.Set(t.Context(), "k", "v", 0).Err())
	require.ErrorIs(t, other.Get(t.Context(), "k").Err(), redis.Nil)
}

func TestTwoServersConflict(t *testing.T) {
	t.Parallel()
	app := fx.New(cache.Module, embedded.Module(), embedded.Module(), fx.NopLogger)
	require.ErrorContains(t, app.Err(), "already provided")
}
