package store

import (
	"context"
	"errors"
	"fmt"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/compozy/cache/internal/arguments"
)

// tracer makes the spans of a Store, none without a provider.
type tracer struct{ trace.Tracer }

func newTracer(tp trace.TracerProvider) tracer {
	if arguments.IsNil(tp) {
		return tracer{}
	}
	return tracer{tp.Tracer("github.com/compozy/cache/store")}
}

// start begins the span of a call on the Cache or State of this name.
func (t tracer) start(ctx context.Context, op, name string) (context.Context, span) {
	if t.Tracer == nil {
		return ctx, span{}
	}
	ctx, s := t.Start(ctx, "store."+op, trace.WithAttributes(attribute.String("store.name", name)))
	return ctx, span{s}
}

// span is one call; its zero value records nothing.
type span struct{ trace.Span }

// finish ends the span. Only a failure of Redis is an error of the span, and it keeps quiet about the details: servers
// quote what they were sent.
func (s span) finish(outcome string, err error) {
	if s.Span == nil {
		return
	}
	s.SetAttributes(attribute.String("store.outcome", outcome))
	if errors.Is(err, ErrUnavailable) {
		s.SetAttributes(attribute.String("error.type", fmt.Sprintf("%T", err)))
		s.SetStatus(codes.Error, "redis failed")
	}
	s.End()
}
