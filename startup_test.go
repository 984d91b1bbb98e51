package cache_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync/atomic"
	"testing"
	"time"

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
		missing   []string // the fields that say so
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

// TestStartWaitsForRedis brings the server, or the lock nodes, up after the start has
// found them down.
func TestStartWaitsForRedis(t *testing.T) {
	t.Parallel()
	for _, late := range []string{"server", "lock nodes"} {
		t.Run(late, func(t *testing.T) {
			t.Parallel()
			servers := redistest.StartN(t, 4)
			cfg := configOf(servers[0])
			for _, node := range servers[1:] {
				cfg.LockNodes = append(cfg.LockNodes, node.Addr())
			}
			down := servers[:1]
			if late == "lock nodes" {
				down = servers[2:] // two of three
			}
			for _, s := range down {
				s.Kill()
			}
			var refused atomic.Int64
			cfg.Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
				conn, err := new(net.Dialer).DialContext(ctx, network, addr)
				if err != nil {
					refused.Add(1)
				}
				return conn, err
			}
			var locks cache.LockManager
			app := uberfxtest.New(t, cache.Module, cache.WithConfig(cfg), fx.Populate(&locks))
			started := make(chan error, 1)
			go func() { started <- app.Start(timeout(t)) }()
			eventually(t, "the start has tried in vain", func() bool { return refused.Load() >= int64(len(down)) })

			for _, s := range down {
				s.Restart()
			}

			require.NoError(t, <-started)
			t.Cleanup(app.RequireStop)
			_, err := locks.Acquire(timeout(t), "job", time.Minute)
			require.NoError(t, err)
		})
	}
}

// TestWrongPasswordEndsTheStartAtOnce does not let the start wait for what time does
// not change, at the server and at the lock nodes.
func TestWrongPasswordEndsTheStartAtOnce(t *testing.T) {
	t.Parallel()
	servers := redistest.StartN(t, 3, redistest.WithPassword("right"))
	wrong := "redis://:hunter2@" + servers[1].Addr()
	for name, cfg := range map[string]*cache.Config{
		"server":     {URL: wrong},
		"lock nodes": {URL: servers[0].URL(), LockNodes: []string{wrong, servers[0].URL(), "redis://:hunter2@" + servers[2].Addr()}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
			defer cancel()
			began := time.Now()

			err := fx.New(fx.NopLogger, cache.Module, cache.WithConfig(cfg)).Start(ctx)

			require.ErrorIs(t, err, cache.ErrAuth)
			require.ErrorContains(t, err, servers[1].Addr())
			assert.NotContains(t, err.Error(), "hunter2")
			assert.Less(t, time.Since(began), patience, "and not after half of the budget")

			no := false
			optional := *cfg
			optional.Required = &no
			optional.PingTimeout = patience // a wrong password is answered at once
			core, logs := observer.New(zap.WarnLevel)
			uberfxtest.New(t, cache.Module, cache.WithConfig(&optional), fx.Provide(func() *zap.Logger { return zap.New(core) })).
				RequireStart().RequireStop()
			require.Equal(t, 1, logs.Len())
			said := fmt.Sprint(logs.All()[0].ContextMap())
			assert.Contains(t, said, cache.ErrAuth.Error())
			assert.NotContains(t, said, "hunter2")
		})
	}
}
