package store_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/store"
)

// several returns some keys, and a loader that has them all and counts its calls.
func several(count int) (keys []string, loader func(context.Context, []string) (map[string]string, error), calls *atomic.Int64) {
	for i := range count {
		keys = append(keys, fmt.Sprint("k", i))
	}
	calls = new(atomic.Int64)
	return keys, func(_ context.Context, missing []string) (map[string]string, error) {
		calls.Add(1)
		values := make(map[string]string)
		for _, key := range missing {
			values[key] = "v"
		}
		return values, nil
	}, calls
}

// Redis stops to answer while another process loads the keys of a LoadMany. Few calls of the loader have them all, and not one each.
func TestKeysThatOthersLoadWhenRedisDies(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	a := newCache[string](t, newStore(t, newClient(t, server.Addr()), store.WithTimeout(time.Second)))
	b := newCache[string](t, newStore(t, newClient(t, server.Addr()), store.WithTimeout(time.Second)))
	keys, loader, calls := several(200)
	began, stop := make(chan struct{}), make(chan struct{})
	defer close(stop)
	go func() {
		_, _ = a.LoadMany(t.Context(), keys, func(context.Context, []string) (map[string]string, error) {
			close(began)
			<-stop
			return nil, errDatabase
		})
	}()
	receive(t, began, "the load")
	got := make(chan map[string]string, 1)
	go func() {
		values, err := b.LoadMany(t.Context(), keys, func(ctx context.Context, missing []string) (map[string]string, error) {
			<-time.After(100 * time.Millisecond) // a database, and not a map
			return loader(ctx, missing)
		})
		assert.NoError(t, err)
		got <- values
	}()
	require.Eventually(t, func() bool { return store.Waiting(b) == len(keys) }, patience, tick)
	server.Kill()
	assert.Len(t, receive(t, got, "the values"), len(keys))
	assert.LessOrEqual(t, calls.Load(), int64(len(keys)/10))
}

// When the queue of an outage ends with Redis having the values, one call of the loader has all that are to be loaded early.
func TestEarlyRefreshAfterTheQueue(t *testing.T) {
	t.Parallel()
	cabled(t, func(t *testing.T, a, _ *store.Store, cable *cable) {
		t.Helper()
		c := newCache[string](t, a, store.WithTTL(time.Hour), store.WithEarly(0.01))
		keys, loader, calls := several(100)
		_, err := c.LoadMany(t.Context(), keys, loader)
		require.NoError(t, err)
		cable.cut()
		stop := make(chan struct{})
		defer close(stop)
		for i := range 32 {
			async(t.Context(), c, fmt.Sprint(i), func(context.Context) (string, error) {
				<-stop
				return "", nil
			})
		}
		time.Sleep(59 * time.Second) // in a bubble: all have their slots
		calls.Store(0)
		got := make(chan map[string]string, 1)
		go func() {
			values, err := c.LoadMany(t.Context(), keys, loader, store.WithHardTimeout(time.Hour))
			assert.NoError(t, err)
			got <- values
		}()
		time.Sleep(3 * time.Second) // in a bubble
		cable.mend()
		assert.Len(t, receive(t, got, "the values"), len(keys))
		synctest.Wait()
		assert.EqualValues(t, 1, calls.Load())
	})
}
