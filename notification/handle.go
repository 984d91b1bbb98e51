package notification

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"

	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"

	"github.com/compozy/cache/notification/internal/group"
)

// Handle subscribes to a channel or glob and calls the function with each event, decoded into a T, one after the
// other, until ctx ends. Payloads that do not decode, errors and panics of the function are logged and counted, and
// the loop goes on. A *RedisNotificationSystem does so, and a type that embeds one; with any other implementation of
// NotificationSystem nobody hears of them but the function itself. A function that calls runtime.Goexit, as FailNow of a
// test does, ends the goroutine that called Handle: that counts as a failure, and the subscription is closed.
//
// The function's context carries the message (see MessageFrom) and the publisher's trace. The message is how the
// function learns of gaps: its field Gap tells that events may be missing before it, be it that the gap came with this
// message or with one before it that did not decode.
//
// It returns nil when ctx ends. Otherwise it returns why the subscription ended or was refused: an *ArgumentError,
// a redis.Error if Redis does not let its user listen to the name, ErrSlowSubscriber, or ErrClosed. A subscriber of
// another implementation gives what its method Err() error returns, and ErrClosed if it has none.
//
// Shutdown of a *RedisNotificationSystem waits for the function before it closes anything, so that the function can still
// publish its result. It waits for at most half of its time; the function's context does not end with that. A function that
// calls Shutdown or Close itself makes it wait for as long.
func Handle[T any](
	ctx context.Context, n NotificationSystem, pattern string, handle func(context.Context, T) error, opts ...HandleOption,
) error {
	switch {
	case ctx == nil:
		return &ArgumentError{Argument: "ctx", Reason: "is nil"}
	case n == nil:
		return &ArgumentError{Argument: "n", Reason: "is nil"}
	case handle == nil:
		return &ArgumentError{Argument: "handle", Reason: "is nil"}
	}
	set, err := newHandleSettings(opts)
	if err != nil {
		return err
	}
	idle, end := handling(n) // before there is anything to handle
	defer end()
	s := n.Subscribe(ctx, pattern)
	defer func() { _ = s.Close() }()
	live := whenLive(s)
	report, spans := reporter(n), tracerOf(n)
	var untold *Message // it came with a gap, and did not decode
	for {
		select {
		case <-live: // before the first message
			live = nil
			if !refused(s) {
				set.ready()
			}
			continue
		default:
		}
		select {
		case <-ctx.Done():
			return nil
		case <-idle: // Shutdown asks whether the function has returned
		case <-live:
			live = nil
			if !refused(s) {
				set.ready()
			}
		case m, ok := <-s.Messages():
			switch {
			case ctx.Err() != nil:
				return nil // what is still buffered is not begun any more
			case !ok:
				return endOf(s)
			}
			m = m.behind(untold)
			untold = nil
			if begun := handleOne(ctx, m, spans, report, handle); !begun && m.Gap != nil {
				untold = m
			}
		}
	}
}

// endOf returns why a subscriber was closed.
func endOf(s Subscriber) error {
	if s, ok := s.(interface{ Err() error }); ok {
		if err := s.Err(); err != nil {
			return err
		}
	}
	return ErrClosed
}

// refused reports whether a subscriber was closed by another than its owner.
func refused(s Subscriber) bool {
	closed, ok := s.(interface{ Err() error })
	return ok && closed.Err() != nil
}

// behind returns the message with the gap of an earlier one in front of it besides its own. Others may have the message too, so
// it is a copy unless there is no such gap.
func (m *Message) behind(earlier *Message) *Message {
	if earlier == nil {
		return m
	}
	gap := *earlier.Gap
	switch {
	case m.Gap != nil:
		gap = gap.merge(*m.Gap)
	case gap.Before == "" && earlier.EventID != "": // more may be missing further ahead
	default:
		gap.Before = m.EventID
	}
	copied := *m
	copied.Gap = &gap
	return &copied
}

