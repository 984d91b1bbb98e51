package cache_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/fx"
	uberfxtest "go.uber.org/fx/fxtest"

	"github.com/compozy/cache"
	"github.com/compozy/cache/internal/redistest"
)

// TestApplicationSurvivesTheMaster kills the master under a running application:
// it becomes ready again by itself, locks and events go on.
func TestApplicationSurvivesTheMaster(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(t *testing.T) (cfg *cache.Config, kill func()){
		"Sentinel": func(t *testing.T) (*cache.Config, func()) {
			t.Helper()
			s := redistest.StartSentinel(t)
			return &cache.Config{MasterName: s.MasterName(), Addrs: s.Addrs()}, func() { s.KillMaster(t) }
		},
		"Cluster": func(t *testing.T) (*cache.Config, func()) {
			t.Helper()
			s := redistest.StartCluster(t, 3, redistest.WithReplicas(1))
			return &cache.Config{Cluster: true, Addrs: s.Addrs()}, func() { s.KillMasterOf(t, "{notification}") }
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg, kill := start(t)
			cfg.DialTimeout, cfg.ReadTimeout, cfg.WriteTimeout = time.Second, time.Second, time.Second
			cfg.PingTimeout = 3 * time.Second
			var parts everything
			app := uberfxtest.New(t, cache.Module, cache.WithConfig(cfg), fx.Invoke(func(p everything) { parts = p }))
			app.RequireStart()
			t.Cleanup(app.RequireStop)
			ctx := timeout(t)
			sub := parts.Notification.Subscribe(ctx, "workflow:w1")
			probes := parts.Health.Handler()
			eventually(t, "ready", func() bool { return status(probes, "/readyz") == http.StatusOK })

			kill()

			eventually(t, "ready again", func() bool { return status(probes, "/readyz") == http.StatusOK })
			assert.Equal(t, http.StatusOK, status(probes, "/livez"))
			eventually(t, "events are published", func() bool {
				return parts.Notification.PublishWorkflowEvent(ctx, &cache.WorkflowEvent{ID: "w1", Status: "after"}) == nil
			})
			msg := receive(ctx, t, sub)
			assert.Contains(t, msg.Payload, `"after"`)
			assert.NotNil(t, msg.Gap, "the new master may not have had everything")
			lock, err := parts.LockManager.Acquire(ctx, "after", time.Minute)
			require.NoError(t, err)
			require.NoError(t, lock.Release(ctx))
		})
	}
}
