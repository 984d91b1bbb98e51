package client

import (
	"context"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/config"
	"github.com/compozy/cache/internal/redistest"
)

// TestFaultsWhereAConnectionBegins: go-redis would keep the place of each such connection in its pool, which has two, for good.
func TestFaultsWhereAConnectionBegins(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	for said, fault := range faults() {
		for name, at := range map[string]struct {
			hook faulty
			span string
		}{
			"hello":                  {hook: faulty{command: "hello"}},
			"select":                 {hook: faulty{pipeline: "select"}},
			"span of hello":          {span: "hello"},
			"span of the connection": {span: "redis.pipeline select"},
		} {
			t.Run(name+"/"+said, func(t *testing.T) {
				t.Parallel()
				var well atomic.Bool
				once := func() {
					if !well.Load() {
						fault()
					}
				}
				var opts []Option
				if at.span != "" {
					opts = append(opts, WithTracerProvider(faultyTracing{span: at.span, fault: once}))
				}
				r := build(t, &config.Config{
					URL: "redis://" + srv.Addr() + "/1", PoolSize: 2, MaxIdleConns: 2, MinIdleConns: 1, MaxRetries: -1,
				}, opts...)
				at.hook.fault = once
				r.AddHook(at.hook)
				if at.span != "" {
					r.idle = nil // its connections have no spans
				}
				r.Open()
				for range 3 {
					err := r.HealthCheck(traced(t))
					require.ErrorIs(t, err, ErrUnreachable)
					require.ErrorContains(t, err, said)
					require.NotContains(t, err.Error(), "hunter2")
					require.ErrorContains(t, r.Ping(traced(t)).Err(), said)
				}
				well.Store(true)
				require.NoError(t, r.HealthCheck(traced(t)))
				require.NoError(t, r.Ping(within(t, patience)).Err())
			})
		}
	}
}

// dialing is a hook of an application that dials by itself.
type dialing struct {
	redistest.Hook

	dial func(ctx context.Context, next redis.DialHook, network, addr string) (net.Conn, error)
}

func (d dialing) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		return d.dial(ctx, next, network, addr)
	}
}

// TestDialHooksWithoutAConnection: what a hook of the application does in place of a dial costs the pool, which has two places,
// none of them, even if it never returns.
func TestDialHooksWithoutAConnection(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	release := make(chan struct{})
	t.Cleanup(func() { close(release) })
	for name, dial := range map[string]func() (net.Conn, error){
		"nil":             func() (net.Conn, error) { return nil, nil },
		"nil of a type":   func() (net.Conn, error) { return (*net.TCPConn)(nil), nil },
		"does not return": func() (net.Conn, error) { <-release; return nil, net.ErrClosed },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var well atomic.Bool
			r := build(t, &config.Config{
				URL: srv.URL(), PoolSize: 2, MaxIdleConns: 2, MinIdleConns: 1, MaxRetries: -1, DialTimeout: 300 * time.Millisecond,
			})
			r.AddHook(dialing{dial: func(ctx context.Context, next redis.DialHook, network, addr string) (net.Conn, error) {
				if well.Load() {
					return next(ctx, network, addr)
				}
				return dial()
			}})
			r.Open()
			for range 3 {
				require.ErrorIs(t, r.HealthCheck(t.Context()), ErrUnreachable)
				require.Error(t, r.Ping(t.Context()).Err())
			}
			well.Store(true)
			require.NoError(t, r.HealthCheck(t.Context()))
			require.NoError(t, r.Ping(within(t, patience)).Err())
		})
	}
}
