package breaker_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/compozy/cache/internal/redisx"
	"github.com/compozy/cache/store/internal/breaker"
)

// silent is a call without an answer. Clients may report the end of their context in their own way.
func silent(ctx context.Context) error {
	<-ctx.Done()
	return context.Cause(ctx)
}

func TestServerThatIsSilent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := breaker.New(nil, timeout, zap.NewNop())
		require.NoError(t, b.Do(t.Context(), "k", working))
		for range 3 {
			time.Sleep(timeout / 2) // in a bubble
			began := time.Now()
			require.ErrorIs(t, b.Do(t.Context(), "k", silent), breaker.ErrNoAnswer)
			assert.Equal(t, timeout, time.Since(began), "as nobody was answered since")
		}
		assert.Equal(t, 1, b.Open())
	})
}

// TestServerThatAnswersOthers: a call waits for as long as it does, and not for ever.
func TestServerThatAnswersOthers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := breaker.New(nil, timeout, zap.NewNop())
		answering, stop := context.WithCancel(t.Context())
		go func() {
			for redisx.Sleep(answering, timeout/2) == nil {
				assert.NoError(t, b.Do(t.Context(), "k", working))
			}
		}()
		require.NoError(t, b.Do(t.Context(), "k", func(ctx context.Context) error { return redisx.Sleep(ctx, 7*timeout) }))
		for range 10 {
			began := time.Now()
			require.ErrorIs(t, b.Do(t.Context(), "k", silent), breaker.ErrNoAnswer)
			assert.Equal(t, 8*timeout, time.Since(began))
		}
		assert.Zero(t, b.Open(), "it was the way to it")
		time.AfterFunc(3*timeout+timeout/4, stop)
		began := time.Now()
		require.ErrorIs(t, b.Do(t.Context(), "k", silent), breaker.ErrNoAnswer)
		assert.LessOrEqual(t, time.Since(began), 5*timeout, "after its last answer")
	})
}

// askBriefly asks a silent server for a caller with this much time, and returns the error.
func askBriefly(t *testing.T, b *breaker.Breakers, d time.Duration) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	return b.Do(ctx, "k", silent)
}

// TestSilenceForCallersWithLittleTime: the silence counts that all of them have seen together.
func TestSilenceForCallersWithLittleTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := breaker.New(nil, timeout, zap.NewNop())
		require.NoError(t, b.Do(t.Context(), "k", working))
		requireOpenAfter := func(calls int) {
			t.Helper()
			for range calls {
				assert.Zero(t, b.Open())
				require.ErrorIs(t, askBriefly(t, b, 2*timeout/5), context.DeadlineExceeded)
			}
			require.Equal(t, 1, b.Open())
			require.ErrorIs(t, askBriefly(t, b, timeout), breaker.ErrOpen)
			time.Sleep(1100 * time.Millisecond) // in a bubble
		}
		requireOpenAfter(5) // of which the last three are failures
		requireOpenAfter(3)
		require.ErrorIs(t, askBriefly(t, b, 2*timeout/5), context.DeadlineExceeded)
		require.NoError(t, b.Do(t.Context(), "k", working))
		requireOpenAfter(5)
	})
}

// TestCallersWithLittleTimeAreNoOutage, whether others are answered meanwhile, or nobody asks for long.
func TestCallersWithLittleTimeAreNoOutage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := breaker.New(nil, timeout, zap.NewNop())
		for range 20 {
			for range 2 {
				require.ErrorIs(t, askBriefly(t, b, 2*timeout/5), context.DeadlineExceeded)
				time.Sleep(time.Hour) // in a bubble
			}
			require.NoError(t, b.Do(t.Context(), "k", working))
			time.Sleep(time.Hour) // in a bubble
		}
		for range 10 {
			require.ErrorIs(t, askBriefly(t, b, timeout/20), context.DeadlineExceeded)
			time.Sleep(time.Hour) // in a bubble
		}
		assert.Zero(t, b.Open())
	})
}
