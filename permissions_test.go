package cache_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
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
	optional := optionalCommands()
	probe, err := os.ReadFile("client/probe.lua")
	require.NoError(t, err)
	call := regexp.MustCompile(`redis\.p?call\s*\(\s*([^,)]+)`)
	scripts := 0
	for _, room := range []string{"lock", "notification"} {
		require.NoError(t, filepath.WalkDir(room, func(path string, _ os.DirEntry, err error) error {
			if err != nil || filepath.Ext(path) != ".lua" {
				return err
			}
			if filepath.Base(filepath.Dir(path)) == "group" {
				return nil // not everybody needs them: see TestConsumePermissions
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

// optionalCommands are those that an ACL may refuse.
func optionalCommands() map[string]string {
	return map[string]string{
		"INFO":    "what it does not say counts as unknown",
		"CLUSTER": "a server that does not say which node it is counts as unknown",
		"PUBSUB":  "its error counts as a server that has the subscriptions",
	}
}

// TestDocumentedPermissionsAreEnough uses what the package comment of client names, with
// the channels of the events, to lock, publish and subscribe.
func TestDocumentedPermissionsAreEnough(t *testing.T) {
	t.Parallel()
	documented := documentedPermissions(t)
	require.Greater(t, len(documented), 3)
	for name, onNode := range map[string]bool{"one server": false, "lock node": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t)
			grant(t, server, documented, "&cache:*", "&workflow:*", "&task:*")
			locking := server
			cfg := &cache.Config{URL: "redis://app:pw@" + server.Addr(), PingTimeout: 15 * time.Second}
			if onNode {
				locking = redistest.Start(t)
				grant(t, locking, documented[:3], "&cache:lock:inbox:*")
				cfg.LockNodes = []string{locking.Addr()}
			}
			ctx := timeout(t)
			c, err := cache.SetupCache(ctx, cfg)
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
			admin := locking.Client(t)
			require.Eventually(t, func() bool {
				return admin.Exists(ctx, "cache:lock:{job}:queue").Val() == 1 && len(admin.PubSubChannels(ctx, "cache:lock:inbox:*").Val()) == 1
			}, 15*time.Second, 10*time.Millisecond)
			require.NoError(t, lock.Refresh(ctx))
			require.NoError(t, lock.Release(ctx))
			require.NoError(t, <-waiting)

			sub := c.Notification.Subscribe(ctx, "workflow:*")
			require.NoError(t, c.Notification.PublishWorkflowEvent(ctx, &cache.WorkflowEvent{ID: "1", Status: "done"}))
			require.NoError(t, sub.Close())
			require.NoError(t, c.HealthCheck(ctx))
			require.NoError(t, c.Close())
			requireNothingRefused(t, server)
			requireNothingRefused(t, locking)
		})
	}
}

// TestDocumentedPermissionsAreEnoughInCluster does the same in a Cluster. It needs COMMAND,
// without which every command costs another one, and the start says so.
func TestDocumentedPermissionsAreEnoughInCluster(t *testing.T) {
	t.Parallel()
	documented := append(documentedPermissions(t), "+cluster|slots +ssubscribe")
	for name, more := range map[string]string{"all": "+command", "without COMMAND": ""} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cluster := redistest.StartCluster(t, 3)
			for _, server := range cluster.Nodes() {
				grant(t, server, append(slices.Clone(documented), more), "&cache:*", "&workflow:*", "&task:*")
				require.NoError(t, server.Client(t).ACLLogReset(t.Context()).Err())
			}
			ctx := timeout(t)
			c, err := cache.SetupCache(ctx, &cache.Config{
				Cluster: true, Addrs: cluster.Addrs(), Username: "app", Password: "pw", PingTimeout: 15 * time.Second,
			})
			require.NoError(t, err)
			defer c.Close()
			warned := strings.Contains(strings.Join(c.Redis.Warnings(), "\n"), "COMMAND is refused")
			require.Equal(t, more == "", warned, c.Redis.Warnings())

			lock, err := c.LockManager.Acquire(ctx, "job", time.Minute)
			require.NoError(t, err)
			require.NoError(t, lock.Refresh(ctx))
			require.NoError(t, lock.Release(ctx))
			sub := c.Notification.Subscribe(ctx, "workflow:*")
			require.NoError(t, c.Notification.PublishWorkflowEvent(ctx, &cache.WorkflowEvent{ID: "1", Status: "done"}))
			require.NoError(t, sub.Close())
			require.NoError(t, c.HealthCheck(ctx))
			require.NoError(t, c.Close())
			if more != "" {
				for _, server := range cluster.Nodes() {
					requireNothingRefused(t, server)
				}
			}
		})
	}
}

// documentedPermissions returns the rules that the package comment of client names, by line.
func documentedPermissions(t *testing.T) (lines []string) {
	t.Helper()
	doc, err := os.ReadFile("client/doc.go")
	require.NoError(t, err)
	for _, line := range regexp.MustCompile(`(?m)^//\t(\+.*)$`).FindAllStringSubmatch(string(doc), -1) {
		lines = append(lines, line[1])
	}
	return lines
}

// grant makes the user app, who has the rules of these lines and no others.
func grant(t *testing.T, server *redistest.Server, lines []string, channels ...string) {
	t.Helper()
	rules := []any{"acl", "setuser", "app", "reset", "resetchannels", "on", ">pw", "~cache:*"}
	for _, rule := range append(strings.Fields(strings.Join(lines, " ")), channels...) {
		rules = append(rules, rule)
	}
	require.NoError(t, server.Client(t).Do(t.Context(), rules...).Err())
}

// requireNothingRefused fails the test if the server has refused what is not optional.
func requireNothingRefused(t *testing.T, server *redistest.Server) {
	t.Helper()
	refused, err := server.Client(t).ACLLog(t.Context(), 100).Result()
	require.NoError(t, err)
	for _, entry := range refused {
		if entry.Reason == "channel" && strings.HasPrefix(entry.Object, "cache:probe:") {
			continue // the glob of the check, which is granted only in these very words
		}
		command, _, _ := strings.Cut(strings.ToUpper(entry.Object), "|")
		require.Contains(t, optionalCommands(), command, "%+v", entry)
	}
}
