package cache_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/fx"
	uberfxtest "go.uber.org/fx/fxtest"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/compozy/cache"
	"github.com/compozy/cache/embedded"
	"github.com/compozy/cache/internal/redistest"
)

// readyz returns code and body of the readiness probe.
func readyz(h *cache.Health) (int, string) {
	w := httptest.NewRecorder()
	h.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/readyz", http.NoBody))
	return w.Code, w.Body.String()
}

// TestServerThatCannotWork expects every way to start to say what is wrong with a
// server, and readiness to agree.
func TestServerThatCannotWork(t *testing.T) {
	t.Parallel()
	plain, node := redistest.Start(t), redistest.Start(t)
	require.NoError(t, plain.Client(t).Do(t.Context(), "acl", "setuser", "app", "on", ">hunter2", "~*", "&*", "+@all", "-@scripting").Err())
	sentinel := redistest.StartSentinel(t).Addrs()[0]
	starved := redistest.Start(t, redistest.WithConfig("min-replicas-to-write", "1"))
	for name, test := range map[string]struct {
		cfg    cache.Config
		kind   error
		says   string
		passes bool // it may, so the start waits
	}{
		"sentinel":       {cfg: cache.Config{URL: "redis://" + sentinel}, kind: cache.ErrUnsupported, says: "REDIS_MASTER_NAME"},
		"no scripting":   {cfg: cache.Config{URL: "redis://app:hunter2@" + plain.Addr()}, kind: cache.ErrRefused, says: "user app may not run EVAL"},
		"no replicas":    {cfg: cache.Config{URL: starved.URL()}, kind: cache.ErrNoReplicas, says: starved.Addr(), passes: true},
		"lock node":      {cfg: cache.Config{URL: node.URL(), LockNodes: []string{sentinel}}, kind: cache.ErrUnsupported, says: "lock node " + sentinel},
		"lock node, ACL": {cfg: cache.Config{URL: node.URL(), LockNodes: []string{"redis://app:hunter2@" + plain.Addr()}}, kind: cache.ErrRefused, says: "user app may not run EVAL"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			explained := func(err error) {
				t.Helper()
				require.ErrorIs(t, err, test.kind)
				require.ErrorContains(t, err, test.says)
				require.NotContains(t, err.Error(), "hunter2")
			}
			budget := func() context.Context {
				if !test.passes {
					return timeout(t)
				}
				ctx, cancel := context.WithTimeout(t.Context(), startBudget)
				t.Cleanup(cancel)
				return ctx
			}
			if len(test.cfg.LockNodes) == 0 {
				_, err := cache.NewRedis(budget(), &test.cfg)
				explained(err)
			}
			_, err := cache.SetupCache(budget(), &test.cfg)
			explained(err)
			explained(fx.New(fx.NopLogger, cache.Module, cache.WithConfig(&test.cfg)).Start(budget()))

			no := false
			optional := test.cfg
			optional.Required, optional.PingTimeout = &no, patience
			core, logs := observer.New(zap.WarnLevel)
			var parts everything
			app := uberfxtest.New(t, cache.Module, cache.WithConfig(&optional), fx.Invoke(func(p everything) { parts = p }),
				fx.Provide(func() *zap.Logger { return zap.New(core) }))
			app.RequireStart()
			t.Cleanup(app.RequireStop)
			require.Equal(t, 1, logs.Len(), "the start-up line says it")
			code, body := readyz(parts.Health)
			assert.Equal(t, http.StatusServiceUnavailable, code)
			assert.Contains(t, body, test.says)
			assert.NotContains(t, body, "hunter2")
			c, err := cache.SetupCache(timeout(t), &optional)
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, c.Close()) })
			explained(c.HealthCheck(timeout(t)))
		})
	}
}

// TestWarningInReadiness shows that a policy which may evict locks is reported, and that
// traffic comes all the same.
func TestWarningInReadiness(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.WithConfig("maxmemory-policy", "allkeys-lru"))
	core, logs := observer.New(zap.WarnLevel)
	var parts everything
	startApp(t, server, fx.Invoke(func(p everything) { parts = p }), fx.Provide(func() *zap.Logger { return zap.New(core) }))
	const says = "maxmemory-policy allkeys-lru may evict locks and events; set maxmemory-policy noeviction"
	require.Equal(t, 1, logs.Len())
	assert.Contains(t, logs.All()[0].Message, says)
	code, body := readyz(parts.Health)
	assert.Equal(t, http.StatusOK, code)
	assert.Contains(t, body, says)
}

// TestEmbeddedServerNeedsNoWarning: it has no version, and everybody knows it.
func TestEmbeddedServerNeedsNoWarning(t *testing.T) {
	t.Parallel()
	core, logs := observer.New(zap.WarnLevel)
	var parts everything
	app := uberfxtest.New(t, cache.Module, embedded.Module(), fx.Invoke(func(p everything) { parts = p }),
		fx.Provide(func() *zap.Logger { return zap.New(core) }))
	app.RequireStart()
	t.Cleanup(app.RequireStop)
	code, body := readyz(parts.Health)
	assert.Equal(t, http.StatusOK, code, body)
	assert.NotContains(t, body, "warnings")
	assert.Zero(t, logs.Len())
}
