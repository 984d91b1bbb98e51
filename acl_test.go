package cache_test

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache"
	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/store"
)

// TestGuidedPermissions does everything as the user that docs/operating.md makes: nothing is
// refused, and no command that it grants is one that is never sent.
func TestGuidedPermissions(t *testing.T) {
	t.Parallel()
	guide, err := os.ReadFile("docs/operating.md")
	require.NoError(t, err)
	block := regexp.MustCompile("(?s)<!-- acl:begin -->\n```text\n(.*)```\n<!-- acl:end -->").FindSubmatch(guide)
	require.NotNil(t, block)
	var user []any
	for word := range strings.FieldsSeq(strings.Replace(string(block[1]), "PASSWORD", "pw", 1)) {
		user = append(user, word)
	}

	server := redistest.Start(t)
	admin, ctx := server.Client(t), timeout(t)
	require.NoError(t, admin.Do(ctx, user...).Err())
	require.NoError(t, admin.ConfigResetStat(ctx).Err()) // and from here to the end admin does nothing
	c, err := cache.SetupCache(ctx, &cache.Config{
		URL: "redis://app:pw@" + server.Addr(), PingTimeout: 15 * time.Second, StoreTimeout: patience,
	})
	require.NoError(t, err)
	defer c.Close()
	require.NoError(t, c.HealthCheck(ctx))
	useLocks(t, c)
	useEvents(t, c)
	useGroup(t, c)
	useStore(t, c.Store)
	useNearCache(t, c.Store)
	require.NoError(t, c.HealthCheck(ctx))
	require.NoError(t, c.Close())

	stats, err := admin.Info(ctx, "commandstats").Result()
	require.NoError(t, err)
	refused, err := admin.ACLLog(ctx, 100).Result()
	require.NoError(t, err)
	for _, entry := range refused {
		if entry.Reason == "channel" && strings.HasPrefix(entry.Object, "cache:probe:") {
			continue // the glob of the check, which is granted only in these very words
		}
		assert.Fail(t, "refused", "%+v", entry)
	}
	// What scripts of groups call when something is wrong cannot be had here.
	rare := ""
	scripts, err := filepath.Glob("notification/internal/group/*.lua")
	require.NoError(t, err)
	for _, path := range scripts {
		source, err := os.ReadFile(path)
		require.NoError(t, err)
		rare += string(source)
	}
	granted := 0
	for _, word := range user {
		command, ok := strings.CutPrefix(word.(string), "+")
		if !ok {
			continue
		}
		granted++
		if !strings.Contains(rare, "call('"+strings.ToUpper(command)+"'") {
			assert.Contains(t, stats, "cmdstat_"+command+":", "+%s is of no use", command)
		}
	}
	assert.Greater(t, granted, 50)
}

// useLocks acquires, waits for, renews and releases a lock.
func useLocks(t *testing.T, c *cache.Cache) {
	t.Helper()
	ctx := timeout(t)
	manager, ok := c.LockManager.(*cache.RedisLockManager)
	require.True(t, ok)
	held, err := manager.Acquire(ctx, "job", time.Minute)
	require.NoError(t, err)
	waiting := make(chan error, 1)
	go func() {
		next, err := manager.AcquireWait(ctx, "job", time.Minute)
		if err == nil {
			err = next.Release(ctx)
		}
		waiting <- err
	}()
	eventually(t, "somebody waits", func() bool {
		info, err := manager.Inspect(ctx, "job")
		return err == nil && info.Waiting == 1
	})
	require.NoError(t, held.Refresh(ctx))
	require.NoError(t, held.Release(ctx))
	require.NoError(t, <-waiting)
}

// useEvents publishes, subscribes and reads the journal.
func useEvents(t *testing.T, c *cache.Cache) {
	t.Helper()
	ctx := timeout(t)
	system, ok := c.Notification.(*cache.RedisNotificationSystem)
	require.True(t, ok)
	sub := system.Subscribe(ctx, "workflow:*")
	require.NoError(t, system.PublishWorkflowEvent(ctx, &cache.WorkflowEvent{ID: "1", Status: "done"}))
	require.NoError(t, system.PublishTaskEvent(ctx, &cache.TaskEvent{ID: "1", WorkflowID: "1", Status: "done"}))
	first := <-sub.Messages()
	require.NoError(t, sub.Close())
	resumed := system.SubscribeFrom(ctx, "task:*", first.EventID)
	require.NotNil(t, <-resumed.Messages())
	require.NoError(t, resumed.Close())
	for _, err := range system.Replay(ctx, "*", "", "") {
		require.NoError(t, err)
	}
}

// useGroup has an event fail, come again, and become a dead letter.
func useGroup(t *testing.T, c *cache.Cache) {
	t.Helper()
	system, ok := c.Notification.(*cache.RedisNotificationSystem)
	require.True(t, ok)
	ctx, cancel := context.WithCancel(timeout(t))
	defer cancel()
	ready, over := make(chan struct{}), make(chan error, 1)
	go func() {
		over <- cache.Consume(ctx, system, "g", cache.WorkflowEvents, func(ctx context.Context, _ cache.WorkflowEvent) error {
			if cache.AttemptFrom(ctx) == 1 {
				return assert.AnError
			}
			return cache.Permanent(assert.AnError)
		}, cache.WithReady(func() { close(ready) }), cache.WithBackoff(time.Millisecond, time.Second))
	}()
	<-ready
	require.NoError(t, system.PublishWorkflowEvent(ctx, &cache.WorkflowEvent{ID: "2", Status: "done"}))
	eventually(t, "it is given up", func() bool { return system.GetMetrics().DeadLetters == 1 })
	cancel()
	require.NoError(t, <-over)
	for _, err := range system.DeadLetters(timeout(t), "g") {
		require.NoError(t, err)
	}
}

// useNearCache reads from the process, invalidates a tag and clears the cache.
func useNearCache(t *testing.T, s *cache.Store) {
	t.Helper()
	ctx := timeout(t)
	pages, err := store.NewCache[string](s, "pages", store.WithNear(100, time.Minute), store.WithTags("all"))
	require.NoError(t, err)
	load := func(context.Context) (string, error) { return "page", nil }
	eventually(t, "the near cache serves", func() bool {
		item, err := pages.GetOrLoadItem(ctx, "1", load)
		return err == nil && item.Source == cache.SourceNear
	})
	require.NoError(t, pages.InvalidateTag(ctx, "all"))
	require.NoError(t, pages.Set(ctx, "1", "other"))
	require.NoError(t, pages.Clear(ctx))
}
