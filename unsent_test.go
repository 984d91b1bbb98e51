package cache_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache"
	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/store"
)

// TestNothingWasSent: whatever keeps connections from being opened, no command had an effect, and errors say no more than that.
func TestNothingWasSent(t *testing.T) {
	t.Parallel()
	const password = "pw"
	secured := []redistest.Option{redistest.WithTLS()}
	locked := []redistest.Option{redistest.WithPassword(password)}
	down := errors.New("is down")
	// write puts what a file holds into one of the test's own.
	write := func(t *testing.T, content string) string {
		t.Helper()
		path := filepath.Join(t.TempDir(), "file")
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
		return path
	}
	remove := func(t *testing.T, path string) { t.Helper(); require.NoError(t, os.Remove(path)) }
	authority := func(t *testing.T, s *redistest.Server) string {
		t.Helper()
		pem, err := os.ReadFile(s.CAFile())
		require.NoError(t, err)
		return string(pem)
	}
	for name, test := range map[string]struct {
		server []redistest.Option
		// prepare completes the configuration, and returns what breaks the way to the server.
		prepare func(t *testing.T, s *redistest.Server, cfg *cache.Config) (fail func())
		hook    func(broken *atomic.Bool) redis.Hook
	}{
		"credentials": {server: locked, prepare: func(_ *testing.T, _ *redistest.Server, cfg *cache.Config) func() {
			var sealed atomic.Bool
			cfg.Credentials = func(context.Context) (string, string, error) {
				if sealed.Load() {
					return "", "", down
				}
				return "", password, nil
			}
			return func() { sealed.Store(true) }
		}},
		"password file": {server: locked, prepare: func(t *testing.T, _ *redistest.Server, cfg *cache.Config) func() {
			t.Helper()
			cfg.PasswordFile = write(t, password)
			return func() { remove(t, cfg.PasswordFile) }
		}},
		"CA file": {server: secured, prepare: func(t *testing.T, s *redistest.Server, cfg *cache.Config) func() {
			t.Helper()
			cfg.TLSEnabled, cfg.TLSCAFile = true, write(t, authority(t, s))
			return func() { remove(t, cfg.TLSCAFile) }
		}},
		"another CA": {server: secured, prepare: func(t *testing.T, s *redistest.Server, cfg *cache.Config) func() {
			t.Helper()
			cfg.TLSEnabled, cfg.TLSCAFile = true, write(t, authority(t, s))
			return func() {
				other := authority(t, redistest.Start(t, secured...))
				require.NoError(t, os.WriteFile(cfg.TLSCAFile, []byte(other), 0o600))
			}
		}},
		"Dialer": {prepare: func(_ *testing.T, _ *redistest.Server, cfg *cache.Config) func() {
			var broken atomic.Bool
			cfg.Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
				if broken.Load() {
					return nil, down
				}
				return new(net.Dialer).DialContext(ctx, network, addr)
			}
			return func() { broken.Store(true) }
		}},
		"DialHook":                      {hook: func(broken *atomic.Bool) redis.Hook { return failingDials{err: down, broken: broken} }},
		"DialHook without a connection": {hook: func(broken *atomic.Bool) redis.Hook { return failingDials{broken: broken} }},
		"DialHook that times out": {hook: func(broken *atomic.Bool) redis.Hook {
			return failingDials{err: context.DeadlineExceeded, broken: broken}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t, test.server...)
			cfg := &cache.Config{Host: server.Host(), Port: server.Port(), DialTimeout: 2 * time.Second}
			fail := func() {}
			if test.prepare != nil {
				fail = test.prepare(t, server, cfg)
			}
			ctx := timeout(t)
			c, err := cache.SetupCache(ctx, cfg)
			require.NoError(t, err)
			t.Cleanup(func() { _ = c.Close() })
			if test.hook != nil {
				broken := new(atomic.Bool)
				c.Redis.AddHook(test.hook(broken))
				fail = func() { broken.Store(true) }
			}
			st, err := store.NewState[int](c.Store, "orders")
			require.NoError(t, err)

			fail()
			require.NoError(t, server.Client(t).Do(ctx, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes").Err())
			eventually(t, "no connection is left", func() bool { return c.Redis.Ping(ctx).Err() != nil })

			_, err = st.Create(ctx, "k", 1)
			require.ErrorIs(t, err, cache.ErrUnavailable)
			require.NotErrorIs(t, err, cache.ErrUncertain)
			err = c.Notification.PublishWorkflowEvent(ctx, &cache.WorkflowEvent{ID: "w", Status: "s"})
			var failed *cache.PublishError
			require.ErrorAs(t, err, &failed)
			assert.False(t, failed.Uncertain, "%v", err)
			_, err = c.LockManager.Acquire(ctx, "job", time.Second)
			require.Error(t, err)
			require.NoError(t, c.Close(), "no key can be left")
		})
	}
}

// failingDials is a hook whose dials return err, or nothing at all, once it is broken.
type failingDials struct {
	redistest.Hook

	err    error
	broken *atomic.Bool
}

func (h failingDials) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		if h.broken.Load() {
			return nil, h.err
		}
		return next(ctx, network, addr)
	}
}
