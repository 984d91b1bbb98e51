package notification_test

import (
	"context"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/notification"
)

// A function of Consume that ends its goroutine, as FailNow of a test does, has failed: its event comes again, and its place
// is free.
func TestConsumeSurvivesFunctionsThatEndTheirGoroutine(t *testing.T) {
	t.Parallel()
	recorder := tracetest.NewSpanRecorder()
	tp := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder))
	n := newSystem(t, redistest.Start(t).Client(t), notification.WithTracerProvider(tp))
	w := newWork()
	stop := consume(t, n, "g", "k", func(ctx context.Context, v numbered) error {
		w.add(ctx, v)
		if v.N == 1 {
			runtime.Goexit()
		}
		return nil
	}, notification.WithMaxAttempts(2), notification.WithBackoff(10*time.Millisecond, 0))
	publish(t, n, "k", 1, 2)
	w.until(t, "not all was handled", func() bool { m := n.GetMetrics(); return m.DeadLetters == 1 && m.EventsConsumed == 1 })
	require.NoError(t, stop())
	assert.Equal(t, map[int]int{1: 2, 2: 1}, w.numbers())
	assert.EqualValues(t, 2, n.GetMetrics().HandlerErrors)
	for letter, err := range n.DeadLetters(t.Context(), "g") {
		require.NoError(t, err)
		assert.Equal(t, "notification: handler ended its goroutine", letter.Error)
	}
	processed := 0
	for _, s := range recorder.Ended() {
		if s.Name() == "process event" {
			processed++
		}
	}
	assert.Equal(t, 3, processed)
}

// Handle ends with the goroutine that called it, and leaves nothing behind.
func TestHandleEndsWithItsGoroutine(t *testing.T) {
	t.Parallel()
	n := newSystem(t, redistest.Start(t).Client(t))
	ready, over := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(over)
		_ = notification.Handle(context.Background(), n, "k", func(context.Context, numbered) error {
			runtime.Goexit()
			return nil
		}, notification.WithReady(func() { close(ready) }))
	}()
	<-ready
	publish(t, n, "k", 1, 1)
	<-over
	m := n.GetMetrics()
	assert.EqualValues(t, 1, m.HandlerErrors)
	assert.Zero(t, m.Subscribers)
	require.NoError(t, n.Shutdown(t.Context()))
}
