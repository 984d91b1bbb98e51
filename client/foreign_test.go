package client

import (
	"context"
	"crypto/tls"
	"net"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/compozy/cache/config"
	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/internal/redisx"
)

// faulty is a hook of an application, which calls fault in place of a command, a pipeline or a dial.
type faulty struct {
	redistest.Hook

	command, pipeline string // which begins with this command
	dial              bool
	fault             func()
}

func (h faulty) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		if h.dial {
			h.fault()
		}
		return next(ctx, network, addr)
	}
}

func (h faulty) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if cmd.Name() == h.command {
			h.fault()
		}
		return next(ctx, cmd)
	}
}

func (h faulty) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if cmds[0].Name() == h.pipeline {
			h.fault()
		}
		return next(ctx, cmds)
	}
}

// faultyTracing has spans that call a function when they begin: all, or those of a name.
type faultyTracing struct {
	noop.TracerProvider

	span  string
	fault func()
}

func (p faultyTracing) Tracer(string, ...trace.TracerOption) trace.Tracer {
	return faultyTracer{span: p.span, fault: p.fault}
}

type faultyTracer struct {
	noop.Tracer

	span  string
	fault func()
}

func (f faultyTracer) Start(ctx context.Context, name string, _ ...trace.SpanStartOption) (context.Context, trace.Span) {
	if f.span == "" || f.span == name {
		f.fault()
	}
	return ctx, noop.Span{}
}

// traced returns a context with a trace, of which each command is a part.
func traced(t *testing.T) context.Context {
	t.Helper()
	return trace.ContextWithSpanContext(t.Context(), trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{1}}))
}

func none() *redis.Options { return nil }

// faults are what the code of an application may do to ours, with what is said of it.
func faults() map[string]func() {
	return map[string]func(){
		"(foreign_test.go:":                     func() { panic("hunter2") },
		"runtime error: invalid memory address": func() { _ = none().Addr },
		redisx.ErrExited.Error():                runtime.Goexit,
	}
}

// TestFaultsOfHooks: each of these would end the process, or count as a check that succeeded.
func TestFaultsOfHooks(t *testing.T) {
	t.Parallel()
	srv, secure, sentinels, cluster := redistest.Start(t), redistest.Start(t, redistest.WithTLS()), redistest.StartSentinel(t), redistest.StartCluster(t, 1)
	single := &config.Config{URL: srv.URL(), MinIdleConns: 1}
	dialer := func(cfg *config.Config, fault func()) *config.Config {
		with := *cfg
		with.Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
			fault()
			return new(net.Dialer).DialContext(ctx, network, addr)
		}
		return &with
	}
	for said, fault := range faults() {
		for name, connect := range map[string]func(t *testing.T, fault func()) *Redis{
			"pipeline": func(t *testing.T, fault func()) *Redis {
				t.Helper()
				r := open(t, single)
				r.AddHook(faulty{pipeline: "info", fault: fault})
				return r
			},
			"dial hook": func(t *testing.T, fault func()) *Redis {
				t.Helper()
				r := build(t, single)
				r.AddHook(faulty{dial: true, fault: fault})
				r.Open()
				return r
			},
			"command of a Cluster": func(t *testing.T, fault func()) *Redis {
				t.Helper()
				r := open(t, &config.Config{Cluster: true, Addrs: cluster.Addrs()})
				r.AddHook(faulty{command: "cluster", fault: fault})
				return r
			},
			"tracing": func(t *testing.T, fault func()) *Redis {
				t.Helper()
				return open(t, single, WithTracerProvider(faultyTracing{fault: fault}))
			},
			"Dialer": func(t *testing.T, fault func()) *Redis {
				t.Helper()
				return open(t, dialer(single, fault))
			},
			"Dialer to sentinels": func(t *testing.T, fault func()) *Redis {
				t.Helper()
				return open(t, dialer(&config.Config{MasterName: sentinels.MasterName(), Addrs: sentinels.Addrs()}, fault))
			},
			"TLSConfig": func(t *testing.T, fault func()) *Redis {
				t.Helper()
				return open(t, &config.Config{URL: secure.URL(), TLSConfig: &tls.Config{
					InsecureSkipVerify: true, //nolint:gosec // this is about the other function
					VerifyConnection:   func(tls.ConnectionState) error { fault(); return nil },
				}})
			},
		} {
			t.Run(name+"/"+said, func(t *testing.T) {
				t.Parallel()
				var left atomic.Int32
				left.Store(1000)
				r := connect(t, func() {
					if left.Add(-1) >= 0 {
						fault()
					}
				})
				err := r.HealthCheck(traced(t))
				require.ErrorIs(t, err, ErrUnreachable)
				require.ErrorContains(t, err, said)
				require.NotContains(t, err.Error(), "hunter2")
				left.Store(2)
				require.NoError(t, r.WaitReady(traced(t)), "it tries again")
				require.Negative(t, left.Load())
			})
		}
	}
}

