package cache_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache"
	"github.com/compozy/cache/internal/redistest"
)

// TestSubscribersHearNothingOfTheModule lets locks, health checks and heartbeats of two key
// prefixes talk on one server, while somebody listens to everything there.
func TestSubscribersHearNothingOfTheModule(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	ctx := timeout(t)
	var all []*cache.Cache
	for _, prefix := range []string{"cache:", "other:"} {
		cfg := configOf(server)
		cfg.KeyPrefix = prefix
		c, err := cache.SetupCache(ctx, cfg)
		require.NoError(t, err)
		defer c.Close()
		all = append(all, c)
	}
	c := all[0]
	own, other := c.Notification.Subscribe(ctx, "*"), all[1].Notification.Subscribe(ctx, "*")
	raw := server.Client(t).PSubscribe(ctx, "*")
	defer raw.Close()
	_, err := raw.Receive(ctx)
	require.NoError(t, err)
	heard := raw.Channel()

	for _, c := range all {
		held, err := c.Locker.Acquire(ctx, "r", time.Minute)
		require.NoError(t, err)
		waited := make(chan error, 1)
		go func() {
			next, err := c.Locker.AcquireWait(ctx, "r", time.Minute)
			if err == nil {
				err = next.Release(ctx)
			}
			waited <- err
		}()
		admin, queue := server.Client(t), "*lock:{r}:queue"
		eventually(t, "the second waits", func() bool {
			return len(admin.Keys(ctx, queue).Val()) == 1 && len(admin.PubSubChannels(ctx, "*lock:inbox:*").Val()) > 0
		})
		require.NoError(t, held.Release(ctx))
		require.NoError(t, <-waited)
		require.NoError(t, c.HealthCheck(ctx))
	}
	require.NoError(t, c.Notification.PublishWorkflowEvent(ctx, &cache.WorkflowEvent{ID: "1"}))
	var inboxes, probes int
	for m := range heard {
		if strings.Contains(m.Channel, "lock:inbox:") {
			inboxes++
		}
		if strings.HasSuffix(m.Channel, "cache:probe") {
			probes++
		}
		if m.Channel == "workflow:1" {
			break
		}
	}
	require.GreaterOrEqual(t, inboxes, 2, "there was something to hear")
	require.Positive(t, probes)
	for sub, probes := range map[cache.Subscriber]string{own: "other:probe", other: "cache:probe"} {
		for m := range sub.Messages() {
			if m.Channel == "workflow:events" {
				break
			}
			// With another key prefix, an empty message could be anybody's.
			assert.Equal(t, probes, m.Channel)
			assert.Empty(t, m.Payload)
		}
	}
}
