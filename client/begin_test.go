package client

import (
	"sync/atomic"
	"testing"

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
