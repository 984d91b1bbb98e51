package cache_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/compozy/cache"
	"github.com/compozy/cache/internal/redistest"
)

// TestProbeCallsWhatScriptsCall finds a command that the scripts of locks and events
// call, and the check of the start does not: the start would pass, and they fail.
func TestProbeCallsWhatScriptsCall(t *testing.T) {
	t.Parallel()
	optional := map[string]string{
		"INFO":   "what it does not say counts as unknown",
		"PUBSUB": "its error counts as a server that has the subscriptions",
	}
	probe, err := os.ReadFile("client/probe.lua")
	require.NoError(t, err)
	call := regexp.MustCompile(`redis\.p?call\s*\(\s*([^,)]+)`)
	scripts := 0
	for _, room := range []string{"lock", "notification"} {
		require.NoError(t, filepath.WalkDir(room, func(path string, _ os.DirEntry, err error) error {
			if err != nil || filepath.Ext(path) != ".lua" {
				return err
			}
			scripts++
			source, err := os.ReadFile(path)
			require.NoError(t, err)
			for _, found := range call.FindAllStringSubmatch(string(source), -1) {
				name := strings.Trim(found[1], `'"`)
				require.NotEqual(t, name, found[1], "%s calls what this test cannot read: %s", path, found[0])
				if optional[name] == "" {
					require.Contains(t, string(probe), "try('"+name+"'", path)
				}
			}
			return nil
		}))
	}
	require.Greater(t, scripts, 10)
}

// TestDocumentedPermissionsAreEnough uses what the package comment of client names, with
// the channels of the events, to lock, publish and subscribe.
func TestDocumentedPermissionsAreEnough(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("client/doc.go")
	require.NoError(t, err)
	rules := []any{"acl", "setuser", "app", "reset", "resetchannels", "on", ">pw", "~cache:*", "&cache:*", "&workflow:*", "&task:*"}
	for _, line := range regexp.MustCompile(`(?m)^//\t(\+.*)$`).FindAllStringSubmatch(string(doc), -1) {
		for rule := range strings.FieldsSeq(line[1]) {
			rules = append(rules, rule)
		}
	}
	rules = append(rules, "+unsubscribe", "+punsubscribe", "+ping")
	server := redistest.Start(t)
	require.NoError(t, server.Client(t).Do(t.Context(), rules...).Err())
	ctx := timeout(t)
	c, err := cache.SetupCache(ctx, &cache.Config{URL: "redis://app:pw@" + server.Addr(), PingTimeout: 15 * time.Second})
	require.NoError(t, err)
	defer c.Close()
	require.NoError(t, c.HealthCheck(ctx))

	lock, err := c.LockManager.Acquire(ctx, "job", time.Minute)
	require.NoError(t, err)
	waiting := make(chan error, 1)
	go func() {
		next, err := c.LockManager.(*cache.RedisLockManager).AcquireWait(ctx, "job", time.Minute)
		if err == nil {
			err = next.Release(ctx)
		}
		waiting <- err
	}()
	key := "cache:lock:{job}:queue"
	require.Eventually(t, func() bool { return server.Client(t).Exists(ctx, key).Val() == 1 }, 15*time.Second, 10*time.Millisecond)
	require.NoError(t, lock.Refresh(ctx))
	require.NoError(t, lock.Release(ctx))
	require.NoError(t, <-waiting)

	sub := c.Notification.Subscribe(ctx, "workflow:*")
	defer sub.Close()
	require.NoError(t, c.Notification.PublishWorkflowEvent(ctx, &cache.WorkflowEvent{ID: "1", Status: "done"}))
	require.NoError(t, c.HealthCheck(ctx))
}
