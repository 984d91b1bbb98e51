package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"

	"github.com/compozy/cache/config"
	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/internal/redisx"
)

// recorder returns a provider and what it records.
func recorder(t *testing.T) (*sdktrace.TracerProvider, *tracetest.SpanRecorder) {
	t.Helper()
	spans := tracetest.NewSpanRecorder()
	tp := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans))
	t.Cleanup(func() { require.NoError(t, tp.Shutdown(context.Background())) })
	return tp, spans
}

// dump renders everything that a span holds.
func dump(s sdktrace.ReadOnlySpan) string {
	text := fmt.Sprintf("%s %s %v", s.Name(), s.Status().Description, s.Attributes())
	for _, e := range s.Events() {
		text += fmt.Sprintf(" %s %v", e.Name, e.Attributes)
	}
	return text
}

func TestTracing(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t, redistest.WithPassword("hunter2"))
	tp, spans := recorder(t)
	r := ready(t, &config.Config{URL: srv.URL(), MinIdleConns: 1, LockNodes: []string{srv.URL()}}, WithTracerProvider(tp))
	eventually(t, func() bool { return r.PoolStats().IdleConns > 0 }, "connected")
	spans.Reset()

	parent, span := tp.Tracer("test").Start(t.Context(), "parent")
	const key, value = "key-hunter2", "value-hunter2"
	require.NoError(t, r.Set(parent, key, value, 0).Err())
	require.ErrorIs(t, r.Get(parent, "missing-hunter2").Err(), redis.Nil)
	require.Error(t, r.LPush(parent, key, value).Err())
	require.Error(t, r.Do(parent, "nosuchcommand", key, value).Err())
	require.Error(t, r.Eval(parent, "return redis.error_reply(ARGV[1])", []string{key}, "HUNTER2 hunter2").Err())
	require.Error(t, r.Eval(parent, "error(ARGV[1])", []string{key}, value).Err())
	_, err := r.Pipelined(parent, func(p redis.Pipeliner) error {
		p.Get(parent, key)
		p.LPush(parent, key, value)
		return nil
	})
	require.Error(t, err)
	require.NoError(t, r.LockNodes()[0].Get(parent, key).Err())
	span.End()

	byName := make(map[string]sdktrace.ReadOnlySpan)
	for _, s := range spans.Ended() {
		require.NotContains(t, dump(s), "hunter2")
		require.NotContains(t, dump(s), "HUNTER2")
		byName[s.Name()] = s
	}
	for _, name := range []string{"set", "get", "lpush", "nosuchcommand", "eval", "redis.pipeline get lpush"} {
		s := byName[name]
		require.NotNil(t, s, name)
		require.Equal(t, span.SpanContext().TraceID(), s.SpanContext().TraceID())
		require.Equal(t, span.SpanContext().SpanID(), s.Parent().SpanID())
	}
	require.Equal(t, codes.Unset, byName["get"].Status().Code, "a missing key is no error")
	require.Equal(t, sdktrace.Status{Code: codes.Error, Description: "WRONGTYPE"}, byName["lpush"].Status())
	require.Equal(t, sdktrace.Status{Code: codes.Error, Description: "ERR"}, byName["nosuchcommand"].Status())
}

// The attributes are those of the conventions, in their stable version.
func TestTracingFollowsTheConventions(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	tp, spans := recorder(t)
	r := ready(t, &config.Config{Host: srv.Host(), Port: srv.Port(), DB: 3}, WithTracerProvider(tp))
	last := func() map[attribute.Key]string {
		ended := spans.Ended()
		got := make(map[attribute.Key]string)
		for _, a := range ended[len(ended)-1].Attributes() {
			got[a.Key] = a.Value.String()
		}
		return got
	}
	want := func(more ...attribute.KeyValue) map[attribute.Key]string {
		port, err := strconv.Atoi(srv.Port())
		require.NoError(t, err)
		got := make(map[attribute.Key]string)
		for _, a := range append([]attribute.KeyValue{
			semconv.DBSystemNameRedis, semconv.DBNamespace("3"), semconv.ServerAddress(srv.Host()), semconv.ServerPort(port),
		}, more...) {
			got[a.Key] = a.Value.String()
		}
		return got
	}

	require.NoError(t, r.Set(t.Context(), "k", "v", 0).Err())
	require.Equal(t, want(semconv.DBOperationName("set")), last())
	require.Error(t, r.LPush(t.Context(), "k", "v").Err())
	require.Equal(t, want(semconv.DBOperationName("lpush"), semconv.DBResponseStatusCode("WRONGTYPE"),
		semconv.ErrorTypeKey.String("WRONGTYPE")), last())
	for operation, second := range map[string]string{"PIPELINE get": "get", "PIPELINE": "exists"} {
		_, err := r.Pipelined(t.Context(), func(p redis.Pipeliner) error {
			p.Get(t.Context(), "k")
			p.Do(t.Context(), second, "k")
			return nil
		})
		require.NoError(t, err)
		require.Equal(t, want(semconv.DBOperationName(operation), semconv.DBOperationBatchSize(2)), last())
	}
	srv.Kill()
	require.Error(t, r.Get(t.Context(), "k").Err())
	require.Equal(t, "*net.OpError", last()[semconv.ErrorTypeKey])
}