// TestFaultsOfHooksOfLockNodes: these are checked at once.
func TestFaultsOfHooksOfLockNodes(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	for said, fault := range faults() {
		r := ready(t, &config.Config{URL: srv.URL(), LockNodes: []string{srv.Addr()}})
		r.LockNodes()[0].AddHook(faulty{pipeline: "info", fault: fault})
		err := r.CheckLockNodes(t.Context())
		require.ErrorContains(t, err, said)
		require.ErrorContains(t, err, "lock node "+srv.Addr())
	}
}

// TestIdleConnectionsDespiteHooks: nobody recovers in the goroutines that open them.
func TestIdleConnectionsDespiteHooks(t *testing.T) {
	t.Parallel()
	srv, cluster := redistest.Start(t), redistest.StartCluster(t, 3)
	for said, fault := range faults() {
		for name, cfg := range map[string]*config.Config{
			"single": {URL: srv.URL()}, "cluster": {Cluster: true, Addrs: cluster.Addrs()},
		} {
			t.Run(name+"/"+said, func(t *testing.T) {
				t.Parallel()
				core, logs := observer.New(zap.ErrorLevel)
				r := build(t, cfg, WithLogger(zap.New(core)))
				var well atomic.Bool
				var called atomic.Int32
				hook := faulty{command: "ping", fault: func() {
					called.Add(1)
					if !well.Load() {
						fault()
					}
				}}
				if c, ok := r.Unwrap().(*redis.ClusterClient); ok {
					c.OnNewNode(func(node *redis.Client) { node.AddHook(hook) })
				} else {
					r.AddHook(hook)
				}
				r.idle.every = time.Millisecond
				r.Open()
				eventually(t, func() bool { return called.Load() >= 10 }, "it tries again")
				require.Equal(t, 1, logs.Len(), "once a minute")
				require.Equal(t, "cache: idle connections are not opened", logs.All()[0].Message)
				require.Contains(t, logs.All()[0].ContextMap()["error"], said)
				well.Store(true)
				eventually(t, func() bool { return int(r.PoolStats().IdleConns) >= r.idle.least }, "they are opened")
				require.NoError(t, r.Set(t.Context(), "k", "v", 0).Err())
			})
		}
	}
}

// TestDialerPanicsInACommand: go-redis, which dials in goroutines of its own, would write the value to stderr.
func TestDialerPanicsInACommand(t *testing.T) {
	t.Parallel()
	r := open(t, &config.Config{Dialer: func(context.Context, string, string) (net.Conn, error) { panic("hunter2") }})
	_, dialed := r.main.dial(t.Context(), "tcp", "127.0.0.1:1") // which the clients of sentinels use as it is
	for _, err := range []error{r.Get(t.Context(), "k").Err(), dialed} {
		require.ErrorContains(t, err, "panics in client.TestDialerPanicsInACommand.func1 (foreign_test.go:")
		require.NotContains(t, err.Error(), "hunter2")
	}
}
