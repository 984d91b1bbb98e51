package client

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/compozy/cache/config"
	"github.com/compozy/cache/internal/redistest"
)

func TestNilTracerProvider(t *testing.T) {
	t.Parallel()
	for _, tp := range []trace.TracerProvider{nil, (*sdktrace.TracerProvider)(nil)} {
		works(t, ready(t, &config.Config{URL: redistest.Start(t).URL()}, WithTracerProvider(tp)))
	}
}

func TestZeroRedis(t *testing.T) {
	t.Parallel()
	for name, r := range map[string]*Redis{"nil": nil, "zero": {}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, call := range []func() error{
				func() error { return r.HealthCheck(t.Context()) },
				func() error { return r.CheckLockNodes(t.Context()) },
				func() error { return r.WaitReady(t.Context()) },
				r.Close, r.Close,
			} {
				require.ErrorIs(t, call(), ErrInvalidArgument)
			}
			r.Open()
			require.Empty(t, r.Addr())
			require.Empty(t, r.Mode())
			require.Nil(t, r.Unwrap())
			require.Nil(t, r.Client())
			require.Nil(t, r.LockNodes())
			require.Nil(t, r.Warnings())
			require.NotPanics(t, func() { _ = r.String() })
			registry := prometheus.NewRegistry()
			require.NoError(t, registry.Register(r.Collector()))
			metrics, err := registry.Gather()
			require.NoError(t, err)
			require.Empty(t, metrics)
		})
	}
}

func TestNilOption(t *testing.T) {
	t.Parallel()
	_, err := New(nil, WithName("a"), nil)
	require.ErrorIs(t, err, ErrInvalidArgument)
}
