package cache_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/fx"

	"github.com/compozy/cache"
	"github.com/compozy/cache/internal/redistest"
)

// TestIdleApplicationStartsNoTraces has an application hold a lock, listen and be asked
// for its health, while nobody asks for anything else: a trace for each renewal and
// heartbeat would bury those of the application.
func TestIdleApplicationStartsNoTraces(t *testing.T) {
	t.Parallel()
	servers := redistest.StartN(t, 4)
	for name, nodes := range map[string][]string{
		"one server": nil, "lock nodes": {servers[1].Addr(), servers[2].Addr(), servers[3].Addr()},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			spans := tracetest.NewSpanRecorder()
			provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans))
			t.Cleanup(func() { require.NoError(t, provider.Shutdown(context.Background())) })
			cfg := configOf(servers[0])
			cfg.LockNodes, cfg.KeyPrefix = nodes, name[:4]+":"
			var parts everything
			startConfigured(t, cfg, fx.Invoke(func(p everything) { parts = p }),
				fx.Supply(fx.Annotate(provider, fx.As(new(trace.TracerProvider)))))
			ctx := timeout(t)
			parent, span := provider.Tracer("test").Start(ctx, "request")
			parts.Notification.Subscribe(parent, "workflow:*")
			_, err := parts.LockManager.Acquire(parent, "job", 3*time.Second)
			require.NoError(t, err)
			span.End()

			manager := parts.LockManager.(*cache.RedisLockManager)
			before := servers[0].Commands(t)["evalsha"]
			eventually(t, "renewals and heartbeats", func() bool {
				return manager.GetMetrics().RenewalsTotal >= 2 && servers[0].Commands(t)["evalsha"] >= before+4
			})
			assert.Equal(t, http.StatusOK, status(parts.Health.Handler(), "/healthz"))

			ours := false
			for _, s := range spans.Started() {
				ours = ours || s.Parent().SpanID() == span.SpanContext().SpanID()
				if !s.Parent().IsValid() {
					assert.Equal(t, "request", s.Name(), "a trace of its own")
				}
			}
			assert.True(t, ours, "what was asked for is in the trace of the request")
		})
	}
}
