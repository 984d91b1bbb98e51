package notification_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/faultproxy"
	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/notification"
)

// TestPublishHeldUpInTheNetwork: an attempt that was given up reaches the server after its repetition. The kernel goes on
// sending what a closed connection has not delivered, so a partition that heals does this.
func TestPublishHeldUpInTheNetwork(t *testing.T) {
	t.Parallel()
	one := func(ctx context.Context, n *notification.RedisNotificationSystem) error {
		return n.Publish(ctx, "k", numbered{N: 1})
	}
	batch := func(ctx context.Context, n *notification.RedisNotificationSystem) error {
		return n.PublishBatch(ctx, notification.To("k", numbered{N: 1}), notification.To("k", numbered{N: 2}))
	}
	for name, test := range map[string]struct {
		publish func(ctx context.Context, n *notification.RedisNotificationSystem) error
		last    string // place in the journal
	}{
		"one": {one, ""}, "batch": {batch, ""},
		"one, the clock was set back": {one, "8000000000000-0"}, "batch, the clock was set back": {batch, "8000000000000-0"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t)
			proxy := faultproxy.New(t, server.Addr())
			client := redis.NewClient(&redis.Options{
				Addr: proxy.Addr(), PoolSize: 1, ReadTimeout: time.Second,
				Dialer:                   proxy.DialUndelayed,
				MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
			})
			t.Cleanup(func() { _ = client.Close() })
			n := newSystem(t, client)
			admin := server.Client(t)
			if test.last != "" {
				event := redis.XAddArgs{Stream: journalKey, ID: test.last, Values: []any{"k", "v"}}
				require.NoError(t, admin.XAdd(t.Context(), &event).Err())
			}
			before := admin.XLen(t.Context(), journalKey).Val()
			require.NoError(t, test.publish(t.Context(), n)) // the script is known, and the connection open
			length := admin.XLen(t.Context(), journalKey).Val()
			proxy.SetLatency(3 * time.Second)
			require.NoError(t, test.publish(t.Context(), n))
			require.Eventually(t, func() bool {
				return strings.Count(admin.ClientList(t.Context()).Val(), "\n") == len([]any{client, admin})
			}, patience, time.Millisecond, "what was held up has arrived, and the end of its connection behind it")
			assert.Equal(t, 2*length-before, admin.XLen(t.Context(), journalKey).Val(), "published once each time")
		})
	}
}

// The same for the first event of a system, which knows nothing of the server's clock yet.
func TestFirstPublishHeldUpInTheNetwork(t *testing.T) {
	t.Parallel()
	for name, count := range map[string]int{"one": 1, "batch": 3} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t)
			proxy := faultproxy.New(t, server.Addr())
			client := redis.NewClient(&redis.Options{
				Addr: proxy.Addr(), PoolSize: 1, ReadTimeout: 300 * time.Millisecond,
				Dialer:                   proxy.DialUndelayed,
				MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
			})
			t.Cleanup(func() { _ = client.Close() })
			batch := slices.Repeat([]notification.Outgoing{notification.To("k", struct{}{})}, count)
			require.NoError(t, newSystem(t, client).PublishBatch(t.Context(), batch...)) // the connection is open
			n := newSystem(t, client)
			proxy.SetLatency(800 * time.Millisecond)
			require.NoError(t, n.PublishBatch(t.Context(), batch...))
			admin := server.Client(t)
			require.Eventually(t, func() bool {
				return strings.Count(admin.ClientList(t.Context()).Val(), "\n") == len([]any{client, admin})
			}, patience, time.Millisecond, "what was held up has arrived, and the end of its connection behind it")
			assert.EqualValues(t, 2*count, admin.XLen(t.Context(), journalKey).Val(), "published once each time")
		})
	}
}