func TestTracingOfCluster(t *testing.T) {
	t.Parallel()
	set := redistest.StartCluster(t, 3)
	tp, spans := recorder(t)
	r := ready(t, &config.Config{Cluster: true, Addrs: set.Addrs()}, WithTracerProvider(tp))
	require.NoError(t, r.Set(t.Context(), "hunter2", "v", 0).Err())
	found := false
	for _, s := range spans.Ended() {
		require.NotContains(t, dump(s), "hunter2")
		found = found || s.Name() == "set"
	}
	require.True(t, found)
}

func TestNoTracingBeforeOpen(t *testing.T) {
	t.Parallel()
	tp, spans := recorder(t)
	r := build(t, nil, WithTracerProvider(tp))
	require.ErrorIs(t, r.Get(t.Context(), "k").Err(), ErrNotStarted)
	require.Empty(t, spans.Ended())
}

func TestDiscreet(t *testing.T) {
	t.Parallel()
	dial := &net.OpError{Op: "dial", Net: "tcp", Err: os.ErrDeadlineExceeded}
	for _, tc := range []struct {
		err  error
		want string
	}{
		{redis.ErrCrossSlot, "CROSSSLOT"},
		{redis.ErrNoScript, "NOSCRIPT"},
		{fmt.Errorf("secret: %w", dial), dial.Error()},
		{fmt.Errorf("secret: %w", context.Canceled), context.Canceled.Error()},
		{fmt.Errorf("secret: %w", context.DeadlineExceeded), context.DeadlineExceeded.Error()},
		{redis.ErrClosed, redis.ErrClosed.Error()},
		{io.EOF, errFailed.Error()},
		{fmt.Errorf("no sentinel knows the master: %w", redis.Nil), errFailed.Error()},
		{errors.New("redis: can't parse reply: secret"), errFailed.Error()},
	} {
		require.Equal(t, tc.want, discreet(tc.err).Error())
	}
}

// An idle application starts no traces: not by opening connections, not by checking its
// health. What somebody asks for is traced, and a script that the server does not know
// yet is no error.
func TestBackgroundWorkStartsNoTrace(t *testing.T) {
	t.Parallel()
	srv, cluster := redistest.Start(t), redistest.StartCluster(t, 3)
	for name, cfg := range map[string]*config.Config{
		"single":  {URL: srv.URL(), ClientName: "idle", MinIdleConns: 2, LockNodes: []string{srv.Addr()}},
		"cluster": {Cluster: true, Addrs: cluster.Addrs(), ClientName: "idle", MinIdleConns: 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tp, spans := recorder(t)
			r := build(t, cfg, WithTracerProvider(tp))
			if r.idle != nil {
				r.idle.every = time.Millisecond
			}
			r.Open()
			require.NoError(t, r.WaitReady(t.Context()))
			require.NoError(t, r.HealthCheck(t.Context()))
			require.NoError(t, r.CheckLockNodes(t.Context()))
			background := redisx.Background(t.Context())
			require.NoError(t, r.Set(background, "k", "v", 0).Err())
			for _, s := range spans.Started() {
				t.Errorf("a span of background work: %s", s.Name())
			}

			require.NoError(t, r.Get(t.Context(), "k").Err())
			require.Equal(t, "get", spans.Ended()[len(spans.Ended())-1].Name(), "a command of the application")

			parent, span := tp.Tracer("test").Start(background, "parent")
			require.NoError(t, r.Get(parent, "k").Err())
			require.Error(t, r.EvalSha(parent, "0123456789012345678901234567890123456789", []string{"k"}).Err())
			span.End()
			byName := make(map[string]sdktrace.ReadOnlySpan)
			for _, s := range spans.Ended() {
				byName[s.Name()] = s
			}
			require.Equal(t, span.SpanContext().TraceID(), byName["get"].SpanContext().TraceID(), "part of a trace")
			require.Equal(t, codes.Unset, byName["evalsha"].Status().Code)
			require.Empty(t, byName["evalsha"].Events())
		})
	}
}