// handleOne handles one message, and reports what failed: a panic is an error, and so is the end of the goroutine, which
// cannot be held up. It returns whether the function was called.
func handleOne[T any](
	ctx context.Context, m *Message, spans tracer, report func(*Message, error), handle func(context.Context, T) error,
) (begun bool) {
	ctx, span := spans.process(messageContext(ctx, m), m, "")
	err := group.ErrEnded
	defer func() {
		span.end(err)
		if err != nil {
			report(m, err)
		}
	}()
	err = guarded(func() error {
		v, err := Decode[T](m)
		if err != nil {
			return err
		}
		begun = true
		return handle(ctx, v)
	})
	return begun
}

// guarded calls f and turns a panic of it into an error.
func guarded(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &panicError{value: v, stack: debug.Stack()}
		}
	}()
	return f()
}

// whenLive returns a channel that is closed once a subscriber receives what is published: from the beginning for other
// implementations, and never for one that was refused.
func whenLive(s Subscriber) <-chan struct{} {
	if s, ok := s.(interface{ whenLive() <-chan struct{} }); ok {
		return s.whenLive()
	}
	live := make(chan struct{})
	close(live)
	return live
}

// panicError is a panic of a handler.
type panicError struct {
	value any
	stack []byte
}

func (e *panicError) Error() string {
	return fmt.Sprintf("notification: handler panicked: %v", e.value)
}

// Unwrap returns the value of the panic if it was an error.
func (e *panicError) Unwrap() error {
	err, _ := e.value.(error)
	return err
}

// reporter returns what logs and counts the failures of a handler. Other implementations have nowhere to do so; those
// that embed ours have its methods.
func reporter(n NotificationSystem) func(*Message, error) {
	if n, ok := n.(interface{ handlerFailed(m *Message, err error) }); ok {
		return n.handlerFailed
	}
	return func(*Message, error) {}
}

// tracerOf returns what makes the spans of a handler.
func tracerOf(n NotificationSystem) tracer {
	if n, ok := n.(interface{ handlerTracer() tracer }); ok {
		return n.handlerTracer()
	}
	return tracer{}
}

func (n *RedisNotificationSystem) handlerTracer() tracer { return n.orNone().tracer }

// handling tells a system that a call of Handle is under way, until end is called. The call receives from idle whenever its
// function is not running. Other implementations do not ask.
func handling(n NotificationSystem) (idle <-chan struct{}, end func()) {
	if n, ok := n.(interface {
		beginHandling() (idle <-chan struct{}, end func())
	}); ok {
		return n.beginHandling()
	}
	return nil, func() {}
}

func (n *RedisNotificationSystem) beginHandling() (idle <-chan struct{}, end func()) {
	return n.orNone().handlers.begin()
}

func (n *RedisNotificationSystem) handlerFailed(m *Message, err error) {
	n.metrics.handlerErrors.Add(1)
	fields := []zap.Field{zap.String("channel", m.Channel), zap.String("event_id", m.EventID), zap.Error(err)}
	if m.Gap != nil {
		fields = append(fields, zap.String("gap", string(m.Gap.Reason)))
	}
	if panicked, ok := errors.AsType[*panicError](err); ok {
		fields = append(fields, zap.ByteString("stack", panicked.stack))
	}
	n.set.logger.Error("notification: handler failed", fields...)
}

type messageKey struct{}

// messageContext returns the context a handler is called with.
func messageContext(ctx context.Context, m *Message) context.Context {
	ctx = context.WithValue(ctx, messageKey{}, m)
	if span, ok := parseTraceParent(m.TraceParent); ok {
		ctx = trace.ContextWithRemoteSpanContext(ctx, span)
	}
	return ctx
}

// MessageFrom returns the message that a function called by Handle works on. It gives false for other contexts.
func MessageFrom(ctx context.Context) (*Message, bool) {
	m, ok := ctx.Value(messageKey{}).(*Message)
	return m, ok
}
