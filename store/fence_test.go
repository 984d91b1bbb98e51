package store_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/lock"
	"github.com/compozy/cache/store"
)

// TestZombieWriter: a writer whose token is smaller than one that was seen changes nothing, whatever became of the value.
func TestZombieWriter(t *testing.T) {
	t.Parallel()
	const token = 41
	for end, finish := range map[string]func(t *testing.T, st *store.State[string]){
		"written": func(*testing.T, *store.State[string]) {},
		"deleted": func(t *testing.T, st *store.State[string]) {
			t.Helper()
			require.NoError(t, st.Delete(t.Context(), "k"))
		},
		"deleted by its owner": func(t *testing.T, st *store.State[string]) {
			t.Helper()
			require.NoError(t, st.Delete(t.Context(), "k", store.WithFence(token)))
		},
		"expired": func(t *testing.T, st *store.State[string]) {
			t.Helper()
			require.NoError(t, st.Touch(t.Context(), "k", 20*time.Millisecond))
			gone(t, st, "k")
		},
		"written without a token": func(t *testing.T, st *store.State[string]) {
			t.Helper()
			put(t, st, "k", "a")
		},
		"deleted and created": func(t *testing.T, st *store.State[string]) {
			t.Helper()
			require.NoError(t, st.Delete(t.Context(), "k"))
			_, err := st.Create(t.Context(), "k", "a")
			require.NoError(t, err)
		},
		"deleted twice": func(t *testing.T, st *store.State[string]) {
			t.Helper()
			require.NoError(t, st.Delete(t.Context(), "k"))
			require.NoError(t, st.Delete(t.Context(), "k"))
		},
	} {
		t.Run(end, func(t *testing.T) {
			t.Parallel()
			_, st := setup[string](t)
			ctx := t.Context()
			put(t, st, "k", "a", store.WithFence(token), store.WithTTL(time.Hour))
			finish(t, st)
			before, missing := st.Get(ctx, "k")

			zombie := store.WithFence(token - 1)
			_, err := st.Put(ctx, "k", "zombie", zombie)
			require.ErrorIs(t, err, store.ErrFenced)
			assert.NotContains(t, err.Error(), "zombie")
			_, err = st.Put(ctx, "k", "zombie", zombie, store.IfVersion(before.Version))
			require.ErrorIs(t, err, store.ErrFenced)
			_, err = st.Create(ctx, "k", "zombie", zombie)
			require.ErrorIs(t, err, store.ErrFenced)
			require.ErrorIs(t, st.Delete(ctx, "k", zombie), store.ErrFenced)
			_, err = st.Update(ctx, "k", func(v *string) error { *v = "zombie"; return nil }, zombie)
			if missing == nil {
				require.ErrorIs(t, err, store.ErrFenced)
			} else {
				require.ErrorIs(t, err, store.ErrNotFound)
			}
			after, err := st.Get(ctx, "k")
			require.Equal(t, missing == nil, err == nil)
			assert.Equal(t, before.Value, after.Value)
			assert.Equal(t, before.Version, after.Version)

			put(t, st, "k", "same token", store.WithFence(token))
			put(t, st, "k", "larger token", store.WithFence(token+1))
			_, err = st.Put(ctx, "k", "zombie", store.WithFence(token))
			require.ErrorIs(t, err, store.ErrFenced)
		})
	}
}

// TestDeleteOfNothingLeavesItsFence: the token was seen, so older ones are refused.
func TestDeleteOfNothingLeavesItsFence(t *testing.T) {
	t.Parallel()
	_, st := setup[string](t)
	require.NoError(t, st.Delete(t.Context(), "k", store.WithFence(5)))
	_, err := st.Create(t.Context(), "k", "a", store.WithFence(4))
	require.ErrorIs(t, err, store.ErrFenced)
	require.NoError(t, st.Delete(t.Context(), "k", store.WithFence(6)))
	_, err = st.Create(t.Context(), "k", "a", store.WithFence(5))
	require.ErrorIs(t, err, store.ErrFenced)
	_, err = st.Create(t.Context(), "k", "a")
	require.NoError(t, err)
}

