package store_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/store"
)

// rows returns a loader of many keys, and these.
func rows(n int) (*table, []string) {
	l := &table{rows: make(map[string]string)}
	keys := make([]string, n)
	for i := range keys {
		keys[i] = fmt.Sprint("k", i)
		l.rows[keys[i]] = "v"
	}
	slices.Sort(keys)
	return l, keys
}

// What one LoadMany finds too old is loaded again by one call, as it was the first time.
func TestEarlyRefreshOfManyKeysIsOneCall(t *testing.T) {
	t.Parallel()
	inBubble(t, []store.Option{store.WithTTL(time.Hour), store.WithEarly(0.5)}, func(t *testing.T, c *store.Cache[string]) {
		t.Helper()
		l, keys := rows(50)
		want := [][]string{}
		for range 3 {
			for range 3 {
				values, err := c.LoadMany(t.Context(), keys, l.load)
				require.NoError(t, err)
				assert.Equal(t, l.rows, values)
				synctest.Wait()
			}
			want = append(want, keys)
			assert.Equal(t, want, l.calls())
			time.Sleep(31 * time.Minute) // in a bubble
		}
	})
}

// A process that was to load many keys and does not leaves few calls to the one that waits for it.
func TestManyKeysOfALoadThatCameToNothing(t *testing.T) {
	t.Parallel()
	for how, give := range map[string]func(t *testing.T, a *store.Cache[string], keys []string, held chan map[string]string){
		"revoked": func(t *testing.T, a *store.Cache[string], _ []string, _ chan map[string]string) {
			t.Helper()
			require.NoError(t, a.Clear(t.Context()))
		},
		"too large": func(_ *testing.T, _ *store.Cache[string], keys []string, held chan map[string]string) {
			large := make(map[string]string)
			for _, key := range keys {
				large[key] = "more than 16 bytes"
			}
			held <- large
		},
	} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			_, a, b := two[string](t, store.WithMaxSize(16))
			l, keys := rows(200)
			began, held := make(chan struct{}), make(chan map[string]string, 1)
			first := make(chan struct{})
			go func() {
				defer close(first)
				_, _ = a.LoadMany(t.Context(), keys, func(context.Context, []string) (map[string]string, error) {
					close(began)
					return <-held, nil
				})
			}()
			receive(t, began, "the first process")
			gate, second := make(chan struct{}), make(chan map[string]string, 1)
			go func() {
				values, err := b.LoadMany(t.Context(), keys, func(ctx context.Context, missing []string) (map[string]string, error) {
					defer func() { <-gate }()
					return l.load(ctx, missing)
				})
				assert.NoError(t, err)
				second <- values
			}()
			require.Eventually(t, func() bool { return store.Waiting(b) == len(keys) }, patience, tick)
			give(t, a, keys, held)
			require.Eventually(t, func() bool { return store.Waiting(b) == 0 && len(l.calls()) > 0 }, patience, tick)
			close(gate)
			assert.Equal(t, l.rows, receive(t, second, "the second process"))
			assert.Less(t, len(l.calls()), len(keys)/4)
			if how == "revoked" {
				held <- nil
			}
			receive(t, first, "the first process")
		})
	}
}
