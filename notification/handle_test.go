package notification_test

import (
	"context"
	"errors"
	"testing"
	"time"

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

// What does not decode is not handed to the function, but the gap that came with it is.
func TestHandleTellsTheGapOfAMessageThatDoesNotDecode(t *testing.T) {
	t.Parallel()
	client := redistest.Start(t).Client(t)
	log, logs := logging()
	n := newSystem(t, client, log, notification.WithHistory(0, 0)) // each cut is a gap
	ctx, cancel := context.WithCancel(t.Context())
	handled, done := make(chan *notification.Message), make(chan error, 1)
	go func() {
		done <- notification.Handle(ctx, n, "k", func(ctx context.Context, _ numbered) error {
			m, _ := notification.MessageFrom(ctx)
			handled <- m
			return nil
		})
	}()
	require.Eventually(t, func() bool { return n.GetMetrics().Subscribers == 1 && n.HealthCheck(ctx) == nil }, patience, time.Millisecond)
	other := subscribe(t, n, "k")
	cut(t, n, client)
	for range 2 {
		require.NoError(t, client.Publish(ctx, "k", "not json").Err())
		next(t, other)
	}
	for _, gap := range []bool{true, false} {
		require.NoError(t, n.Publish(ctx, "k", numbered{1}))
		m := <-handled
		require.Equal(t, gap, m.Gap != nil, "told once")
		if gap {
			assert.Equal(t, notification.GapReconnected, m.Gap.Reason)
			assert.Equal(t, m.EventID, m.Gap.Before)
		}
		assert.Nil(t, next(t, other).Gap, "the message of others is as it was")
	}
	failed := logs.FilterMessage("notification: handler failed").All()
	require.Len(t, failed, 2)
	assert.Equal(t, string(notification.GapReconnected), failed[0].ContextMap()["gap"])
	cancel()
	require.NoError(t, <-done)
}

// scripted is another implementation: its subscriber delivers what it is told to.
type scripted struct {
	notification.NotificationSystem
	messages chan *notification.Message
	reason   error
}

// script returns one whose subscriber delivers the messages and is closed then.
func script(reason error, messages ...*notification.Message) *scripted {
	s := &scripted{messages: make(chan *notification.Message, len(messages)), reason: reason}
	for _, m := range messages {
		s.messages <- m
	}
	close(s.messages)
	return s
}

func (s *scripted) Subscribe(context.Context, string) notification.Subscriber { return s }
func (s *scripted) Messages() <-chan *notification.Message                    { return s.messages }
func (s *scripted) Err() error                                                { return s.reason }
func (s *scripted) Close() error                                              { return nil }

func TestHandleMergesGapsOfMessagesThatDoNotDecode(t *testing.T) {
	t.Parallel()
	message := func(id, payload string, gap *notification.Gap) *notification.Message {
		return &notification.Message{EventID: id, Payload: payload, Gap: gap}
	}
	messages := []*notification.Message{
		message("1-0", `{"n":1}`, nil),
		message("3-0", "not json", &notification.Gap{Reason: notification.GapFailover, After: "1-0", Before: "3-0", Missed: 1}),
		message("4-0", "not json", nil),
		message("6-0", "not json", &notification.Gap{Reason: notification.GapOverflow, After: "4-0", Before: "6-0", Missed: 2}),
		message("8-0", `{"n":8}`, &notification.Gap{Reason: notification.GapOverflow, After: "6-0", Before: "8-0", Missed: 4}),
		message("9-0", `{"n":9}`, nil),
	}
	own := *messages[4].Gap
	var gaps []*notification.Gap
	require.ErrorIs(t, notification.Handle(t.Context(), script(nil, messages...), "k", func(ctx context.Context, _ numbered) error {
		m, _ := notification.MessageFrom(ctx)
		gaps = append(gaps, m.Gap)
		return errors.New("a gap that a failed function was told of is not told again")
	}), notification.ErrClosed)
	all := &notification.Gap{Reason: notification.GapFailover, After: "1-0", Before: "8-0", Missed: 7}
	assert.Equal(t, []*notification.Gap{nil, all, nil}, gaps)
	assert.Equal(t, own, *messages[4].Gap, "the message is shared")
}

// A value whose own code panics while it is decoded was not handed over either.
func TestHandleTellsTheGapOfAPanicInDecoding(t *testing.T) {
	t.Parallel()
	gap := &notification.Gap{Reason: notification.GapTrimmed, Before: "1-0"}
	n := script(nil, &notification.Message{EventID: "1-0", Payload: `"panic"`, Gap: gap}, &notification.Message{Payload: `""`})
	var told []*notification.Gap
	require.ErrorIs(t, notification.Handle(t.Context(), n, "k", func(ctx context.Context, _ explosive) error {
		m, _ := notification.MessageFrom(ctx)
		told = append(told, m.Gap)
		return nil
	}), notification.ErrClosed)
	require.Len(t, told, 1)
	require.NotNil(t, told[0])
	assert.Equal(t, notification.GapTrimmed, told[0].Reason)
}

type explosive struct{}

func (*explosive) UnmarshalJSON(b []byte) error {
	if string(b) == `"panic"` {
		panic("exploded")
	}
	return nil
}

func TestHandleReturnsWhyOthersClosed(t *testing.T) {
	t.Parallel()
	ignore := func(context.Context, numbered) error { return nil }
	require.ErrorIs(t, notification.Handle(t.Context(), script(assert.AnError), "k", ignore), assert.AnError)
	require.ErrorIs(t, notification.Handle(t.Context(), silent{script(assert.AnError)}, "k", ignore), notification.ErrClosed)
}

// silent has subscribers that do not say why they were closed.
type silent struct {
	notification.NotificationSystem
}

func (s silent) Subscribe(ctx context.Context, pattern string) notification.Subscriber {
	return struct{ notification.Subscriber }{s.NotificationSystem.Subscribe(ctx, pattern)}
}

// A decorator has the methods of what it embeds, and so its log and metrics.
func TestHandleReportsThroughADecorator(t *testing.T) {
	t.Parallel()
	n := newSystem(t, redistest.Start(t).Client(t))
	handled := false
	require.ErrorIs(t, notification.Handle(t.Context(), decorator{n}, "k", func(context.Context, numbered) error {
		handled = true
		return nil
	}), notification.ErrClosed)
	assert.False(t, handled)
	assert.EqualValues(t, 1, n.GetMetrics().HandlerErrors)
}

// decorator changes what is subscribed to.
type decorator struct {
	*notification.RedisNotificationSystem
}

func (decorator) Subscribe(ctx context.Context, pattern string) notification.Subscriber {
	return script(nil, &notification.Message{Payload: "not json"}).Subscribe(ctx, pattern)
}

func TestHandleReadsTheTraceFlags(t *testing.T) {
	t.Parallel()
	const parent = "00-0102030405060708090a0b0c0d0e0f10-0102030405060708-"
	for flags, sampled := range map[string]bool{
		"00": false, "01": true, "02": false, "03": true, "05": true, "07": true, "09": true, "0b": true, "0d": true,
		"0f": true, "10": false, "f1": true, "fe": false, "ff": true,
	} {
		n := script(nil, &notification.Message{Payload: "{}", TraceParent: parent + flags})
		require.ErrorIs(t, notification.Handle(t.Context(), n, "k", func(ctx context.Context, _ numbered) error {
			span := trace.SpanContextFromContext(ctx)
			assert.True(t, span.IsValid(), flags)
			assert.Equal(t, sampled, span.IsSampled(), flags)
			return nil
		}), notification.ErrClosed)
	}
	for _, invalid := range []string{"", parent, parent + "0", parent + "0g", parent + "+1", parent + "011"} {
		n := script(nil, &notification.Message{Payload: "{}", TraceParent: invalid})
		require.ErrorIs(t, notification.Handle(t.Context(), n, "k", func(ctx context.Context, _ numbered) error {
			assert.False(t, trace.SpanContextFromContext(ctx).IsValid(), invalid)
			return nil
		}), notification.ErrClosed)
	}
}
