package lock_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/lock"
)

func TestSpans(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	spans := tracetest.NewSpanRecorder()
	tp := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans))
	m := newManager(t, newClient(t, server.Addr()), lock.WithTracerProvider(tp))
	type seen struct {
		name, resource, outcome string
		token                   int64
		status                  codes.Code
	}
	last := func() seen {
		t.Helper()
		ended := spans.Ended()
		require.NotEmpty(t, ended)
		s := ended[len(ended)-1]
		got := seen{name: s.Name(), status: s.Status().Code}
		for _, a := range s.Attributes() {
			switch a.Key {
			case "lock.resource":
				got.resource = a.Value.AsString()
			case "lock.outcome":
				got.outcome = a.Value.AsString()
			case attribute.Key("lock.token"):
				got.token = a.Value.AsInt64()
			}
		}
		return got
	}

	l := acquire(t, m, "job", longTTL)
	assert.Equal(t, seen{"lock.acquire", "job", "acquired", l.Token(), codes.Unset}, last())
	acquired := spans.Ended()[0].SpanContext()
	_, err := m.TryAcquire(t.Context(), "job", longTTL)
	require.ErrorIs(t, err, lock.ErrLockNotAcquired)
	assert.Equal(t, seen{"lock.acquire", "job", "refused", 0, codes.Unset}, last(), "no error of anybody")
	require.NoError(t, l.Release(t.Context()))
	assert.Equal(t, seen{"lock.release", "job", "released", l.Token(), codes.Unset}, last())
	released := spans.Ended()[len(spans.Ended())-1]
	assert.NotEqual(t, acquired.TraceID(), released.SpanContext().TraceID(), "released in another trace")
	require.Len(t, released.Links(), 1)
	assert.Equal(t, acquired, released.Links()[0].SpanContext)
	w, err := m.AcquireWait(t.Context(), "job", longTTL)
	require.NoError(t, err)
	assert.Equal(t, seen{"lock.wait", "job", "acquired", w.Token(), codes.Unset}, last())
	require.NoError(t, server.Client(t).Del(t.Context(), "cache:lock:{job}").Err())
	require.ErrorIs(t, w.Release(t.Context()), lock.ErrLockExpired)
	assert.Equal(t, seen{"lock.release", "job", "lost", w.Token(), codes.Unset}, last())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = m.Acquire(ctx, "job", longTTL)
	require.ErrorIs(t, err, context.Canceled)
	assert.Equal(t, seen{"lock.acquire", "job", "canceled", 0, codes.Unset}, last())
	server.Kill()
	_, err = m.Acquire(t.Context(), "job", longTTL)
	require.ErrorIs(t, err, lock.ErrRedis)
	assert.Equal(t, seen{"lock.acquire", "job", "error", 0, codes.Error}, last())
	assert.Contains(t, spans.Ended()[len(spans.Ended())-1].Attributes(), attribute.String("error.type", "*lock.RedisError"))
	count := len(spans.Ended())
	require.Error(t, m.HealthCheck(t.Context()))
	assert.Len(t, spans.Ended(), count, "only calls are traced")
}
