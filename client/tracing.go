package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/extra/redisotel/v9"
	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/compozy/cache/internal/redisx"
)

// instrument adds tracing to a client; a nil provider adds none.
func instrument(c redis.UniversalClient, tp trace.TracerProvider) error {
	if tp == nil {
		return nil
	}
	database := 0
	if single, ok := c.(*redis.Client); ok {
		database = single.Options().DB
	}
	err := redisotel.InstrumentTracing(c,
		redisotel.WithTracerProvider(discreetProvider{tp}),
		redisotel.WithAttributes(attribute.String("db.namespace", strconv.Itoa(database))),
		redisotel.WithDBStatement(false),
		// Finding the caller walks the stack for every command.
		redisotel.WithCallerEnabled(false),
		// The pool dials outside of the command that needs the connection, so that
		// each dial would be a trace of its own.
		redisotel.WithDialFilter(true),
	)
	if err != nil {
		return fmt.Errorf("client: tracing: %w", err)
	}
	return nil
}

// discreetProvider makes spans that keep quiet about errors' details. Servers
// quote arguments in errors ("unknown command 'x', with args beginning with: …"),
// scripts quote whatever they like, and redisotel records all of it.
type discreetProvider struct{ trace.TracerProvider }

func (p discreetProvider) Tracer(name string, opts ...trace.TracerOption) trace.Tracer {
	return discreetTracer{p.TracerProvider.Tracer(name, opts...)}
}

type discreetTracer struct{ trace.Tracer }

// Start begins no trace for background work, only spans of the trace it belongs to.
func (t discreetTracer) Start(ctx context.Context, name string, opts ...trace.SpanStartOption) (context.Context, trace.Span) {
	if (redisx.IsBackground(ctx) || isHousekeeping(name)) && !trace.SpanContextFromContext(ctx).IsValid() {
		return ctx, noop.Span{}
	}
	given := trace.NewSpanStartConfig(opts...)
	ctx, span := t.Tracer.Start(ctx, name, trace.WithSpanKind(given.SpanKind()),
		trace.WithAttributes(conventional(name, given.Attributes())...))
	return ctx, &discreetSpan{Span: span}
}

// conventional turns the attributes of redisotel, whose names are of an older version of the conventions, into
// those of today, and adds the name of the operation.
func conventional(name string, given []attribute.KeyValue) []attribute.KeyValue {
	operation := name
	if commands, ok := strings.CutPrefix(name, "redis.pipeline "); ok {
		operation = "PIPELINE"
		if !strings.Contains(commands, " ") { // all are the same
			operation += " " + commands
		}
	}
	attributes := []attribute.KeyValue{attribute.String("db.operation.name", operation)}
	for _, a := range given {
		switch a.Key {
		case "db.system":
			a.Key = "db.system.name"
		case "db.redis.num_cmd":
			a.Key = "db.operation.batch.size"
		case "db.connection_string": // server.address and server.port say the same
			continue
		}
		attributes = append(attributes, a)
	}
	return attributes
}

// isHousekeeping reports whether a span of this name is of a command that go-redis
// sends for itself: to begin with a connection, or to look for the nodes of a Cluster.
func isHousekeeping(name string) bool {
	return slices.Contains([]string{
		"hello", "command", "cluster slots", "redis.pipeline select", "redis.pipeline client", "redis.pipeline select client",
	}, name)
}

// discreetSpan is used by one goroutine, the one that runs the command.
type discreetSpan struct {
	trace.Span
	last string // what the last recorded error may say
	// harmless is set when that was no error: a script that the server does not
	// know yet is sent to it next.
	harmless bool
}

func (s *discreetSpan) RecordError(err error, opts ...trace.EventOption) {
	if s.harmless = redisx.IsUnknownScript(err); s.harmless {
		return
	}
	safe := discreet(err)
	s.last = safe.Error()
	if _, ok := errors.AsType[shortReplyError](safe); ok {
		s.SetAttributes(attribute.String("db.response.status_code", s.last), attribute.String("error.type", s.last))
	} else {
		s.SetAttributes(attribute.String("error.type", fmt.Sprintf("%T", safe)))
	}
	s.Span.RecordError(safe, opts...)
}

func (s *discreetSpan) SetStatus(code codes.Code, description string) {
	if code == codes.Error {
		if s.harmless {
			return
		}
		description = s.last
	}
	s.Span.SetStatus(code, description)
}

// discreet returns an error that says as much as may be said: of a reply the code
// in front, of the network everything, of anything else that it failed.
func discreet(err error) error {
	var (
		reply   redis.Error
		network *net.OpError
	)
	switch {
	case redisx.IsReply(err) && errors.As(err, &reply):
		return shortReplyError{replyCode(reply), nil} // a script may have put anything behind it
	case errors.As(err, &network):
		return network
	case errors.Is(err, context.DeadlineExceeded):
		return context.DeadlineExceeded
	case errors.Is(err, context.Canceled):
		return context.Canceled
	case errors.Is(err, redis.ErrClosed), errors.Is(err, redis.ErrPoolTimeout), errors.Is(err, ErrNotStarted):
		return err
	default:
		return errFailed
	}
}

// errFailed stands for errors whose text is not known to be free of user data.
var errFailed = errors.New("client: command failed")
