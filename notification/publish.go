package notification

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"go.opentelemetry.io/otel/trace"
)

// PublishWorkflowEvent publishes the event to "workflow:events" and "workflow:<ID>" in one round trip. It returns
// an *ArgumentError for a nil event, an empty ID or data that does not marshal, an error matching ErrClosed after
// Close, and a *PublishError for anything else. Safe for concurrent use.
func (n *RedisNotificationSystem) PublishWorkflowEvent(ctx context.Context, event *WorkflowEvent) error {
	return n.publishAll(ctx, event)
}

// PublishTaskEvent publishes the event to "task:events", "task:<ID>" and "task:workflow:<workflow ID>". Its errors
// are those of PublishWorkflowEvent. Safe for concurrent use.
func (n *RedisNotificationSystem) PublishTaskEvent(ctx context.Context, event *TaskEvent) error {
	return n.publishAll(ctx, event)
}

// Publish publishes any value that marshals to a JSON object to one channel, with "event_id" and "time" added. A
// value that has fields of these names keeps them; Message.EventID and Message.Time carry ours in any case. Its
// errors are those of PublishWorkflowEvent. Safe for concurrent use.
func (n *RedisNotificationSystem) Publish(ctx context.Context, channel string, v any) error {
	return n.publishAll(ctx, To(channel, v))
}

// PublishBatch publishes many events in their order and in as few round trips as possible (one for each 128
// events). All are checked before the first is sent. If some fail, the error joins one *PublishError for each. An
// empty batch is no error. Safe for concurrent use.
func (n *RedisNotificationSystem) PublishBatch(ctx context.Context, events ...Outgoing) error {
	return n.publishAll(ctx, events...)
}

// Outgoing is an event that PublishBatch accepts: a *WorkflowEvent, a *TaskEvent, or what To returns.
type Outgoing interface {
	outgoing() (channels []string, v any, err error)
}

// To returns an event that publishes v, which must marshal to a JSON object, to one channel.
func To(channel string, v any) Outgoing { return valueOn{channel, v} }

type valueOn struct {
	channel string
	v       any
}

func (e valueOn) outgoing() (channels []string, v any, err error) {
	if e.channel == "" {
		return nil, nil, &ArgumentError{Argument: "channel", Reason: "is empty"}
	}
	return []string{e.channel}, e.v, nil
}

// publishAll checks everything first, so that bad input never leaves half a batch behind.
func (n *RedisNotificationSystem) publishAll(ctx context.Context, events ...Outgoing) error {
	if ctx == nil {
		return &ArgumentError{Argument: "ctx", Reason: "is nil"}
	}
	requests := make([]*request, 0, len(events))
	for _, event := range events {
		r, err := n.prepare(ctx, event)
		if err != nil {
			return err
		}
		requests = append(requests, r)
	}
	if n.closed() {
		return ErrClosed
	}
	if len(requests) == 1 {
		return n.publisher.one(ctx, requests)
	}
	return n.publisher.many(ctx, requests)
}

// prepare turns an event into what the publish script needs.
func (n *RedisNotificationSystem) prepare(ctx context.Context, event Outgoing) (*request, error) {
	if event == nil {
		return nil, &ArgumentError{Argument: "event", Reason: "is nil"}
	}
	channels, v, err := event.outgoing()
	if err != nil {
		return nil, err
	}
	object, err := marshalObject(v)
	if err != nil {
		return nil, err
	}
	return &request{
		key:      n.publisher.nextKey(channels),
		value:    makeValue(time.Now(), n.keys.tag, traceParent(ctx), object),
		channels: channels,
	}, nil
}

// marshalObject returns the JSON of v, which must be an object.
func marshalObject(v any) ([]byte, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return nil, &ArgumentError{Argument: dataArgument(v), Reason: "does not marshal to JSON", Err: err}
	}
	if len(data) < len("{}") || data[0] != '{' {
		return nil, &ArgumentError{Argument: "v", Reason: "is no JSON object but " + kindOf(data)}
	}
	return data, nil
}

// dataArgument names the argument whose value failed to marshal: of our own events only Data can.
func dataArgument(v any) string {
	switch v.(type) {
	case *WorkflowEvent, *TaskEvent:
		return "event.Data"
	default:
		return "v"
	}
}

func kindOf(data []byte) string {
	switch data[0] {
	case '[':
		return "an array"
	case '"':
		return "a string"
	case 'n':
		return "null"
	case 't', 'f':
		return "a boolean"
	default:
		return "a number"
	}
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
// happened to a lost connection or during a failover is. The script itself finds out what was done already.
func retryable(ctx context.Context, err error) bool {
	if ctx.Err() != nil || errors.Is(err, context.Canceled) {
		return false
	}
	var reply interface{ RedisError() }
	if !errors.As(err, &reply) {
		return !strings.Contains(err.Error(), "client is closed")
	}
	for _, transient := range []string{"LOADING ", "READONLY ", "MASTERDOWN ", "CLUSTERDOWN ", "TRYAGAIN ", "UNBLOCKED "} {
		if strings.HasPrefix(err.Error(), transient) {
			return true
		}
	}
	return false
}
