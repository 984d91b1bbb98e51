package publisher

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
	p := newPublisher(client, func(s *Settings) { s.MaxEventSize *= 4 })
	require.NoError(t, publish(t, p, "k", 1, 0))
	var sent sizes
	client.AddHook(&sent)
	const third = maxBatchBytes / 3
	var all []*Event
	for _, bytes := range []int{third, third, third, 1, 2 * maxBatchBytes, 1, 1} {
		all = append(all, events(t, p, "k", 1, bytes)...)
	}
	require.NoError(t, send(t.Context(), p, all))
	assert.Equal(t, []int{2, 2, 1, 2}, sent.events)

	// The same for events of many callers.
	sent.events = nil
	server.Stop()
	var callersDone sync.WaitGroup
	callers := 0
	require.Eventually(t, func() bool { // another one each time
		callers++
		one := events(t, p, "k", 1, third)[0]
		callersDone.Go(func() { assert.NoError(t, p.Publish(context.Background(), one)) })
		return p.queue.Waiting() >= 10
	}, 10*time.Second, time.Millisecond)
	server.Continue()
	callersDone.Wait()
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
	client := impatient(t, server.Addr(), patience, func(o *redis.Options) { o.PoolSize = 10 })
	p := newPublisher(client)
	require.NoError(t, publish(t, p, "k", 1, 0))
	var commands sent
	client.AddHook(&commands)
	server.Stop()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var all, others sync.WaitGroup
	published := 1
	require.Eventually(t, func() bool { // another one each time, until all pipelines are busy
		published++
		one := events(t, p, "k", 1, 0)[0]
		all.Go(func() { assert.NoError(t, p.Publish(context.Background(), one)) })
		return commands.count() == maxPipelines
	}, 10*time.Second, time.Millisecond)
	const many = 1000
	require.Less(t, published, many)
	for range many {
		one := events(t, p, "k", 1, 0)[0]
		others.Go(func() { assert.ErrorIs(t, p.Publish(ctx, one), context.Canceled) })
	}
	require.Eventually(t, func() bool { return p.queue.Waiting() >= many }, 10*time.Second, time.Millisecond)
	cancel()
	others.Wait()
	assert.Less(t, p.queue.Waiting(), published, "callers that are still there")
	server.Continue()
	all.Wait()
	assert.Equal(t, published, length(t, client, p))
}

// TestPanicOfAHookTakesNoPlace: callers who recover from it can go on, and so can all others.
func TestPanicOfAHookTakesNoPlace(t *testing.T) {
	t.Parallel()
	client := redistest.Start(t).Client(t)
	p := newPublisher(client)
	require.NoError(t, publish(t, p, "k", 1, 0))
	client.AddHook(redistest.Panics{})
	for range 10 {
		one := events(t, p, "k", 1, 0)[0]
		assert.Panics(t, func() { _ = p.Publish(redistest.PanicBefore(t.Context()), one) })
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	assert.NoError(t, p.Publish(ctx, events(t, p, "k", 1, 0)[0]))
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
			if text, ok := argument.(string); ok && strings.HasPrefix(text, `"time":"`) {
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
