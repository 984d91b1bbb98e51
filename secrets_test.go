package cache_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/fx"
	"go.uber.org/fx/fxevent"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/compozy/cache"
	"github.com/compozy/cache/internal/redistest"
)

// prints returns v in every form in which a value or an error finds its way into
// a log.
func prints(v any) string {
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d", "%t", "%!"} {
		fmt.Fprintf(&out, verb+"\n", v)
	}
	if text, err := json.Marshal(v); err == nil {
		out.Write(text)
	}
	logger(&out).Info("zap", zap.Any("any", v), zap.Reflect("reflect", v))
	logger(&out).Sugar().Infow("sugar", "v", v)
	return out.String()
}

// logger writes everything to out.
func logger(out *bytes.Buffer) *zap.Logger {
	encoder := zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig())
	return zap.New(zapcore.NewCore(encoder, zapcore.AddSync(out), zap.DebugLevel))
}

func TestNoPartPrintsAPassword(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.WithUser("app", "hunter2"))
	for name, cfg := range map[string]*cache.Config{
		"URL":    {URL: server.URL(), LockNodes: []string{server.URL()}},
		"fields": {Host: server.Host(), Port: server.Port(), Username: "app", Password: "hunter2", LockNodes: []string{server.Addr()}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := timeout(t)
			c, err := cache.SetupCache(ctx, cfg)
			require.NoError(t, err)
			defer c.Close()
			for _, option := range []fx.Option{
				cache.WithConfig(cfg), cache.ReplaceConfig(cfg), cache.Named("x", cache.WithConfig(cfg)), cache.WithSlog(slog.Default()),
				cache.DrainOnStop, cache.NewState[int]("n"), cache.NewCache[int]("n"),
			} {
				assert.NotContains(t, prints(option), "hunter2", "%T", option)
				assert.NotContains(t, prints(&option), "hunter2", "%T", option)
			}
			// Before first use: fmt knows nothing of the mutexes of what it prints.
			for _, part := range []any{cfg, *cfg, c, c.Redis, c.LockManager, c.Notification, c.Redis.LockNodes(), c.Redis.Unwrap()} {
				assert.NotContains(t, prints(part), "hunter2", "%T", part)
			}
		})
	}
}

// TestWrongPasswordIsNamedAndNotShown looks at what an application says, and at
// all that is logged on the way.
func TestWrongPasswordIsNamedAndNotShown(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.WithUser("app", "right"))
	sentinel := redistest.StartSentinel(t, redistest.WithPassword("right"), redistest.WithSentinelPassword("right too"))
	open := redistest.Start(t)
	wrongURL := "redis://app:hunter2@" + server.Addr()
	for name, cfg := range map[string]*cache.Config{
		"URL":                {URL: wrongURL},
		"no such user":       {URL: "redis://hunter2:hunter2@" + server.Addr()},
		"fields":             {Host: server.Host(), Port: server.Port(), Username: "app", Password: "hunter2"},
		"missing user":       {Host: server.Host(), Port: server.Port(), Password: "hunter2"},
		"lock node by URL":   {URL: open.URL(), LockNodes: []string{wrongURL}},
		"lock node by field": {URL: open.URL(), Username: "app", Password: "hunter2", LockNodes: []string{server.Addr()}},
		"Cluster":            {Cluster: true, Addrs: []string{server.Addr()}, Username: "app", Password: "hunter2"},
		"sentinels":          {MasterName: sentinel.MasterName(), Addrs: sentinel.Addrs(), Password: "right", SentinelPassword: "hunter2"},
		"master of sentinel": {MasterName: sentinel.MasterName(), Addrs: sentinel.Addrs(), Password: "hunter2", SentinelPassword: "right too"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for way, err := range failures(t, cfg) {
				require.ErrorIs(t, err, cache.ErrAuth, way)
				require.NotErrorIs(t, err, context.DeadlineExceeded, "%s: waiting cannot help", way)
			}
		})
	}
}

