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
)

// TestConsumePermissions consumes with what the package comments of client and notification name, and finds commands that
// the scripts of groups call and these do not name.
func TestConsumePermissions(t *testing.T) {
	t.Parallel()
	documented := documentedPermissions(t)
	doc, err := os.ReadFile("notification/doc.go")
	require.NoError(t, err)
	for _, line := range regexp.MustCompile(`(?m)^//\t(\+.*)$`).FindAllStringSubmatch(string(doc), -1) {
		documented = append(documented, line[1])
	}
	scripts, err := filepath.Glob("notification/internal/group/*.lua")
	require.NoError(t, err)
	require.Len(t, scripts, 4)
	for _, path := range scripts {
		source, err := os.ReadFile(path)
		require.NoError(t, err)
		for _, found := range regexp.MustCompile(`redis\.p?call\('([A-Z]+)'`).FindAllStringSubmatch(string(source), -1) {
			assert.Contains(t, strings.Fields(strings.Join(documented, " ")), "+"+strings.ToLower(found[1]), path)
		}
	}
	server := redistest.Start(t)
	grant(t, server, documented, "&cache:*", "&workflow:*")
	ctx, cancel := context.WithCancel(timeout(t))
	defer cancel()
	c, err := cache.SetupCache(ctx, &cache.Config{URL: "redis://app:pw@" + server.Addr(), PingTimeout: 15 * time.Second})
	require.NoError(t, err)
	defer c.Close()
	ready, handled, over := make(chan struct{}), make(chan int, 10), make(chan error, 1)
	go func() {
		over <- cache.Consume(ctx, c.Notification, "g", cache.WorkflowEvents, func(ctx context.Context, _ cache.WorkflowEvent) error {
			handled <- cache.AttemptFrom(ctx)
			if cache.AttemptFrom(ctx) == 1 {
				return assert.AnError
			}
			return cache.Permanent(assert.AnError)
		}, cache.WithReady(func() { close(ready) }), cache.WithBackoff(time.Millisecond, time.Second))
	}()
	<-ready
	require.NoError(t, c.Notification.PublishWorkflowEvent(ctx, &cache.WorkflowEvent{ID: "1", Status: "done"}))
	require.Equal(t, 1, <-handled)
	require.Equal(t, 2, <-handled)
	require.Eventually(t, func() bool { return c.Notification.(*cache.RedisNotificationSystem).GetMetrics().DeadLetters == 1 }, 15*time.Second, 10*time.Millisecond)
	cancel()
	require.NoError(t, <-over)
	letters := 0
	for letter, err := range c.Notification.(*cache.RedisNotificationSystem).DeadLetters(timeout(t), "g") {
		require.NoError(t, err)
		assert.Equal(t, assert.AnError.Error(), letter.Error)
		letters++
	}
	assert.Equal(t, 1, letters)
	requireNothingRefused(t, server)
}
