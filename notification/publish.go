package notification

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/compozy/cache/notification/internal/publisher"
)

// PublishWorkflowEvent publishes the event to "workflow:events" and "workflow:<ID>" in one round trip. It returns
// an *ArgumentError for a nil event, an ID that is empty or not UTF-8, or data that does not marshal, an error matching
// ErrClosed after Close, and a *PublishError for anything else. Safe for concurrent use.
func (n *RedisNotificationSystem) PublishWorkflowEvent(ctx context.Context, event *WorkflowEvent) error {
	var r publisher.Event
	v, err := event.outgoing(&r)
	return n.publishOne(ctx, &r, v, err)
}

// PublishTaskEvent publishes the event to "task:events", "task:<ID>" and, if it has a workflow,
// "task:workflow:<workflow ID>". Its errors are those of PublishWorkflowEvent. Safe for concurrent use.
func (n *RedisNotificationSystem) PublishTaskEvent(ctx context.Context, event *TaskEvent) error {
	var r publisher.Event
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
// A call that found nothing else under way sends its event itself if the client has ContextTimeoutEnabled: it returns at the
// deadline of ctx, and when ctx is cancelled with the server's reply or after the client's own timeouts, such as
// ReadTimeout. PublishError.Uncertain says whether the event may have been published. The error matches
// the cause of ctx, besides that of the network, unless the server has refused the event for good. That holds for all the
// methods too.
func (n *RedisNotificationSystem) Publish(ctx context.Context, channel string, v any) error {
	var r publisher.Event
	v, err := valueOn{channel, v}.outgoing(&r)
	return n.publishOne(ctx, &r, v, err)
}

// PublishBatch publishes many events in their order and in as few round trips as possible (one for each 128
// events or megabyte). All are checked before the first is sent; an *ArgumentError names the one that is refused, as in
// "events[3].ID". If some fail, the error joins one *PublishError for each, whose Index tells which it is. When
// ctx ends, the round trip under way is waited for as by a call of Publish that sends its event itself, without
// ContextTimeoutEnabled beyond the deadline too, and the events behind it are certainly not sent. An
// empty batch is no error. Safe for concurrent use.
func (n *RedisNotificationSystem) PublishBatch(ctx context.Context, events ...Outgoing) error {
	return n.publishAll(ctx, events)
}

// Outgoing is an event that PublishBatch accepts: a *WorkflowEvent, a *TaskEvent, or what To returns.
type Outgoing interface {
	// outgoing sets the channels of the event and returns what is to be marshalled.
	outgoing(e *publisher.Event) (v any, err error)
}

// To returns an event that publishes v, which must marshal to a JSON object, to one channel, as Publish does.
func To(channel string, v any) Outgoing { return valueOn{channel, v} }

type valueOn struct {
	channel string
	v       any
}

func (e valueOn) outgoing(r *publisher.Event) (v any, err error) {
	if e.channel == "" {
		return nil, &ArgumentError{Argument: "channel", Reason: "is empty"}
	}
	r.To(e.channel)
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
func (n *RedisNotificationSystem) publishOne(ctx context.Context, e *publisher.Event, v any, err error) error {
	if n.none() {
		return errNoSystem()
	}
	if ctx == nil {
		return &ArgumentError{Argument: "ctx", Reason: "is nil"}
	}
	if err != nil {
		return err
	}
	ctx, span := n.tracer.publish(ctx, e.Channel())
	err = n.publishTraced(ctx, e, v)
	span.end(err)
	return err
}

func (n *RedisNotificationSystem) publishTraced(ctx context.Context, e *publisher.Event, v any) error {
	if err := n.encode(ctx, e, v); err != nil {
		return err
	}
	if n.closed() {
		return ErrClosed
	}
	if err := n.publisher.Publish(ctx, e); err != nil {
		return n.unpublished(err)
	}
	n.published(e.Encoded())
	return nil
}

// publishAll publishes a batch.
func (n *RedisNotificationSystem) publishAll(ctx context.Context, outgoing []Outgoing) error {
	if n.none() {
		return errNoSystem()
	}
	if ctx == nil {
		return &ArgumentError{Argument: "ctx", Reason: "is nil"}
	}
	ctx, span := n.tracer.publishBatch(ctx, len(outgoing))
	err := n.publishAllTraced(ctx, outgoing)
	span.end(err)
	return err
}

// publishAllTraced checks everything first, so that bad input never leaves half a batch behind.
func (n *RedisNotificationSystem) publishAllTraced(ctx context.Context, outgoing []Outgoing) error {
	events := make([]*publisher.Event, 0, len(outgoing))
	for i, o := range outgoing {
		e := &publisher.Event{Index: i}
		if err := n.encodeOutgoing(ctx, e, o); err != nil {
			return inBatch(err, i)
		}
		events = append(events, e)
	}
	if n.closed() {
		return ErrClosed
	}
	start := time.Now()
	if len(events) == 1 { // together with those of other callers
		if err := n.publisher.Publish(ctx, events[0]); err != nil {
			return n.unpublished(err)
		}
		n.published(start)
		return nil
	}
	return n.unpublished(n.publisher.PublishAll(ctx, events, func() { n.published(start) }))
}

// encodeOutgoing checks and encodes an event of a batch.
func (n *RedisNotificationSystem) encodeOutgoing(ctx context.Context, e *publisher.Event, o Outgoing) error {
	if o == nil {
		return &ArgumentError{Argument: "event", Reason: "is nil"}
	}
	v, err := o.outgoing(e)
	if err != nil {
		return err
	}
	return n.encode(ctx, e, v)
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

// encode completes an event, whose channels are set, with v.
func (n *RedisNotificationSystem) encode(ctx context.Context, e *publisher.Event, v any) error {
	own := false
	switch v.(type) {
	case *WorkflowEvent, *TaskEvent:
		own = true
	}
	return n.publisher.Encode(ctx, e, v, own)
}

// published counts an event that was published by a call that began then.
func (n *RedisNotificationSystem) published(start time.Time) {
	n.metrics.published.Add(1)
	n.metrics.publishTook(time.Since(start))
}

// unpublished counts the events that an error of the publisher is about, and returns it as it is documented.
func (n *RedisNotificationSystem) unpublished(err error) error {
	switch err := err.(type) { //nolint:errorlint // exactly what the publisher returns
	case *publisher.Error:
		n.metrics.publishErrors.Add(1)
		return &PublishError{Channel: err.Channel, Index: err.Index, Uncertain: err.Uncertain, Err: err.Err}
	case interface{ Unwrap() []error }:
		var all []error
		for _, one := range err.Unwrap() {
			all = append(all, n.unpublished(one))
		}
		return errors.Join(all...)
	default:
		return err
	}
}