// TestFencesAreKeptForADay: beyond the value, and no longer.
func TestFencesAreKeptForADay(t *testing.T) {
	t.Parallel()
	server, st := setup[string](t)
	client := server.Client(t)
	const day = 24 * time.Hour
	lasts := func(want time.Duration, what string) {
		t.Helper()
		got, err := client.PTTL(t.Context(), redisKey("k")).Result()
		require.NoError(t, err)
		assert.InDelta(t, want.Seconds(), got.Seconds(), 60, what)
	}
	put(t, st, "k", "a", store.WithTTL(time.Hour))
	lasts(time.Hour, "without a fence")
	put(t, st, "k", "a", store.WithTTL(time.Hour), store.WithFence(3))
	lasts(day+time.Hour, "with a fence")
	put(t, st, "k", "a", store.WithTTL(time.Hour))
	lasts(day+time.Hour, "with a fence from before")
	require.NoError(t, st.Touch(t.Context(), "k", 2*time.Hour))
	lasts(day+2*time.Hour, "touched")
	require.NoError(t, st.Delete(t.Context(), "k"))
	lasts(day, "deleted")
}

// TestFencesAreTheTokensOfLocks: the largest token that a lock can have passes, and is exact.
func TestFencesAreTheTokensOfLocks(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	st := newState[int](t, newStore(t, newClient(t, server.Addr())))
	locks, err := lock.NewRedisLockManager(newClient(t, server.Addr()))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, locks.Close(context.Background())) })
	var last int64
	for i := range 3 {
		l, err := locks.TryAcquire(t.Context(), "job", time.Minute)
		require.NoError(t, err)
		put(t, st, "k", i, store.WithFence(l.Token()))
		if last > 0 {
			_, err = st.Put(t.Context(), "k", -1, store.WithFence(last))
			require.ErrorIs(t, err, store.ErrFenced)
		}
		last = l.Token()
		require.NoError(t, l.Release(t.Context()))
	}
	const largest = 1<<53 - 1
	put(t, st, "k", 1, store.WithFence(largest-1))
	put(t, st, "k", 2, store.WithFence(largest))
	_, err = st.Put(t.Context(), "k", 3, store.WithFence(largest-1))
	require.ErrorIs(t, err, store.ErrFenced)
	assert.Contains(t, err.Error(), fmt.Sprint(largest))
	assert.Equal(t, 2, get(t, st, "k").Value)
}

// TestDeleteWithoutMemory: a server that is full takes no values, but deletes them and remembers that.
func TestDeleteWithoutMemory(t *testing.T) {
	t.Parallel()
	server, st := setup[string](t)
	put(t, st, "k", "a", store.WithFence(5))
	require.NoError(t, st.Delete(t.Context(), "warm"))
	require.NoError(t, server.Client(t).ConfigSet(t.Context(), "maxmemory", "1").Err())
	_, err := st.Put(t.Context(), "k", "b")
	require.ErrorIs(t, err, store.ErrUnavailable)
	require.NotErrorIs(t, err, store.ErrUncertain)
	assert.Equal(t, "a", get(t, st, "k").Value)
	require.NoError(t, st.Delete(t.Context(), "k"))
	_, err = st.Get(t.Context(), "k")
	require.ErrorIs(t, err, store.ErrNotFound)
	require.NoError(t, server.Client(t).ConfigSet(t.Context(), "maxmemory", "0").Err())
	_, err = st.Put(t.Context(), "k", "b", store.WithFence(4))
	require.ErrorIs(t, err, store.ErrFenced)
}

// A slot that moves lets nobody write a key that is gone: the value is replaced by what remembers its fence.
func TestDeleteWhileItsSlotMoves(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, 3)
	st := newState[string](t, newStore(t, clusterClient(t, cluster)))
	put(t, st, "k", "by 7", store.WithFence(7))
	key := redisKey("k")
	var to *redistest.Server
	for _, node := range cluster.Nodes() {
		if node != cluster.MasterOf(t, key) {
			to = node
		}
	}
	var once sync.Once
	cluster.MoveSlot(t, key, to, func() {
		once.Do(func() {
			require.NoError(t, st.Delete(t.Context(), "k", store.WithFence(7)))
			_, err := st.Get(t.Context(), "k")
			require.ErrorIs(t, err, store.ErrNotFound)
			_, err = st.Put(t.Context(), "k", "by 6", store.WithFence(6))
			require.ErrorIs(t, err, store.ErrFenced)
		})
	})
	_, err := st.Put(t.Context(), "k", "by 6", store.WithFence(6))
	require.ErrorIs(t, err, store.ErrFenced)
}
