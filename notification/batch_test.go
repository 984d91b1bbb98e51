package notification

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
)

// TestBatchesAreBoundedInBytes: large events share no script with so many others that it would take long.
func TestBatchesAreBoundedInBytes(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client := server.Client(t)
	n, err := NewRedisNotificationSystem(client)
	require.NoError(t, err)
	t.Cleanup(func() { _ = n.Shutdown(context.Background()) })
	require.NoError(t, n.Publish(t.Context(), "k", struct{}{}))
	var sent sizes
	client.AddHook(&sent)
	value := func(bytes int) any { return map[string]string{"v": strings.Repeat("x", bytes)} }
	event := func(bytes int) Outgoing { return To("k", value(bytes)) }
	const third = maxBatchBytes / 3

	require.NoError(t, n.PublishBatch(t.Context(),
		event(third), event(third), event(third), event(1), event(2*maxBatchBytes), event(1), event(1)))
	assert.Equal(t, []int{2, 2, 1, 2}, sent.events)

	// The same for events of many callers.
	sent.events = nil
	server.Stop()
	var all sync.WaitGroup
	callers := 0
	require.Eventually(t, func() bool { // another one each time
		callers++
		all.Go(func() { assert.NoError(t, n.Publish(context.Background(), "k", value(third))) })
		return n.publisher.queue.Waiting() >= 10
	}, 10*time.Second, time.Millisecond)
	server.Continue()
	all.Wait()
	total := 0
	for _, events := range sent.events {
		assert.LessOrEqual(t, events, 2)
		total += events
	}
	assert.GreaterOrEqual(t, total, callers)
	assert.Contains(t, sent.events, 2)
}

// TestEventsGivenUpAreForgotten: callers with deadlines may come and go while Redis does not answer.
func TestEventsGivenUpAreForgotten(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client := server.Client(t)
	n, err := NewRedisNotificationSystem(client)
	require.NoError(t, err)
	t.Cleanup(func() { _ = n.Shutdown(context.Background()) })
	require.NoError(t, n.Publish(t.Context(), "k", struct{}{}))
	server.Stop()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var all, others sync.WaitGroup
	published := 1
	require.Eventually(t, func() bool { // another one each time, until all pipelines are busy
		published++
		all.Go(func() { assert.NoError(t, n.Publish(context.Background(), "k", struct{}{})) })
		return n.publisher.queue.Waiting() > 0
	}, 10*time.Second, time.Millisecond)
	const many = 1000
	require.Less(t, published, many)
	for range many {
		others.Go(func() { assert.ErrorIs(t, n.Publish(ctx, "k", struct{}{}), context.Canceled) })
	}
	require.Eventually(t, func() bool { return n.publisher.queue.Waiting() >= many }, 10*time.Second, time.Millisecond)
	cancel()
	others.Wait()
	assert.Less(t, n.publisher.queue.Waiting(), published, "callers that are still there")
	server.Continue()
	all.Wait()
	assert.EqualValues(t, published, client.XLen(t.Context(), n.keys.journal).Val())
}

// TestPanicOfAHookTakesNoPlace: callers who recover from it can go on, and so can all others.
func TestPanicOfAHookTakesNoPlace(t *testing.T) {
	t.Parallel()
	client := redistest.Start(t).Client(t)
	n, err := NewRedisNotificationSystem(client)
	require.NoError(t, err)
	t.Cleanup(func() { _ = n.Shutdown(context.Background()) })
	require.NoError(t, n.Publish(t.Context(), "k", struct{}{}))
	client.AddHook(redistest.Panics{})
	for range 10 {
		assert.Panics(t, func() { _ = n.Publish(redistest.PanicBefore(t.Context()), "k", struct{}{}) })
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	assert.NoError(t, n.Publish(ctx, "k", struct{}{}))
}

// sizes notes how many events each script was given.
type sizes struct {
	redistest.Hook

	mu     sync.Mutex
	events []int
}

func (h *sizes) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		events := 0
		for _, argument := range cmd.Args() {
			if text, ok := argument.(string); ok && strings.HasPrefix(text, openTime) {
				events++
			}
		}
		if events > 0 && cmd.Name() == "evalsha" {
			h.mu.Lock()
			h.events = append(h.events, events)
			h.mu.Unlock()
		}
		return next(ctx, cmd)
	}
}
