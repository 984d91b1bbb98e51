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
