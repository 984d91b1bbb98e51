package lock

import (
	"context"
	"errors"
	"fmt"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/compozy/cache/internal/arguments"
)

// tracer makes the spans of a manager, none without a provider.
type tracer struct{ trace.Tracer }

func newTracer(tp trace.TracerProvider) tracer {
	if arguments.IsNil(tp) {
		return tracer{}
	}
	return tracer{tp.Tracer("github.com/compozy/cache/lock")}
}

// start begins the span of a call, with a link to the span that acquired the lock, if there is one: a lock may be released
// in another trace.
func (t tracer) start(ctx context.Context, name, resource string, origin *trace.SpanContext) (context.Context, span) {
	if t.Tracer == nil {
		return ctx, span{}
	}
	opts := []trace.SpanStartOption{trace.WithAttributes(attribute.String("lock.resource", resource))}
	if origin != nil {
		opts = append(opts, trace.WithLinks(trace.Link{SpanContext: *origin}))
	}
	ctx, s := t.Start(ctx, name, opts...)
	return ctx, span{s}
}

// span is one call; its zero value records nothing.
type span struct{ trace.Span }

// origin is what the span of the release is linked to.
func (s span) origin() *trace.SpanContext {
	if s.Span == nil {
		return nil
	}
	c := s.SpanContext()
	return &c
}

// finish ends the span, of which l is the lock, if there is one. Only a failure of Redis is an error of the span, and it
// keeps quiet about the details: servers quote what they were sent.
func (s span) finish(outcome string, l *RedisLock, err error) {
	if s.Span == nil {
		return
	}
	s.SetAttributes(attribute.String("lock.outcome", outcome))
	if l != nil {
		s.SetAttributes(attribute.Int64("lock.token", l.claim.Token))
	}
	if errors.Is(err, ErrRedis) {
		s.SetAttributes(attribute.String("error.type", fmt.Sprintf("%T", err)))
		s.SetStatus(codes.Error, "redis failed")
	}
	s.End()
}
