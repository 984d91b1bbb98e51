package notification

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/trace"

	"github.com/compozy/cache/internal/redisx"
)

// PublishWorkflowEvent publishes the event to "workflow:events" and "workflow:<ID>" in one round trip. It returns
// an *ArgumentError for a nil event, an ID that is empty or not UTF-8, or data that does not marshal, an error matching
// ErrClosed after Close, and a *PublishError for anything else. Safe for concurrent use.
func (n *RedisNotificationSystem) PublishWorkflowEvent(ctx context.Context, event *WorkflowEvent) error {
	var r request
	v, err := event.outgoing(&r)
	return n.publishOne(ctx, &r, v, err)
}

// PublishTaskEvent publishes the event to "task:events", "task:<ID>" and, if it has a workflow,
// "task:workflow:<workflow ID>". Its errors are those of PublishWorkflowEvent. Safe for concurrent use.
func (n *RedisNotificationSystem) PublishTaskEvent(ctx context.Context, event *TaskEvent) error {
	var r request
	v, err := event.outgoing(&r)
	return n.publishOne(ctx, &r, v, err)
}

// Publish publishes any value that marshals to a JSON object to one channel, with "event_id" and "time" added. A
// value that has a field of one of these names is refused with an *ArgumentError, as the payload would have it twice; for a
// WorkflowEvent or TaskEvent it is left out. The other errors are those of PublishWorkflowEvent. Safe for concurrent use.
//
// What a caller publishes arrives in the order of its calls, one beginning after the other has returned. The exception
// is a call that failed with PublishError.Uncertain, for example because ctx ended while the event was under way: if
// that event arrives, then perhaps behind later ones. That holds for all the methods that publish.
//
// When ctx ends, a call returns at once if its event waits to be sent, or was sent together with those of other callers.
// A call that found nothing else under way sends its event itself: it returns at the deadline of ctx if the client has
// ContextTimeoutEnabled, and otherwise, and when ctx is cancelled, with the server's reply or after the client's own
// timeouts, such as ReadTimeout. PublishError.Uncertain says whether the event may have been published. The error matches
// the cause of ctx, besides that of the network, unless the server has refused the event for good. That holds for all the
// methods too.
func (n *RedisNotificationSystem) Publish(ctx context.Context, channel string, v any) error {
	var r request
	v, err := valueOn{channel, v}.outgoing(&r)
	return n.publishOne(ctx, &r, v, err)
}

// PublishBatch publishes many events in their order and in as few round trips as possible (one for each 128
// events or megabyte). All are checked before the first is sent; an *ArgumentError names the one that is refused, as in
// "events[3].ID". If some fail, the error joins one *PublishError for each, whose Index tells which it is. When
// ctx ends, the round trip under way is waited for as by a call of Publish that sends its event itself, and the events
// behind it are certainly not sent. An
// empty batch is no error. Safe for concurrent use.
func (n *RedisNotificationSystem) PublishBatch(ctx context.Context, events ...Outgoing) error {
	return n.publishAll(ctx, events)
}

// Outgoing is an event that PublishBatch accepts: a *WorkflowEvent, a *TaskEvent, or what To returns.
type Outgoing interface {
	// outgoing sets the channels of the request and returns what is to be marshalled.
	outgoing(r *request) (v any, err error)
}

// To returns an event that publishes v, which must marshal to a JSON object, to one channel, as Publish does.
func To(channel string, v any) Outgoing { return valueOn{channel, v} }

type valueOn struct {
	channel string
	v       any
}

func (e valueOn) outgoing(r *request) (v any, err error) {
	if e.channel == "" {
		return nil, &ArgumentError{Argument: "channel", Reason: "is empty"}
	}
	r.to(e.channel)
	// Our own events may have been received, and then have the fields that others may not have.
	switch v := e.v.(type) {
	case WorkflowEvent:
		return v.bare(), v.valid()
	case TaskEvent:
		return v.bare(), v.valid()
	case *WorkflowEvent:
		if v != nil {
			return v.bare(), v.valid()
		}
	case *TaskEvent:
		if v != nil {
			return v.bare(), v.valid()
		}
	}
	return e.v, nil
}

