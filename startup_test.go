package cache_test

import (
	"net/http"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/fx"
	uberfxtest "go.uber.org/fx/fxtest"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/compozy/cache"
	"github.com/compozy/cache/internal/redistest"
)

// TestStartUpLineTellsWhatIsMissing starts applications that do not require Redis
// without the server, without a majority of the lock nodes, and without both. The
// one line that is logged says so, and readiness agrees with it.
func TestStartUpLineTellsWhatIsMissing(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		mainDown  bool
		nodesDown int // of three
		message   string
		missing   []string // the fields that tell
	}{
		"nothing":                   {message: "cache: started"},
		"a minority of lock nodes":  {nodesDown: 1, message: "cache: started"},
		"the server":                {mainDown: true, message: "cache: started without Redis, which is not required", missing: []string{"error"}},
		"a majority of lock nodes":  {nodesDown: 2, message: "cache: started without a majority of the lock nodes, which is not required", missing: []string{"lock_nodes_error"}},
		"the server and lock nodes": {mainDown: true, nodesDown: 3, message: "cache: started without Redis, which is not required", missing: []string{"error", "lock_nodes_error"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, nodes := redistest.Start(t), redistest.StartN(t, 3)
			no := false
			cfg := configOf(server)
			cfg.Required = &no
			for _, node := range nodes {
				cfg.LockNodes = append(cfg.LockNodes, node.Addr())
			}
			if test.mainDown {
				server.Kill()
			}
			for _, node := range nodes[:test.nodesDown] {
				node.Kill()
			}
			core, logs := observer.New(zap.InfoLevel)
			var parts everything
			app := uberfxtest.New(t, cache.Module, cache.WithConfig(cfg), fx.Invoke(func(p everything) { parts = p }),
				fx.Provide(func() *zap.Logger { return zap.New(core) }))
			app.RequireStart()
			t.Cleanup(app.RequireStop)

			lines := logs.All()
			require.Len(t, lines, 1)
			assert.Equal(t, test.message, lines[0].Message)
			fields := lines[0].ContextMap()
			for field, addr := range map[string]string{"error": server.Addr(), "lock_nodes_error": "lock node " + nodes[0].Addr()} {
				if slices.Contains(test.missing, field) {
					assert.Contains(t, fields[field], addr)
				} else {
					assert.NotContains(t, fields, field)
				}
			}
			ready := http.StatusOK
			if len(test.missing) > 0 {
				ready = http.StatusServiceUnavailable
				assert.Equal(t, zap.WarnLevel, lines[0].Level)
			}
			assert.Equal(t, ready, status(parts.Health.Handler(), "/readyz"))
		})
	}
}
