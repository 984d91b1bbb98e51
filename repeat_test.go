package cache_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/fx"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/compozy/cache"
	"github.com/compozy/cache/internal/redistest"
)

// TestAnOutageIsLoggedOnce counts the lines of a log during an outage in which many
// attempts of every kind fail, and while heartbeats are refused again and again.
func TestAnOutageIsLoggedOnce(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		options  []redistest.Option
		repeated []string
		kill     bool
	}{
		"outage": {kill: true, repeated: []string{"notification: connection lost, reconnecting", "lock: renewal failed"}},
		"heartbeats refused": {
			options: []redistest.Option{redistest.WithConfig("user", "app on >pw ~* +@all resetchannels &cache:probe &workflow:*")},
			repeated: []string{
				"notification: connection lost, reconnecting", "notification: subscription refused",
				"lock: waiters cannot hear of releases, and ask every two seconds until reconnected",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t, test.options...)
			cfg := brittleConfigOf(server)
			if !test.kill {
				cfg.URL = "redis://app:pw@" + server.Addr()
			}
			core, logs := observer.New(zap.DebugLevel)
			var parts everything
			startConfigured(t, cfg, fx.Provide(func() *zap.Logger { return zap.New(core) }), fx.Invoke(func(p everything) { parts = p }))
			ctx := timeout(t)
			parts.Notification.Subscribe(ctx, "workflow:*")
			_, err := parts.LockManager.Acquire(ctx, "job", time.Minute)
			require.NoError(t, err)
			lock, err := parts.LockManager.Acquire(ctx, "renewed", 3*time.Second)
			require.NoError(t, err)
			go func() { _, _ = parts.LockManager.(*cache.RedisLockManager).AcquireWait(ctx, "job", time.Minute) }()
			if test.kill {
				server.Kill()
			}
			for _, message := range test.repeated {
				eventually(t, message, func() bool { return logs.FilterMessage(message).Len() > 3 })
				visible := logs.FilterMessage(message).Filter(func(e observer.LoggedEntry) bool { return e.Level > zap.DebugLevel })
				assert.Equal(t, 1, visible.Len(), message)
			}
			if test.kill {
				<-lock.(*cache.RedisLock).Lost()
				server.Restart()
				eventually(t, "it is over", func() bool {
					return logs.FilterMessage("notification: connected").FilterLevelExact(zap.InfoLevel).Len() == 2
				})
			}
		})
	}
}
