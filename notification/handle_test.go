package notification_test

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/trace"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/notification"
)

func TestHandleSurvivesEverythingButItsContext(t *testing.T) {
	t.Parallel()
	client := redistest.Start(t).Client(t)
	n := newSystem(t, client)
	ctx, cancel := context.WithCancel(t.Context())
	handled := make(chan int)
	done := make(chan error, 1)
	go func() {
		done <- notification.Handle(ctx, n, "k", func(ctx context.Context, v numbered) error {
			m, ok := notification.MessageFrom(ctx)
			assert.True(t, ok)
			assert.Equal(t, "k", m.Channel)
			assert.Equal(t, "0102030405060708090a0b0c0d0e0f10", trace.SpanContextFromContext(ctx).TraceID().String())
			assert.True(t, trace.SpanContextFromContext(ctx).IsRemote())
			handled <- v.N
			switch v.N {
			case 1:
				return errors.New("failed")
			case 2:
				panic("failed badly")
			}
			return nil
		})
	}()
	require.Eventually(t, func() bool { return n.GetMetrics().Subscribers == 1 && n.HealthCheck(ctx) == nil }, patience, 1e6)
	require.NoError(t, client.Publish(ctx, "k", "not json").Err())
	span := trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: trace.TraceID{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16},
		SpanID:  trace.SpanID{1, 2, 3, 4, 5, 6, 7, 8}, TraceFlags: trace.FlagsSampled,
	})
	traced := trace.ContextWithSpanContext(ctx, span)
	for i := 1; i <= 3; i++ {
		require.NoError(t, n.Publish(traced, "k", numbered{i}))
		require.Equal(t, i, <-handled)
	}
	cancel()
	require.NoError(t, <-done)
	assert.EqualValues(t, 3, n.GetMetrics().HandlerErrors)

	ignore := func(context.Context, numbered) error { return nil }
	require.ErrorIs(t, notification.Handle(t.Context(), n, "", ignore), notification.ErrInvalidArgument)
	require.NoError(t, n.Close())
	require.ErrorIs(t, notification.Handle(t.Context(), n, "k", ignore), notification.ErrClosed)
}
