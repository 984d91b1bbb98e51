package store_test

import (
	"context"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/store"
)

// What WithBeforeLoad refuses counts as a load that failed, with Redis and, where loaders need a slot, without.
func TestBeforeLoad(t *testing.T) {
	t.Parallel()
	var refuse atomic.Bool
	server := redistest.Start(t)
	s, err := store.New(newClient(t, server.Addr()), store.WithBeforeLoad(func(_ context.Context, cache string) error {
		assert.Equal(t, name, cache)
		if refuse.Load() {
			return errDatabase
		}
		return nil
	}))
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close(context.Background()) })
	c := newCache[int](t, s, store.WithFailurePause(0))
	loader, count := loads(1)
	for _, down := range []bool{false, true} {
		if down {
			server.Kill()
		}
		refuse.Store(true)
		for i := range 40 { // more than there are slots
			_, err := c.GetOrLoad(t.Context(), strconv.Itoa(i), loader)
			require.ErrorIs(t, err, errDatabase)
		}
		_, err := c.LoadMany(t.Context(), []string{"many"}, func(context.Context, []string) (map[string]int, error) {
			count.Add(1)
			return nil, nil
		})
		require.ErrorIs(t, err, errDatabase)
		require.Zero(t, count.Load(), "no loader ran")
		refuse.Store(false)
		v, err := c.GetOrLoad(t.Context(), "last, down: "+strconv.FormatBool(down), loader)
		require.NoError(t, err)
		assert.Equal(t, 1, v)
		require.EqualValues(t, 1, count.Swap(0))
	}
}
