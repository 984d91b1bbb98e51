package notification_test

import (
	"context"
	"iter"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/compozy/cache/notification"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what should take milliseconds, on a busy machine.
const patience = 20 * time.Second

// newSystem returns a system that is closed when the test ends.
func newSystem(t testing.TB, client redis.UniversalClient, opts ...notification.Option) *notification.RedisNotificationSystem {
	t.Helper()
	n, err := notification.NewRedisNotificationSystem(client, opts...)
	require.NoError(t, err)
	t.Cleanup(func() {
		// Tests leave messages unread on purpose; none of them should wait for that.
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = n.Shutdown(ctx)
	})
	return n
}

// subscribe returns a subscription that Redis has confirmed.
func subscribe(t testing.TB, n *notification.RedisNotificationSystem, pattern string) *notification.Subscription {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	s, ok := n.Subscribe(ctx, pattern).(*notification.Subscription)
	require.True(t, ok)
	require.NoError(t, s.Err())
	return s
}

// next returns the next message of a subscription.
func next(t testing.TB, s notification.Subscriber) *notification.Message {
	t.Helper()
	select {
	case m, ok := <-s.Messages():
		require.True(t, ok, "the subscription was closed")
		return m
	case <-time.After(patience):
		require.FailNow(t, "no message")
		return nil
	}
}

// empty asserts that nothing is buffered.
func empty(t testing.TB, s notification.Subscriber) {
	t.Helper()
	select {
	case m, ok := <-s.Messages():
		require.Failf(t, "unexpected message", "%+v (open: %v)", m, ok)
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