func TestMalformedURLIsNamedAndNotShown(t *testing.T) {
	t.Parallel()
	for _, raw := range []string{
		"redis://app:hunter2/@h:1", "redis://app:hunter%zz2hunter2@h", "redis://app:hunter2@h:99999", "redis://app:hunter2@h/first",
		"http://app:hunter2@h", "redis:app:hunter2@h:1", "app:hunter2@h:1", "'redis://app:hunter2@h'", "redis://app:hunter2\n@h",
		"redis://h?password=hunter2", "redis://h?pool_size=hunter2", "unix://app:hunter2@", "redis://app:hunter2@[::1", "hunter2://h",
		"redis://:57#hunter2@h", "redis://app#1:hunter2@h", "redis://app:hunter2@h1:1,h2:1", "redis://app:hunter2@$(HOST)", "unix://app:hunter2@run/x",
	} {
		for field, cfg := range map[string]*cache.Config{
			"URL":       {URL: raw},
			"LockNodes": {LockNodes: []string{"a:1", raw}},
			"Addrs":     {Cluster: true, Addrs: []string{raw}},
			"Host":      {Host: raw},
		} {
			t.Run(field+" "+raw, func(t *testing.T) {
				t.Parallel()
				for way, err := range failures(t, cfg) {
					require.ErrorIs(t, err, cache.ErrInvalidConfig, way)
					require.ErrorContains(t, err, field, way)
				}
			})
		}
	}
}

// failures returns the errors that cfg leads to, by the way in which it was
// used, and makes sure that nothing shows its password.
func failures(t *testing.T, cfg *cache.Config) map[string]error {
	t.Helper()
	ctx := timeout(t)
	var log bytes.Buffer
	app := fx.New(cache.Module, cache.WithConfig(cfg), fx.Invoke(func(everything) {}),
		fx.Provide(func() *zap.Logger { return logger(&log) }),
		fx.WithLogger(func(l *zap.Logger) fxevent.Logger { return &fxevent.ZapLogger{Logger: l} }))
	errs := map[string]error{"fx": app.Err()}
	if app.Err() == nil {
		errs["fx"] = app.Start(ctx)
	}
	_, errs["SetupCache"] = cache.SetupCache(ctx, cfg)
	_, errs["NewRedis"] = cache.NewRedis(ctx, cfg)
	for way, err := range errs {
		require.Error(t, err, way)
		require.NotContains(t, prints(err), "hunter2", way)
	}
	require.NotContains(t, log.String(), "hunter2", "the log of the application")
	require.NotContains(t, prints(cfg), "hunter2")
	return errs
}

// TestQuotedPasswordIsNotShown starts without Redis, on a server that knows no AUTH and
// quotes it with its arguments, and looks at what each part says and logs.
func TestQuotedPasswordIsNotShown(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.WithConfig("rename-command", `HELLO ""`), redistest.WithConfig("rename-command", `AUTH ""`))
	required, ctx := false, timeout(t)
	core, logs := observer.New(zap.DebugLevel)
	cfg := &cache.Config{URL: "redis://app:hunter2@" + server.Addr(), Required: &required, LockNodes: []string{"redis://app:hunter2@" + server.Addr()}}
	c, err := cache.SetupCache(ctx, cfg, cache.SetupWithLogger(zap.New(core)))
	require.NoError(t, err)
	defer c.Close()
	sub := c.Notification.Subscribe(ctx, "workflow:*")
	_, lockErr := c.LockManager.Acquire(ctx, "job", time.Minute)
	for way, err := range map[string]error{
		"health":  c.HealthCheck(ctx),
		"lock":    lockErr,
		"publish": c.Notification.PublishWorkflowEvent(ctx, &cache.WorkflowEvent{ID: "1", Status: "done"}),
		"get":     c.Redis.Get(ctx, "k").Err(),
	} {
		require.Error(t, err, way)
		require.NotContains(t, prints(err), "hunter2", way)
	}
	require.Eventually(t, func() bool { return c.Notification.(*cache.RedisNotificationSystem).GetMetrics().SubscribeErrors > 0 }, 15*time.Second, 10*time.Millisecond)
	require.NoError(t, sub.Close())
	require.NotEmpty(t, logs.All())
	for _, entry := range logs.All() {
		require.NotContains(t, prints(entry.ContextMap()), "hunter2")
		require.NotContains(t, entry.Message, "hunter2")
	}
}
