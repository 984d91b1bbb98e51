package store_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/store"
)

// list returns what List yields, which must be without errors.
func list[V any](t testing.TB, st *store.State[V], prefix string) map[string]V {
	t.Helper()
	got := make(map[string]V)
	for item, err := range st.List(t.Context(), prefix) {
		require.NoError(t, err)
		got[item.Key] = item.Value
	}
	return got
}

// odd are keys that are hard on patterns, hash tags and separators.
var odd = []string{
	"a", "ab", "a:b", "{", "}", "{}", "{a}b", "a}b", "}a", "%", "%a", "%%", "%}", "*", "a*b", "?", "[ab]", "[", "]", `\`, `\*`,
	"ü", "日本", " ", "a b", "a\nb", "\x00", "\xff\xfe", "}:", "}:{", "x}:y", strings.Repeat("long", 500),
}

func TestList(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := newStore(t, newClient(t, server.Addr()))
	groups := func(key string) string { return key[:1] }
	for name, opts := range map[string][]store.Option{"plain": nil, "groups": {store.WithGroup(groups)}} {
		st, err := store.NewState[[]byte](s, name, opts...)
		require.NoError(t, err)
		neighbour, err := store.NewState[[]byte](s, name+"x", opts...)
		require.NoError(t, err)
		put(t, neighbour, "a", []byte("another State's"))
		assert.Empty(t, list(t, st, ""))
		want := make(map[string][]byte)
		for _, key := range odd {
			put(t, st, key, []byte(key))
			want[key] = []byte(key)
		}
		put(t, st, "deleted", nil, store.WithFence(1))
		require.NoError(t, st.Delete(t.Context(), "deleted"))
		put(t, st, "expired", nil, store.WithFence(1), store.WithTTL(10*time.Millisecond))
		gone(t, st, "expired")
		assert.Equal(t, want, list(t, st, ""), name)
		for _, prefix := range append(odd, "none", "{a", "lo") {
			some := maps.Collect(maps.All(want))
			maps.DeleteFunc(some, func(key string, _ []byte) bool { return !strings.HasPrefix(key, prefix) })
			assert.Equal(t, some, list(t, st, prefix), "%s, %q", name, prefix)
		}
	}
}

// TestListWhileKeysChange: what is there all the time comes, with a value that it had.
func TestListWhileKeysChange(t *testing.T) {
	t.Parallel()
	const stable = 2000
	server, st := setup[int](t)
	ctx := t.Context()
	key := func(i int) string { return fmt.Sprintf("stable %d", i) }
	var fill sync.WaitGroup
	for part := range 10 {
		fill.Go(func() {
			for i := part; i < stable; i += 10 {
				_, err := st.Put(ctx, key(i), i)
				assert.NoError(t, err)
			}
		})
	}
	fill.Wait()
	over, all := make(chan struct{}), sync.WaitGroup{}
	for writer := range 4 {
		all.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-over:
					return
				default:
				}
				passing := fmt.Sprintf("passing %d %d", writer, i)
				_, err := st.Put(ctx, passing, -1)
				assert.NoError(t, err)
				_, err = st.Put(ctx, key(i%stable), i%stable)
				assert.NoError(t, err)
				if i%3 > 0 {
					assert.NoError(t, st.Delete(ctx, passing))
				}
			}
		})
	}
	for range 5 {
		seen := make(map[string]bool)
		for item, err := range st.List(ctx, "stable ") {
			require.NoError(t, err)
			require.Equal(t, key(item.Value), item.Key)
			seen[item.Key] = true
		}
		assert.Len(t, seen, stable)
	}
	close(over)
	all.Wait()
	assert.Positive(t, server.Commands(t)["scan"])
}

// TestListGoesOnAfterForeignValues: they come as errors, which name their keys.
func TestListGoesOnAfterForeignValues(t *testing.T) {
	t.Parallel()
	server, st := setup[string](t)
	client := server.Client(t)
	strange := foreign()
	for name, write := range strange {
		require.NoError(t, write(t.Context(), client, redisKey(name)))
	}
	for i := range 100 {
		put(t, st, fmt.Sprint("good ", i), "x")
	}
	require.NoError(t, client.Set(t.Context(), "cache:v:"+name+":without braces", "x", 0).Err())
	var good int
	var bad []string
	for item, err := range st.List(t.Context(), "") {
		if err == nil {
			good++
			continue
		}
		require.ErrorIs(t, err, store.ErrCodec)
		bad = append(bad, item.Key)
	}
	assert.Equal(t, 100, good)
	assert.ElementsMatch(t, slices.Collect(maps.Keys(strange)), bad)
}

// TestListEnds: with its caller's loop, with its context, and with the Store.
func TestListEnds(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := newStore(t, newClient(t, server.Addr()))
	st := newState[int](t, s)
	for i := range 20 {
		put(t, st, fmt.Sprint(i), i)
	}
	count := 0
	for _, err := range st.List(t.Context(), "") {
		require.NoError(t, err)
		if count++; count == 5 {
			break
		}
	}
	all := func(ctx context.Context, during func()) (items int, last error) {
		for _, err := range st.List(ctx, "") {
			if last != nil {
				t.Error("something came after", last)
			}
			if last = err; err == nil {
				items++
			}
			during()
		}
		return items, last
	}
	items, err := all(t.Context(), func() {})
	require.NoError(t, err)
	assert.Equal(t, 20, items)
	ctx, cancel := context.WithCancel(t.Context())
	items, err = all(ctx, cancel)
	require.ErrorIs(t, err, context.Canceled)
	assert.Equal(t, 1, items)
	assert.PanicsWithValue(t, "oh", func() { _, _ = all(t.Context(), func() { panic("oh") }) })

	server.Stop()
	ctx, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	items, err = all(ctx, func() {})
	require.ErrorIs(t, err, context.DeadlineExceeded)
	assert.Zero(t, items)
	server.Continue()

	closing := true // Close does not wait for a loop that closes
	items, err = all(t.Context(), func() {
		if closing {
			require.NoError(t, s.Close(t.Context()))
		}
		closing = false
	})
	require.ErrorIs(t, err, store.ErrClosed)
	assert.Equal(t, 1, items)
	_, err = all(t.Context(), func() {})
	require.ErrorIs(t, err, store.ErrClosed)
}

// TestListEndsWithTheServer: what came until then is right, and the caller learns that it is not all.
func TestListEndsWithTheServer(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	st := newState[int](t, newStore(t, newClient(t, server.Addr()), store.WithStateTimeout(2*time.Second)))
	for i := range 1500 { // more than one page
		put(t, st, fmt.Sprint(i), i)
	}
	items := 0
	var last error
	for item, err := range st.List(t.Context(), "") {
		require.NoError(t, last, "something came after the error")
		if last = err; err == nil {
			assert.Equal(t, item.Key, fmt.Sprint(item.Value))
			if items++; items == 1 {
				server.Kill()
			}
		}
	}
	require.ErrorIs(t, last, store.ErrUnavailable)
	assert.Positive(t, items)
	assert.Less(t, items, 1500)
}
