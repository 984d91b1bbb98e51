package notification_test

import (
	"context"
	"iter"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/notification"
)

func TestMain(m *testing.M) {
	if addr := os.Getenv(memberEnv); addr != "" {
		beMember(addr)
		return
	}
	if config := os.Getenv(partyEnv); config != "" {
		beParty(config)
		return
	}
	redistest.VerifyTestMain(m)
}

// patience is how long a test waits for what should take milliseconds, on a busy machine.
const patience = 20 * time.Second

// newSystem returns a system that is closed when the test ends. By default it has time to subscribe on a busy machine.
func newSystem(tb testing.TB, client redis.UniversalClient, opts ...notification.Option) *notification.RedisNotificationSystem {
	tb.Helper()
	opts = append([]notification.Option{notification.WithPingTimeout(5 * time.Second)}, opts...)
	n, err := notification.NewRedisNotificationSystem(client, opts...)
	require.NoError(tb, err)
	tb.Cleanup(func() {
		// Tests leave messages unread on purpose; none of them should wait for that.
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = n.Shutdown(ctx)
	})
	return n
}

// health returns what HealthCheck says at once.
func health(n *notification.RedisNotificationSystem) error {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return n.HealthCheck(ctx)
}

// subscribe returns a subscription that Redis has confirmed.
func subscribe(tb testing.TB, n *notification.RedisNotificationSystem, pattern string) *notification.Subscription {
	tb.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	tb.Cleanup(cancel)
	s, ok := n.Subscribe(ctx, pattern).(*notification.Subscription)
	require.True(tb, ok)
	require.NoError(tb, s.Err())
	return s
}

// next returns the next message of a subscription.
func next(tb testing.TB, s notification.Subscriber) *notification.Message {
	tb.Helper()
	select {
	case m, ok := <-s.Messages():
		require.True(tb, ok, "the subscription was closed")
		return m
	case <-time.After(patience):
		require.FailNow(tb, "no message")
		return nil
	}
}

// empty asserts that nothing is buffered.
func empty(tb testing.TB, s notification.Subscriber) {
	tb.Helper()
	select {
	case m, ok := <-s.Messages():
		require.Failf(tb, "unexpected message", "%+v (open: %v)", m, ok)
	default:
	}
}

func splitLines(s string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for line := range strings.Lines(s) {
			if strings.TrimSpace(line) != "" && !yield(line) {
				return
			}
		}
	}
}
