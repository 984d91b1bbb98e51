package lifecycle

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// drainsFor are drains with these delays.
func drainsFor(delays ...time.Duration) (Drains, *observer.ObservedLogs) {
	core, logs := observer.New(zap.DebugLevel)
	var ds Drains
	for _, delay := range delays {
		ds = append(ds, &Drain{Delay: delay, Logger: zap.New(core)})
	}
	return ds, logs
}

func TestDrainsWaitOnceForTheLongest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ds, logs := drainsFor(time.Second, 3*time.Second, 0)
		var h Hooks
		AppendDrains(&h, ds)
		AppendDrains(&h, ds)
		require.NoError(t, h.Start(t.Context()))
		for _, d := range ds {
			require.NoError(t, d.Check(t.Context()))
		}
		begin := time.Now()

		require.NoError(t, h.Stop(t.Context()))

		assert.Equal(t, 3*time.Second, time.Since(begin))
		for _, d := range ds {
			require.ErrorIs(t, d.Check(t.Context()), ErrStopping)
		}
		require.Equal(t, 1, logs.Len(), "one line")
		assert.Equal(t, 3*time.Second, logs.All()[0].ContextMap()["drain_delay"])
	})
}

func TestDrainsUseHalfOfTheBudget(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for _, budget := range []time.Duration{8 * time.Second, defaultBudget} {
			ds, logs := drainsFor(time.Minute)
			ctx, cancel := context.Background(), context.CancelFunc(func() {})
			if budget != defaultBudget {
				ctx, cancel = context.WithTimeout(ctx, budget)
			}
			begin := time.Now()
			ds.Stop(ctx)
			assert.Equal(t, budget/2, time.Since(begin))
			assert.NoError(t, ctx.Err())
			cancel()
			assert.Equal(t, 1, logs.FilterLevelExact(zap.WarnLevel).Len())
			ds.Stop(t.Context())
			assert.Equal(t, budget/2, time.Since(begin), "what was cut short does not begin again")
		}
	})
}

func TestNoDrainDelaySaysNothing(t *testing.T) {
	t.Parallel()
	ds, logs := drainsFor(0, 0)
	ds.Stop(t.Context())
	Drains(nil).Stop(t.Context())
	assert.Zero(t, logs.Len())
	require.ErrorIs(t, ds[1].Check(t.Context()), ErrStopping)
}
