package cache_test

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/fx"
	uberfxtest "go.uber.org/fx/fxtest"

	"github.com/compozy/cache"
	"github.com/compozy/cache/internal/redistest"
)

// patience bounds every wait of these tests. It is long, as the tests of all
// packages share the machine; nothing waits for it to pass.
const patience = 20 * time.Second

// startBudget is for starts that must fail, of which they use half. The other half is
// for a busy machine.
const startBudget = 6 * time.Second

func TestMain(m *testing.M) {
	if os.Getenv(holderEnv) != "" {
		holdInProcess()
		return
	}
	if os.Getenv(quietEnv) != "" {
		runQuietly()
		return
	}
	redistest.VerifyTestMain(m)
}

// configOf is a configuration for a server of the test's own. Its timeouts are
// short, so that a stopped server is noticed soon. Not so that of a health check: a
// server that works may need long to say so.
func configOf(s *redistest.Server) *cache.Config {
	return &cache.Config{
		URL: s.URL(), DialTimeout: time.Second, ReadTimeout: time.Second, WriteTimeout: time.Second,
		PingTimeout: patience, StoreTimeout: patience,
	}
}

// brittleConfigOf is configOf for a server that goes away under subscribers: health
// checks wait for so long that their connection comes back.
func brittleConfigOf(s *redistest.Server) *cache.Config {
	cfg := configOf(s)
	cfg.PingTimeout = time.Second
	return cfg
}

// startApp starts an application with the module on s, and stops it when the
// test is over.
func startApp(t *testing.T, s *redistest.Server, opts ...fx.Option) {
	t.Helper()
	startConfigured(t, configOf(s), opts...)
}

// startConfigured is startApp for a configuration of the test's own.
func startConfigured(t *testing.T, cfg *cache.Config, opts ...fx.Option) {
	t.Helper()
	app := uberfxtest.New(t, append([]fx.Option{cache.Module, cache.WithConfig(cfg)}, opts...)...)
	app.RequireStart()
	t.Cleanup(func() { app.RequireStop() })
}

// timeout is a context for one call.
func timeout(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	require.Eventually(t, condition, patience, 5*time.Millisecond, what)
}
