package store_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/store"
)

func TestUpdate(t *testing.T) {
	t.Parallel()
	_, st := setup[map[string]int](t)
	ctx := t.Context()
	_, err := st.Update(ctx, "k", func(*map[string]int) error { t.Error("there is nothing to change"); return nil })
	require.ErrorIs(t, err, store.ErrNotFound)
	version := put(t, st, "k", map[string]int{"a": 1})
	item, err := st.Update(ctx, "k", func(v *map[string]int) error { (*v)["a"]++; return nil })
	require.NoError(t, err)
	assert.Equal(t, map[string]int{"a": 2}, item.Value)
	assert.Greater(t, item.Version, version)
	got := get(t, st, "k")
	got.Age = 0
	assert.Equal(t, item, got)

	cause := errors.New("no")
	_, err = st.Update(ctx, "k", func(v *map[string]int) error { (*v)["a"] = 100; return cause })
	require.Equal(t, cause, err)
	assert.PanicsWithValue(t, "oh", func() {
		_, _ = st.Update(ctx, "k", func(v *map[string]int) error { (*v)["a"] = 100; panic("oh") })
	})
	assert.Equal(t, item.Version, get(t, st, "k").Version)
	canceled, cancel := context.WithCancel(ctx)
	_, err = st.Update(canceled, "k", func(*map[string]int) error { cancel(); return nil })
	require.ErrorIs(t, err, context.Canceled)
	assert.Equal(t, item.Version, get(t, st, "k").Version)
}

// TestUpdateAfterConflicts: the function gets what is there by then, and nothing of what it did before.
func TestUpdateAfterConflicts(t *testing.T) {
	t.Parallel()
	server, st := setup[[]string](t)
	ctx := t.Context()
	put(t, st, "k", []string{"a"})
	require.NoError(t, st.Delete(ctx, "other")) // the server knows the script
	server.ResetCommands(t)
	runs := 0
	item, err := st.Update(ctx, "k", func(v *[]string) error {
		if runs++; runs <= 3 {
			put(t, st, "k", append((*v)[:len(*v):len(*v)], "other"))
		}
		*v = append(*v, "mine")
		return nil
	})
	require.NoError(t, err)
	assert.Equal(t, []string{"a", "other", "other", "other", "mine"}, item.Value)
	assert.Equal(t, 4, runs)
	commands := server.Commands(t)
	assert.EqualValues(t, 4+3, commands["evalsha"])
	assert.EqualValues(t, 1, commands["get"]-commands["evalsha"], "conflicts need no other read")

	runs = 0
	_, err = st.Update(ctx, "k", func(*[]string) error {
		if runs++; runs == 1 {
			require.NoError(t, st.Delete(ctx, "k"))
		}
		return nil
	})
	require.ErrorIs(t, err, store.ErrNotFound)
	assert.Equal(t, 1, runs)

	put(t, st, "k", []string{"a"})
	short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	runs = 0
	_, err = st.Update(short, "k", func(*[]string) error {
		runs++
		put(t, st, "k", []string{"b"})
		return nil
	})
	require.ErrorIs(t, err, context.DeadlineExceeded)
	assert.Greater(t, runs, 2, "it goes on until the context ends")
}

// TestContention: 16 writers in four processes' worth of Stores lose no change, and do not keep the server busy with it.
func TestContention(t *testing.T) {
	t.Parallel()
	const stores, writers, updates = 4, 4, 50
	server := redistest.Start(t)
	var all sync.WaitGroup
	var states []*store.State[int]
	for range stores {
		states = append(states, newState[int](t, newStore(t, newClient(t, server.Addr()))))
	}
	put(t, states[0], "k", 0)
	server.ResetCommands(t)
	for _, st := range states {
		for range writers {
			all.Go(func() {
				for range updates {
					_, err := st.Update(t.Context(), "k", func(v *int) error { *v++; return nil })
					assert.NoError(t, err)
				}
			})
		}
	}
	all.Wait()
	// Each script reads the key once, so this is what clients have sent: reads and scripts.
	sent := server.Commands(t)["get"]
	t.Logf("%d commands", sent)
	assert.LessOrEqual(t, sent, int64(2500))
	assert.Equal(t, stores*writers*updates, get(t, states[0], "k").Value)
}
