package cache_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache"
	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/store"
)

// TestProbeCallsWhatScriptsCall finds a command that the scripts of locks, events and the store
// call, and the check of the start does not: the start would pass, and they fail.
func TestProbeCallsWhatScriptsCall(t *testing.T) {
	t.Parallel()
	optional := optionalCommands()
	probe, err := os.ReadFile("client/probe.lua")
	require.NoError(t, err)
	call := regexp.MustCompile(`redis\.p?call\s*\(\s*([^,)]+)`)
	scripts := 0
	for _, room := range []string{"lock", "notification", "store"} {
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
		"INFO":     "what it does not say counts as unknown",
		"CLUSTER":  "a server that does not say which node it is counts as unknown",
		"PUBSUB":   "its error counts as a server that has the subscriptions",
		"GETRANGE": "a value is read whole instead",
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
			cfg := &cache.Config{URL: "redis://app:pw@" + server.Addr(), PingTimeout: 15 * time.Second, StoreTimeout: patience}
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
			useStore(t, c.Store)
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
				Cluster: true, Addrs: cluster.Addrs(), Username: "app", Password: "pw", PingTimeout: 15 * time.Second, StoreTimeout: patience,
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
			useStore(t, c.Store)
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

// useStore calls all that a store does.
func useStore(t *testing.T, s *cache.Store) {
	t.Helper()
	ctx := timeout(t)
	flows, err := store.NewState[string](s, "flows", cache.WithTTL(time.Minute), store.WithSliding())
	require.NoError(t, err)
	_, err = flows.Create(ctx, "f", "new", cache.WithFence(1))
	require.NoError(t, err)
	require.NoError(t, flows.Touch(ctx, "f", time.Second))
	_, err = flows.Get(ctx, "f") // and extends it
	require.NoError(t, err)
	_, err = flows.Update(ctx, "f", func(v *string) error { *v = "running"; return nil })
	require.NoError(t, err)
	for _, err := range flows.List(ctx, "") {
		require.NoError(t, err)
	}
	require.NoError(t, flows.Delete(ctx, "f", cache.WithFence(2)))

	users, err := store.NewCache[string](s, "users")
	require.NoError(t, err)
	other, err := store.NewCache[string](s, "users") // loads for itself, as another process does
	require.NoError(t, err)
	loading, finish, loaded := make(chan struct{}), make(chan struct{}), make(chan error, 2)
	load := func(c *cache.StoreCache[string], loader func(context.Context) (string, error)) {
		_, err := c.GetOrLoad(ctx, "7", loader)
		loaded <- err
	}
	go load(users, func(context.Context) (string, error) { close(loading); <-finish; return "Ann", nil })
	<-loading
	go load(other, func(context.Context) (string, error) { return "", errors.New("loads twice") })
	waits := regexp.MustCompile(`cache_store_lease_waits_total\{[^}]*\} 1`)
	eventually(t, "the other waits", func() bool { return waits.MatchString(metricsOf(t, s)) })
	close(finish)
	require.NoError(t, <-loaded)
	require.NoError(t, <-loaded)
	_, err = users.LoadMany(ctx, []string{"7", "8", "9"}, func(_ context.Context, keys []string) (map[string]string, error) {
		return map[string]string{keys[0]: "Bob"}, nil
	})
	require.NoError(t, err)
	_, err = users.GetMany(ctx, []string{"7", "8"})
	require.NoError(t, err)
	_, err = users.GetOrLoad(ctx, "10", func(context.Context) (string, error) { return "", errors.New("no database") })
	require.ErrorContains(t, err, "no database")
	require.NoError(t, users.Set(ctx, "7", "Bob"))
	require.NoError(t, users.Delete(ctx, "7", "8"))
}

// metricsOf returns the metrics of a store as text.
func metricsOf(t *testing.T, s *cache.Store) string {
	t.Helper()
	registry := prometheus.NewRegistry()
	require.NoError(t, registry.Register(s.Collector()))
	w := httptest.NewRecorder()
	promhttp.HandlerFor(registry, promhttp.HandlerOpts{}).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", http.NoBody))
	return w.Body.String()
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
