package cache_test

import (
	"context"
	"fmt"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/fx"

	"github.com/compozy/cache"
	"github.com/compozy/cache/embedded"
)

// With a trace.TracerProvider in the graph, one trace leads from a request over the lock that it takes and the event that
// it publishes to the handler of the event, in whatever process that is.
func Example_tracing() {
	spans := tracetest.NewSpanRecorder() // in production an exporter
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans))
	handled := make(chan string)
	app := fx.New(fx.NopLogger,
		cache.Module, embedded.Module(),
		fx.Supply(fx.Annotate(provider, fx.As(new(trace.TracerProvider)))),
		fx.Invoke(func(lc fx.Lifecycle, locks cache.Locker, events cache.NotificationSystem) {
			ready, done := make(chan struct{}), make(chan error, 1)
			ctx, cancel := context.WithCancel(context.Background())
			lc.Append(fx.StartStopHook(func() {
				go func() {
					done <- cache.Handle(ctx, events, "task:*", func(ctx context.Context, task cache.TaskEvent) error {
						handled <- trace.SpanFromContext(ctx).SpanContext().TraceID().String() // what is done with ctx belongs to the trace
						return nil
					}, cache.WithReady(func() { close(ready) }))
				}()
				<-ready
			}, func() error { cancel(); return <-done }))
			lc.Append(fx.StartHook(func(ctx context.Context) error {
				for range 2 { // the first time scripts are sent to the server, which adds to the trace
					ctx, request := provider.Tracer("orders").Start(ctx, "request")
					err := locks.WithLock(ctx, "invoice-7", 30*time.Second, func(ctx context.Context, _ cache.FencedLock) error {
						err := events.PublishTaskEvent(ctx, &cache.TaskEvent{ID: "7", WorkflowID: "w", Status: "done"})
						fmt.Println("one trace:", <-handled == trace.SpanFromContext(ctx).SpanContext().TraceID().String())
						return err
					})
					request.End()
					if err != nil {
						return err
					}
				}
				return nil
			}))
		}))
	run(app)
	printTrace(spans.Ended())
	// Output:
	// one trace: true
	// one trace: true
	// request (internal)
	//     lock.wait (internal)
	//       lock.resource=invoice-7
	//       lock.outcome=acquired
	//       lock.token=…
	//         evalsha (client)
	//           db.operation.name=evalsha
	//           db.namespace=0
	//           server.address=embedded
	//           server.port=6379
	//           db.system.name=redis
	//     publish task (producer)
	//       messaging.system=redis
	//       messaging.operation.name=publish
	//       messaging.operation.type=send
	//       messaging.destination.name=task:events
	//         evalsha (client)
	//           db.operation.name=evalsha
	//           db.namespace=0
	//           server.address=embedded
	//           server.port=6379
	//           db.system.name=redis
	//         process task (consumer), linked to publish task
	//           messaging.system=redis
	//           messaging.operation.name=process
	//           messaging.operation.type=process
	//           messaging.destination.name=task:events
	//           messaging.message.id=…
	//     lock.release (internal), linked to lock.wait
	//       lock.resource=invoice-7
	//       lock.outcome=released
	//       lock.token=…
	//         evalsha (client)
	//           db.operation.name=evalsha
	//           db.namespace=0
	//           server.address=embedded
	//           server.port=6379
	//           db.system.name=redis
}

// printTrace prints the last trace, spans below their parents, without what differs from run to run.
func printTrace(spans []sdktrace.ReadOnlySpan) {
	names, last := map[trace.SpanID]string{}, sdktrace.ReadOnlySpan(nil)
	for _, s := range spans {
		names[s.SpanContext().SpanID()] = s.Name()
		if !s.Parent().IsValid() {
			last = s
		}
	}
	var show func(s sdktrace.ReadOnlySpan, indent string)
	show = func(s sdktrace.ReadOnlySpan, indent string) {
		fmt.Printf("%s%s (%s)", indent, s.Name(), s.SpanKind())
		for _, l := range s.Links() {
			fmt.Printf(", linked to %s", names[l.SpanContext.SpanID()])
		}
		fmt.Println()
		for _, a := range s.Attributes() {
			value := a.Value.String()
			if a.Key == "lock.token" || a.Key == "messaging.message.id" {
				value = "…"
			}
			fmt.Printf("%s  %s=%s\n", indent, a.Key, value)
		}
		for _, child := range spans {
			if child.Parent().SpanID() == s.SpanContext().SpanID() {
				show(child, indent+"    ")
			}
		}
	}
	show(last, "")
}
