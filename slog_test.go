package cache_test

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strings"
	"sync"
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

// lines is what a JSON handler wrote.
type lines struct {
	mu  sync.Mutex
	out bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.out.Write(p)
}

// started returns the start-up lines, without what differs from run to run.
func (l *lines) started(t *testing.T) []map[string]any {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	var found []map[string]any
	for line := range strings.Lines(l.out.String()) {
		entry := map[string]any{}
		require.NoError(t, json.Unmarshal([]byte(line), &entry))
		if entry["msg"] != "cache: started" {
			continue
		}
		source, _ := entry["source"].(map[string]any)
		assert.Contains(t, source["function"], "lifecycle")
		assert.NotEmpty(t, entry["time"])
		delete(entry, "source")
		delete(entry, "time")
		found = append(found, entry)
	}
	return found
}

// startLine is the start-up line of an instance.
func startLine(instance string, s *redistest.Server) map[string]any {
	return map[string]any{
		"level": "INFO", "msg": "cache: started", "cache": instance, "addr": s.Addr(), "tls": false, "tracing": false,
		"required": true, "lock_nodes": 0.0, "notification_history": 10000.0,
	}
}

// What would go to zap goes to slog, for all instances, and a *zap.Logger that the graph has gets none of it.
func TestWithSlog(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	var out lines
	log := slog.New(slog.NewJSONHandler(&out, &slog.HandlerOptions{AddSource: true}))
	core, zapped := observer.New(zap.DebugLevel)
	app := uberfxtest.New(t, cache.Module, cache.WithConfig(configOf(server)), cache.WithSlog(log), fx.Supply(zap.New(core)),
		cache.Named("sessions", cache.WithConfig(configOf(server))))
	app.RequireStart().RequireStop()
	assert.ElementsMatch(t, []map[string]any{startLine("default", server), startLine("sessions", server)}, out.started(t))
	assert.Zero(t, zapped.Len())
}

func TestSetupWithSlog(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	var out lines
	log := slog.New(slog.NewJSONHandler(&out, &slog.HandlerOptions{AddSource: true}))
	core, zapped := observer.New(zap.DebugLevel)
	c, err := cache.SetupCache(timeout(t), configOf(server), cache.SetupWithSlog(log), cache.SetupWithLogger(zap.New(core)))
	require.NoError(t, err)
	require.NoError(t, c.Close())
	assert.Equal(t, []map[string]any{startLine("default", server)}, out.started(t))
	assert.Zero(t, zapped.Len())
}

func TestSlogIsRefused(t *testing.T) {
	t.Parallel()
	for _, log := range []*slog.Logger{nil, {}} {
		err := fx.New(fx.NopLogger, cache.Module, cache.WithConfig(&cache.Config{}), cache.WithSlog(log)).Err()
		var wrong *cache.ArgumentError
		require.ErrorIs(t, err, cache.ErrInvalidOption)
		require.ErrorAs(t, err, &wrong)
		assert.Equal(t, "WithSlog", wrong.Argument)

		_, err = cache.SetupCache(timeout(t), &cache.Config{}, cache.SetupWithSlog(log))
		require.ErrorAs(t, err, &wrong)
		assert.Equal(t, "SetupWithSlog", wrong.Argument)
	}
	log := slog.New(slog.DiscardHandler)
	require.ErrorContains(t, fx.New(fx.NopLogger, cache.Module, cache.WithSlog(log), cache.WithSlog(log)).Err(), "use cache.WithSlog once")
	require.ErrorIs(t, fx.New(fx.NopLogger, cache.Named("sessions", cache.WithSlog(log))).Err(), cache.ErrInvalidOption)
}
