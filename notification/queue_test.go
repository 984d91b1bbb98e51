package notification

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
)

// halting holds up what reads the journal to its end.
type halting struct {
	redistest.Hook

	on    atomic.Bool
	until chan struct{}
}

func (h *halting) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if h.on.Load() && slices.Contains(cmd.Args(), any(lastPosition().String())) {
			<-h.until
		}
		return next(ctx, cmd)
	}
}

// TestConnectionBehindAFullQueueIsNotDead: heartbeats cannot be seen while a recovery takes long and much is published.
func TestConnectionBehindAFullQueueIsNotDead(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client, admin := server.Client(t), server.Client(t)
	hook := &halting{until: make(chan struct{})}
	client.AddHook(hook)
	const events = 2 * queueSize
	history := WithHistory(2*events, 0)
	n, err := NewRedisNotificationSystem(client, history, WithBufferSize(2*events), WithHeartbeat(500*time.Millisecond))
	require.NoError(t, err)
	t.Cleanup(func() { _ = n.Shutdown(context.Background()) })
	outside, err := NewRedisNotificationSystem(admin, history)
	require.NoError(t, err)
	t.Cleanup(func() { _ = outside.Shutdown(context.Background()) })
	s, ok := n.Subscribe(t.Context(), "k").(*Subscription)
	require.True(t, ok)
	require.NoError(t, outside.Publish(t.Context(), "k", struct{}{}))
	<-s.Messages()

	hook.on.Store(true)
	require.NoError(t, admin.Do(t.Context(), "client", "kill", "type", "pubsub").Err())
	require.Eventually(t, func() bool {
		return len(admin.PubSubChannels(t.Context(), n.keys.heartbeat+"*").Val()) == 1 && n.metrics.reconnects.Load() == 1
	}, 15*time.Second, time.Millisecond)
	beats := admin.PSubscribe(t.Context(), n.keys.heartbeat+"*")
	t.Cleanup(func() { _ = beats.Close() })
	_, err = beats.Receive(t.Context())
	require.NoError(t, err)
	require.NoError(t, outside.PublishBatch(t.Context(), slices.Repeat([]Outgoing{To("k", struct{}{})}, events)...))
	require.Eventually(t, func() bool { return len(n.pump.queue) == queueSize }, 15*time.Second, time.Millisecond)
	for range 3 * deadAfter {
		_, err = beats.ReceiveMessage(t.Context())
		require.NoError(t, err)
	}
	hook.on.Store(false)
	close(hook.until)
	require.Eventually(t, func() bool { return len(s.Messages()) == events }, 15*time.Second, time.Millisecond)
	assert.EqualValues(t, 1, n.metrics.reconnects.Load())
	assert.Empty(t, s.Gaps())
}

// TestTimeBehindAFullQueueIsNotCounted: but all other time without a heartbeat is, however often the queue is full.
func TestTimeBehindAFullQueueIsNotCounted(t *testing.T) {
	t.Parallel()
	for name, blocked := range map[string]time.Duration{"for moments": time.Millisecond, "for long": time.Minute} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				p := &pump{queue: make(chan item)}
				ended := make(chan struct{})
				s := &session{dog: time.AfterFunc(time.Hour, func() { close(ended) })}
				s.watch(time.Second)
				for range 9 {
					time.Sleep(100 * time.Millisecond) // in a bubble
					time.AfterFunc(blocked, func() { <-p.queue })
					p.enqueue(item{session: s})
				}
				select {
				case <-ended:
					require.Fail(t, "too early")
				default:
				}
				left := time.Now()
				<-ended
				assert.Equal(t, 100*time.Millisecond, time.Since(left))
			})
		})
	}
}
