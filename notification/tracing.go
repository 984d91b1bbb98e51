package notification

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/compozy/cache/internal/arguments"
)

// WithTracerProvider traces events: publishing makes a span "publish <kind>" of kind producer, and each call of a function by
// Handle or Consume one "process <kind>" of kind consumer, which is the child of the former and linked to it. The kind is
// "workflow", "task" or, for other channels, "event"; the attribute messaging.destination.name has the channel. All events of
// PublishBatch share the span "publish batch". The attributes follow the conventions of OpenTelemetry for messaging. Nil, the
// default, traces nothing.
func WithTracerProvider(tp trace.TracerProvider) Option {
	return func(s *settings) { s.tracing = tp }
}

// tracer makes the spans of a system, none without a provider.
type tracer struct{ trace.Tracer }

func newTracer(tp trace.TracerProvider) tracer {
	if arguments.IsNil(tp) {
		return tracer{}
	}
	return tracer{tp.Tracer("github.com/compozy/cache/notification")}
}

// publish begins the span of publishing an event, which goes to the channel given first.
func (t tracer) publish(ctx context.Context, channel string) (context.Context, span) {
	if t.Tracer == nil {
		return ctx, span{}
	}
	ctx, s := t.Start(ctx, "publish "+subjectOf(channel), trace.WithSpanKind(trace.SpanKindProducer),
		trace.WithAttributes(publishing(attribute.String("messaging.destination.name", channel))...))
	return ctx, span{s}
}

// publishBatch begins the span of publishing many events.
func (t tracer) publishBatch(ctx context.Context, events int) (context.Context, span) {
	if t.Tracer == nil {
		return ctx, span{}
	}
	ctx, s := t.Start(ctx, "publish batch", trace.WithSpanKind(trace.SpanKindProducer),
		trace.WithAttributes(publishing(attribute.Int("messaging.batch.message_count", events))...))
	return ctx, span{s}
}

// process begins the span of a function that works on a message, for a group if that is not empty. ctx has the publisher's
// span, if the message has one.
func (t tracer) process(ctx context.Context, m *Message, group string) (context.Context, span) {
	if t.Tracer == nil {
		return ctx, span{}
	}
	attributes := operation("process", "process", attribute.String("messaging.destination.name", m.Channel))
	if m.EventID != "" {
		attributes = append(attributes, attribute.String("messaging.message.id", m.EventID))
	}
	if group != "" {
		attributes = append(attributes, attribute.String("messaging.consumer.group.name", group))
	}
	opts := []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindConsumer), trace.WithAttributes(attributes...)}
	if producer, ok := parseTraceParent(m.TraceParent); ok {
		opts = append(opts, trace.WithLinks(trace.Link{SpanContext: producer}))
	}
	ctx, s := t.Start(ctx, "process "+subjectOf(m.Channel), opts...)
	return ctx, span{s}
}

func publishing(what attribute.KeyValue) []attribute.KeyValue {
	return operation("publish", "send", what)
}

// operation returns the attributes that the conventions of OpenTelemetry ask of every span of a messaging system.
func operation(name, kind string, what attribute.KeyValue) []attribute.KeyValue {
	return []attribute.KeyValue{
		attribute.String("messaging.system", "redis"), attribute.String("messaging.operation.name", name),
		attribute.String("messaging.operation.type", kind), what,
	}
}

// subjectOf returns what the events of a channel are about, of which there are few.
func subjectOf(channel string) string {
	switch {
	case strings.HasPrefix(channel, workflowPrefix):
		return "workflow"
	case strings.HasPrefix(channel, taskPrefix):
		return "task"
	default:
		return "event"
	}
}

// span is one call; its zero value records nothing.
type span struct{ trace.Span }

// end ends the span. It keeps quiet about details of the error, which may quote what is nobody else's business.
func (s span) end(err error) {
	if s.Span == nil {
		return
	}
	if err != nil {
		s.SetAttributes(attribute.String("error.type", fmt.Sprintf("%T", err)))
		s.SetStatus(codes.Error, "failed")
	}
	s.End()
}

// parseTraceParent reads a W3C trace context of version 00.
func parseTraceParent(s string) (trace.SpanContext, bool) {
	if len(s) != 55 || s[:3] != "00-" || s[35] != '-' || s[52] != '-' {
		return trace.SpanContext{}, false
	}
	traceID, errTrace := trace.TraceIDFromHex(s[3:35])
	spanID, errSpan := trace.SpanIDFromHex(s[36:52])
	flags, errFlags := strconv.ParseUint(s[53:], 16, 8)
	if errTrace != nil || errSpan != nil || errFlags != nil {
		return trace.SpanContext{}, false
	}
	return trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: traceID, SpanID: spanID, Remote: true,
		TraceFlags: trace.TraceFlags(flags) & trace.FlagsSampled, // version 00 defines no other
	}), true
}
