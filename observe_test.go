package cache_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/fx"
	uberfxtest "go.uber.org/fx/fxtest"

	"github.com/compozy/cache"
	"github.com/compozy/cache/health"
	"github.com/compozy/cache/internal/redistest"
)

func status(h http.Handler, path string) int {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	return w.Code
}

func TestReadinessFollowsRedisAndLivenessDoesNot(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	var parts everything
	startConfigured(t, brittleConfigOf(server), fx.Invoke(func(p everything) { parts = p }))
	parts.Notification.Subscribe(timeout(t), "workflow:*")
	h := parts.Health.Handler()
	eventually(t, "ready", func() bool { return status(h, "/readyz") == http.StatusOK })

	server.Kill()
	eventually(t, "not ready", func() bool { return status(h, "/readyz") == http.StatusServiceUnavailable })
	assert.Equal(t, http.StatusOK, status(h, "/livez"))

	server.Restart()
	eventually(t, "ready again", func() bool { return status(h, "/readyz") == http.StatusOK })
}

func TestChecksOfTheApplicationAreServedToo(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	var h *cache.Health
	startApp(t, server, fx.Populate(&h), fx.Supply(fx.Annotate(
		cache.Check{Name: "disk", Kind: health.Readiness, Func: func(context.Context) error { return errors.New("full") }},
		fx.ResultTags(`group:"`+cache.HealthGroup+`"`))))

	w := httptest.NewRecorder()
	h.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/readyz", nil))

	assert.Equal(t, http.StatusServiceUnavailable, w.Code)
	assert.Contains(t, w.Body.String(), "full")
	assert.True(t, json.Valid(w.Body.Bytes()))
}

func TestRegisterMetrics(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	reg := prometheus.NewPedanticRegistry()
	build := func() *uberfxtest.App {
		var parts everything
		app := uberfxtest.New(t, cache.Module, cache.WithConfig(configOf(server)), cache.RegisterMetrics,
			fx.Supply(fx.Annotate(reg, fx.As(new(prometheus.Registerer)))), fx.Invoke(func(p everything) { parts = p }))
		app.RequireStart()
		ctx := timeout(t)
		lock, err := parts.LockManager.Acquire(ctx, "x", time.Minute)
		require.NoError(t, err)
		require.NoError(t, lock.Release(ctx))
		require.NoError(t, parts.Notification.PublishTaskEvent(ctx, &cache.TaskEvent{ID: "t", WorkflowID: "w", Status: "s"}))
		return app
	}
	app := build()

	problems, err := testutil.GatherAndLint(reg)
	require.NoError(t, err)
	assert.Empty(t, problems)
	families, err := reg.Gather()
	require.NoError(t, err)
	assert.NotEmpty(t, families)

	app.RequireStop()
	families, err = reg.Gather()
	require.NoError(t, err)
	assert.Empty(t, families, "a stopped application leaves no collector behind")
	build().RequireStop() // so that it can start again
}

func TestRegisterMetricsNeedsARegisterer(t *testing.T) {
	t.Parallel()
	err := fx.New(fx.NopLogger, cache.Module, cache.WithConfig(&cache.Config{}), cache.RegisterMetrics).Err()
	require.ErrorContains(t, err, "prometheus.Registerer")
}
