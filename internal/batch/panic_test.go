package batch_test

import (
	"context"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/batch"
)

func TestAPanicReachesTheCallers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		broken := true
		hold := make(chan struct{})
		q := batch.NewQueue(batch.Settings[*item]{Timeout: time.Hour, Send: func(context.Context, []*item) {
			<-hold
			if broken {
				panic("a hook is broken")
			}
		}})
		panics := make(chan any, 2)
		for range 2 {
			go func() {
				defer func() { panics <- recover() }()
				_, _ = q.Do(t.Context(), &item{})
			}()
		}
		synctest.Wait()
		close(hold)
		for range 2 {
			require.Contains(t, <-panics, "a hook is broken")
		}
		broken = false
		require.NoError(t, (<-do(t.Context(), q, 1)).err, "the queue goes on")
	})
}

func TestAPanicOfACallerThatSendsByItselfTakesNoPlace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := lone(func(_ context.Context, it *item) {
			if it.number == 1 {
				panic("a hook is broken")
			}
		})
		for range 5 {
			require.NoError(t, (<-do(t.Context(), q, 0)).err)
			require.PanicsWithValue(t, "a hook is broken", func() { _, _ = q.Do(t.Context(), &item{number: 1}) })
		}
		require.NoError(t, (<-do(t.Context(), q, 0)).err)
	})
}

func TestASendThatEndsItsGoroutineStrandsNobody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		broken := true
		q := batch.NewQueue(batch.Settings[*item]{Timeout: time.Hour, Send: func(context.Context, []*item) {
			if broken {
				runtime.Goexit() // as a failing test does in a hook
			}
		}})
		require.Panics(t, func() { _, _ = q.Do(t.Context(), &item{}) })
		broken = false
		require.NoError(t, (<-do(t.Context(), q, 1)).err, "the queue goes on")
	})
}

func TestAPanicOfSizeLocksNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLine()
		close(l.open)
		set := l.settings()
		set.Size = func(it *item) int { return 1 / it.number }
		q := batch.NewQueue(set)
		require.Panics(t, func() { _, _ = q.Do(t.Context(), &item{}) })
		require.NoError(t, (<-do(t.Context(), q, 1)).err)
	})
}
