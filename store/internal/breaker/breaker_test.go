package breaker_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/store/internal/breaker"
)

func TestMain(m *testing.M) { redistest.VerifyTestMain(m) }

const timeout = 250 * time.Millisecond

var errNetwork = errors.New("network")

func failing(context.Context) error { return errNetwork }

func working(context.Context) error { return nil }

func TestBreakerOpensAndTriesAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zap.InfoLevel)
		b := breaker.New(nil, timeout, zap.New(core))
		ctx := t.Context()
		for range 2 {
			require.ErrorIs(t, b.Do(ctx, "k", failing), errNetwork)
		}
		require.NoError(t, b.Do(ctx, "k", working))
		for range 3 {
			assert.Zero(t, b.Open())
			require.ErrorIs(t, b.Do(ctx, "k", failing), errNetwork, "a success in between starts the count again")
		}
		assert.Equal(t, 1, b.Open())
		require.ErrorIs(t, b.Do(ctx, "k", working), breaker.ErrOpen)
		time.Sleep(1100 * time.Millisecond) // in a bubble
		require.ErrorIs(t, b.Do(ctx, "k", func(context.Context) error {
			require.ErrorIs(t, b.Do(ctx, "k", working), breaker.ErrOpen, "one tries")
			return errNetwork
		}), errNetwork)
		require.ErrorIs(t, b.Do(ctx, "k", working), breaker.ErrOpen)
		time.Sleep(1100 * time.Millisecond) // in a bubble
		require.NoError(t, b.Do(ctx, "k", working))
		require.NoError(t, b.Do(ctx, "k", working))
		assert.Zero(t, b.Open())
		assert.Equal(t, 1, logs.FilterMessageSnippet("does not answer").Len())
		assert.Equal(t, 1, logs.FilterMessageSnippet("answers caches again").Len())
	})
}

func TestWhatSaysNothingAboutTheServer(t *testing.T) {
	t.Parallel()
	b := breaker.New(nil, timeout, zap.NewNop())
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for range 10 {
		require.Error(t, b.Do(ended, "k", failing))
		require.Panics(t, func() { _ = b.Do(t.Context(), "k", func(context.Context) error { panic("hook") }) })
		require.ErrorIs(t, b.Do(t.Context(), "k", func(context.Context) error { return redis.Nil }), redis.Nil)
	}
	require.NoError(t, b.Do(t.Context(), "k", working))
	synctest.Test(t, func(t *testing.T) { // a queue finds that a deadline has passed before the context does
		b := breaker.New(nil, timeout, zap.NewNop())
		for range 10 {
			ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Microsecond)
			require.Error(t, b.Do(ctx, "k", func(context.Context) error {
				time.Sleep(time.Millisecond) // in a bubble
				return context.DeadlineExceeded
			}))
			cancel()
		}
		assert.Zero(t, b.Open())
	})
}

func TestEachMasterHasABreaker(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, 3)
	client := redis.NewClusterClient(&redis.ClusterOptions{Addrs: cluster.Addrs()})
	t.Cleanup(func() { _ = client.Close() })
	require.NoError(t, client.Set(t.Context(), "a", "", 0).Err())
	b := breaker.New(client, timeout, zap.NewNop())
	a, other := "a", "b"
	require.NotEqual(t, cluster.MasterOf(t, a), cluster.MasterOf(t, other))
	for range 3 {
		require.Error(t, b.Do(t.Context(), a, failing))
	}
	require.ErrorIs(t, b.Do(t.Context(), a, working), breaker.ErrOpen)
	require.NoError(t, b.Do(t.Context(), other, working))
}
