package notification_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/notification"
)

// Publishing is a span, and so is each call of a function, which belongs to the publisher's trace and links to its span.
func TestSpansOfPublishersAndHandlers(t *testing.T) {
	t.Parallel()
	recorder := tracetest.NewSpanRecorder()
	tp := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder))
	client := redistest.Start(t).Client(t)
	n := newSystem(t, client, notification.WithTracerProvider(tp))
	w := newWork()
	fail := func(ctx context.Context, v numbered) error {
		assert.True(t, trace.SpanContextFromContext(ctx).IsValid())
		assert.False(t, trace.SpanContextFromContext(ctx).IsRemote(), "the function's own span")
		w.add(ctx, v)
		if v.N == 2 {
			return errors.New("secret")
		}
		return nil
	}
	consume(t, n, "g", "task:*", fail, notification.WithMaxAttempts(1))
	ready, ctx, done := make(chan struct{}), t.Context(), make(chan error, 1)
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		done <- notification.Handle(ctx, n, "other", fail, notification.WithReady(func() { close(ready) }))
	}()
	<-ready
	require.NoError(t, n.Publish(t.Context(), "task:1", numbered{1}))
	require.NoError(t, n.Publish(t.Context(), "task:2", numbered{2}))
	require.NoError(t, n.PublishBatch(t.Context(), notification.To("other", numbered{3}), notification.To("none", numbered{4})))
	require.Error(t, n.Publish(t.Context(), "", numbered{5}))
	w.first(t, 3)
	w.until(t, "not all spans have ended", func() bool { return len(recorder.Ended()) >= 6 })
	cancel()
	require.NoError(t, <-done)

	producers, consumers := make(map[string]sdktrace.ReadOnlySpan), make(map[string]sdktrace.ReadOnlySpan)
	for _, s := range recorder.Ended() {
		set := attribute.NewSet(s.Attributes()...)
		channel, _ := set.Value("messaging.destination.name")
		switch s.SpanKind() {
		case trace.SpanKindProducer:
			producers[s.Name()+" "+channel.AsString()] = s
		case trace.SpanKindConsumer:
			consumers[s.Name()+" "+channel.AsString()] = s
		default:
			assert.Fail(t, "a span of another kind", s.Name())
		}
	}
	for consumer, producer := range map[string]string{
		"process task task:1": "publish task task:1", "process task task:2": "publish task task:2",
		"process event other": "publish batch ",
	} {
		require.Contains(t, consumers, consumer)
		require.Contains(t, producers, producer)
		c, p := consumers[consumer], producers[producer]
		assert.Equal(t, p.SpanContext().TraceID(), c.SpanContext().TraceID())
		assert.Equal(t, p.SpanContext().SpanID(), c.Parent().SpanID())
		require.Len(t, c.Links(), 1)
		assert.Equal(t, p.SpanContext().SpanID(), c.Links()[0].SpanContext.SpanID())
	}
	attributes := func(s sdktrace.ReadOnlySpan, except ...attribute.Key) []attribute.KeyValue {
		return slices.DeleteFunc(s.Attributes(), func(a attribute.KeyValue) bool { return slices.Contains(except, a.Key) })
	}
	redis := semconv.MessagingSystemKey.String("redis")
	assert.ElementsMatch(t, []attribute.KeyValue{
		redis, semconv.MessagingOperationName("publish"), semconv.MessagingOperationTypeSend, semconv.MessagingDestinationName("task:1"),
	}, attributes(producers["publish task task:1"]))
	assert.ElementsMatch(t, []attribute.KeyValue{
		redis, semconv.MessagingOperationName("publish"), semconv.MessagingOperationTypeSend, semconv.MessagingBatchMessageCount(2),
	}, attributes(producers["publish batch "]))
	assert.ElementsMatch(t, []attribute.KeyValue{
		redis, semconv.MessagingOperationName("process"), semconv.MessagingOperationTypeProcess,
		semconv.MessagingDestinationName("task:2"), semconv.MessagingConsumerGroupName("g"), semconv.ErrorTypeKey.String("*errors.errorString"),
	}, attributes(consumers["process task task:2"], semconv.MessagingMessageIDKey))
	handled := attribute.NewSet(consumers["process event other"].Attributes()...)
	id, _ := handled.Value(semconv.MessagingMessageIDKey)
	assert.NotEmpty(t, id.AsString())
	failed := consumers["process task task:2"].Status()
	assert.Equal(t, sdktrace.Status{Code: codes.Error, Description: "failed"}, failed)
	assert.Len(t, producers, 3)
}

// The function given as WithReady is called before an event is handled, and what is published by it is.
func TestHandleIsReadyBeforeItsFirstEvent(t *testing.T) {
	t.Parallel()
	client := redistest.Start(t).Client(t)
	n := newSystem(t, client, notification.WithChannelPrefix("staging:"))
	w, order := newWork(), make(chan string, 2)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- notification.Handle(ctx, n, "k", func(ctx context.Context, v numbered) error {
			order <- "event"
			return w.handled(ctx, v)
		}, notification.WithReady(func() {
			assert.NoError(t, client.Publish(t.Context(), "staging:k", `{"n":1}`).Err())
			order <- "ready"
		}))
	}()
	assert.Equal(t, "ready", <-order)
	assert.Equal(t, "event", <-order)
	cancel()
	require.NoError(t, <-done)
	refusedReady := false
	require.Error(t, notification.Handle(t.Context(), n, "", w.handled, notification.WithReady(func() { refusedReady = true })))
	assert.False(t, refusedReady)
	var wrong *notification.ArgumentError
	require.ErrorAs(t, notification.Handle(t.Context(), n, "k", w.handled, nil), &wrong)
}

// A group sees channels without the prefix, as publishers do.
func TestConsumeWithAChannelPrefix(t *testing.T) {
	t.Parallel()
	client := redistest.Start(t).Client(t)
	n := newSystem(t, client, notification.WithChannelPrefix("staging:"))
	other := newSystem(t, client)
	w := newWork()
	consume(t, n, "g", "k*", func(ctx context.Context, v numbered) error {
		m, _ := notification.MessageFrom(ctx)
		assert.Equal(t, "k1", m.Channel)
		assert.Equal(t, "k*", m.Pattern)
		return w.handled(ctx, v)
	})
	publish(t, other, "k1", 5, 5)
	publish(t, n, "k1", 1, 2)
	w.first(t, 2)
	assert.NotContains(t, w.numbers(), 5)
}
