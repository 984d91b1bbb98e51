package redisx_test

import (
	"context"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redisx"
)

func TestSleep(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		require.NoError(t, redisx.Sleep(t.Context(), time.Hour))
		require.Equal(t, time.Hour, time.Since(began))

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, redisx.Sleep(ctx, time.Hour), context.DeadlineExceeded)
		require.Equal(t, time.Hour+time.Second, time.Since(began))
	})
}

func TestBackoffDoublesUpToItsLimit(t *testing.T) {
	t.Parallel()
	const low, high = 8 * time.Millisecond, 100 * time.Millisecond
	for number, most := range map[int]time.Duration{
		0: low, 1: low, 2: 2 * low, 3: 4 * low, 4: 8 * low, 5: high, 40: high, 1000: high,
	} {
		for range 100 {
			d := redisx.Backoff(number, low, high)
			require.GreaterOrEqual(t, d, most/2, "number %d", number)
			require.LessOrEqual(t, d, most, "number %d", number)
		}
	}
	require.LessOrEqual(t, redisx.Backoff(20, time.Minute, math.MaxInt64), time.Duration(math.MaxInt64))
	require.Zero(t, redisx.Backoff(3, 0, 0))
}