// publishOne publishes v, or returns err if there is one: what an event's own method outgoing has returned.
func (n *RedisNotificationSystem) publishOne(ctx context.Context, r *request, v any, err error) error {
	if n.none() {
		return errNoSystem()
	}
	if ctx == nil {
		return &ArgumentError{Argument: "ctx", Reason: "is nil"}
	}
	if err != nil {
		return err
	}
	if err := n.prepare(ctx, r, v); err != nil {
		return err
	}
	if n.closed() {
		return ErrClosed
	}
	return n.publisher.one(ctx, r)
}

// publishAll checks everything first, so that bad input never leaves half a batch behind.
func (n *RedisNotificationSystem) publishAll(ctx context.Context, events []Outgoing) error {
	if n.none() {
		return errNoSystem()
	}
	if ctx == nil {
		return &ArgumentError{Argument: "ctx", Reason: "is nil"}
	}
	requests := make([]*request, 0, len(events))
	for i, event := range events {
		r, err := n.request(ctx, event)
		if err != nil {
			return inBatch(err, i)
		}
		r.index = i
		requests = append(requests, r)
	}
	if n.closed() {
		return ErrClosed
	}
	if len(requests) == 1 {
		return n.publisher.one(ctx, requests[0])
	}
	return n.publisher.many(ctx, requests)
}

// request checks an event of a batch and returns what is to be sent for it.
func (n *RedisNotificationSystem) request(ctx context.Context, event Outgoing) (*request, error) {
	if event == nil {
		return nil, &ArgumentError{Argument: "event", Reason: "is nil"}
	}
	r := new(request)
	v, err := event.outgoing(r)
	if err != nil {
		return nil, err
	}
	return r, n.prepare(ctx, r, v)
}

// inBatch makes the error of an event say which of a batch it is: "event.ID" becomes "events[3].ID".
func inBatch(err error, index int) error {
	var wrong *ArgumentError
	if !errors.As(err, &wrong) {
		return err
	}
	named := *wrong
	named.Argument = fmt.Sprintf("events[%d]%s", index, strings.TrimPrefix("."+wrong.Argument, ".event"))
	return &named
}

// prepare completes a request, whose channels are set, with what the publish script needs.
func (n *RedisNotificationSystem) prepare(ctx context.Context, r *request, v any) error {
	if slices.ContainsFunc(r.channels(), n.keys.reserved) {
		return &ArgumentError{Argument: "channel", Reason: "is one that only this module uses"}
	}
	d, err := n.publisher.drafts.of(v)
	if err != nil {
		return err
	}
	defer n.publisher.drafts.release(d)
	switch v.(type) {
	case *WorkflowEvent, *TaskEvent: // bare
	default:
		if name := takenField(d.object); name != "" {
			return &ArgumentError{Argument: "v", Reason: fmt.Sprintf("has a field %q, which is added to every event", name)}
		}
	}
	r.at = time.Now()
	var room [192]byte // on the stack, and enough for names of ordinary length
	head := appendKey(room[:0], n.publisher.own, n.publisher.counter.Add(1), r.channels())
	size := len(head)
	head = appendFields(head, r.at, n.keys.tag, traceParent(ctx), d.object)
	text := join(head, d.object)
	r.key, r.value = text[:size], text[size:]
	return nil
}

// traceParent returns the W3C trace context of the span in ctx, or "" without tracing.
func traceParent(ctx context.Context) string {
	span := trace.SpanContextFromContext(ctx)
	if !span.IsValid() {
		return ""
	}
	return "00-" + span.TraceID().String() + "-" + span.SpanID().String() + "-" + span.TraceFlags().String()
}

// retryable reports whether a failed script may be sent again. Anything the server refused for good is not; what
// happened to a lost connection or during a failover is, and what came too late by our idea of the server's clock. The
// script itself finds out what was done already.
func retryable(ctx context.Context, err error) bool {
	return ctx.Err() == nil && (redisx.IsTransient(err) || redis.HasErrorPrefix(err, lateError))
}
