package store_test

import (
	"bytes"
	"context"
	"encoding/gob"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/store"
)

// gobs is a Codec of a user.
type gobs struct{ letter byte }

func (g gobs) Letter() byte { return g.letter }

func (gobs) Marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	err := gob.NewEncoder(&b).Encode(v)
	return b.Bytes(), err
}

func (gobs) Unmarshal(data []byte, v any) error {
	return gob.NewDecoder(bytes.NewReader(data)).Decode(v)
}

func TestCodec(t *testing.T) {
	t.Parallel()
	type thing struct{ A, B string }
	server := redistest.Start(t)
	s := newStore(t, newClient(t, server.Addr()))
	ours := newState[thing](t, s, store.WithCodec(gobs{'g'}))
	theirs := newState[thing](t, s)
	put(t, ours, "k", thing{"a", "b"}, store.WithFence(3))
	assert.Equal(t, thing{"a", "b"}, get(t, ours, "k").Value)
	_, err := theirs.Get(t.Context(), "k")
	require.ErrorIs(t, err, store.ErrCodec)
	require.NoError(t, ours.Delete(t.Context(), "k"))
	put(t, theirs, "k", thing{"c", "d"}) // what is left of a deleted value is nobody's
	_, err = ours.Get(t.Context(), "k")
	require.ErrorIs(t, err, store.ErrCodec)
}

func TestValuesThatCannotBeEncoded(t *testing.T) {
	t.Parallel()
	_, st := setup[any](t)
	for _, v := range []any{make(chan int), func() {}, math.NaN(), map[bool]int{true: 1}} {
		_, err := st.Put(t.Context(), "k", v)
		require.ErrorIs(t, err, store.ErrCodec)
		_, err = st.Create(t.Context(), "k", v)
		require.ErrorIs(t, err, store.ErrCodec)
	}
	put(t, st, "k", any("a"))
	_, err := st.Update(t.Context(), "k", func(v *any) error { *v = math.Inf(1); return nil })
	require.ErrorIs(t, err, store.ErrCodec)
	assert.Equal(t, "a", get(t, st, "k").Value)
}

func TestValueThatCannotBeEncoded(t *testing.T) {
	t.Parallel()
	_, c := setupCache[any](t)
	loader, _ := loads[any](make(chan int))
	_, err := c.GetOrLoad(t.Context(), "k", loader)
	require.ErrorIs(t, err, store.ErrCodec)
	require.ErrorIs(t, c.Set(t.Context(), "k", make(chan int)), store.ErrCodec)
}

func TestCompression(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := newStore(t, newClient(t, server.Addr()))
	packed, plain := newState[string](t, s, store.WithCompression(1024)), newState[string](t, s)
	stored := func(key string) int64 {
		t.Helper()
		return server.Client(t).StrLen(t.Context(), redisKey(key)).Val()
	}
	for _, v := range []string{"", "short", strings.Repeat("x", 1021), strings.Repeat("xyz", 10_000)} {
		put(t, packed, "k", v)
		assert.Equal(t, v, get(t, packed, "k").Value)
		assert.Equal(t, v, get(t, plain, "k").Value)
		if len(v) >= 1022 {
			assert.Less(t, stored("k"), int64(len(v)/10))
		} else {
			assert.Greater(t, stored("k"), int64(len(v)))
		}
		put(t, plain, "k", v)
		assert.Equal(t, v, get(t, packed, "k").Value)
	}
}

// TestMaxSize: the limit is that of the encoded value, before it is compressed.
func TestMaxSize(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := newStore(t, newClient(t, server.Addr()))
	for _, opts := range [][]store.Option{nil, {store.WithCompression(10)}} {
		st := newState[string](t, s, append(opts, store.WithMaxSize(100))...)
		put(t, st, "k", strings.Repeat("x", 98))
		_, err := st.Put(t.Context(), "k", strings.Repeat("x", 99))
		require.ErrorIs(t, err, store.ErrTooLarge)
		_, err = st.Create(t.Context(), "another", strings.Repeat("x", 99))
		require.ErrorIs(t, err, store.ErrTooLarge)
		_, err = st.Update(t.Context(), "k", func(v *string) error { *v += "x"; return nil })
		require.ErrorIs(t, err, store.ErrTooLarge)
		assert.Len(t, get(t, st, "k").Value, 98)
	}
	st := newState[string](t, s)
	put(t, st, "large", strings.Repeat("x", 1<<20-2))
	_, err := st.Put(t.Context(), "large", strings.Repeat("x", 1<<20-1))
	require.ErrorIs(t, err, store.ErrTooLarge)
	assert.Len(t, get(t, st, "large").Value, 1<<20-2)
}

func TestTooLargeIsReturnedAndNotStored(t *testing.T) {
	t.Parallel()
	server, a, b := two[string](t, store.WithMaxSize(10), store.WithFailurePause(time.Minute))
	loader, count := loads("much too large")
	for _, c := range []*store.Cache[string]{a, b, a} {
		item, err := c.GetOrLoadItem(t.Context(), "k", loader)
		require.NoError(t, err)
		assert.Equal(t, "much too large", item.Value)
		assert.Zero(t, item.Version)
	}
	assert.EqualValues(t, 3, count.Load())
	assert.Zero(t, server.Client(t).Exists(t.Context(), redisKey("k")).Val())
	require.ErrorIs(t, a.Set(t.Context(), "k", "much too large"), store.ErrTooLarge)

	held := newGated[string]()
	first := async(t.Context(), a, "many", held.load)
	receive(t, held.began, "the load")
	second := async(t.Context(), a, "many", held.load)
	requireCallers(t, a, "many", 2)
	held.give("also too large", nil)
	for _, ch := range []<-chan outcome[string]{first, second} {
		out := receive(t, ch, "a caller")
		require.NoError(t, out.err)
		assert.Equal(t, "also too large", out.item.Value)
	}
}

// misleading is a value whose decoding fails with an error that looks like one of the store or of a context.
type misleading struct{}

func (misleading) MarshalJSON() ([]byte, error) { return []byte("1"), nil }

func (*misleading) UnmarshalJSON([]byte) error {
	return fmt.Errorf("%w %w %w", store.ErrNotFound, store.ErrUncertain, context.Canceled)
}

// TestErrorsOfCodecsAreNothingElse: a value that cannot be decoded is there, and List does not leave it out.
func TestErrorsOfCodecsAreNothingElse(t *testing.T) {
	t.Parallel()
	_, st := setup[misleading](t)
	put(t, st, "k", misleading{})
	only := func(err error) {
		t.Helper()
		require.ErrorIs(t, err, store.ErrCodec)
		for _, other := range []error{store.ErrNotFound, store.ErrUncertain, context.Canceled} {
			require.NotErrorIs(t, err, other)
		}
	}
	_, err := st.Get(t.Context(), "k")
	only(err)
	count := 0
	for _, err := range st.List(t.Context(), "") {
		only(err)
		count++
	}
	assert.Equal(t, 1, count)
}

// identity returns what it gets.
type identity struct{}

func (identity) Letter() byte                  { return 'i' }
func (identity) Marshal(v any) ([]byte, error) { return v.([]byte), nil } //nolint:forcetypeassert // of this test
func (identity) Unmarshal(data []byte, v any) error {
	*v.(*[]byte) = slices.Clone(data) //nolint:forcetypeassert // of this test
	return nil
}

// TestValuesMayChangeAfterTheCall: what is sent after its caller has gone is what the caller passed.
func TestValuesMayChangeAfterTheCall(t *testing.T) {
	t.Parallel()
	server, other := setup[[]byte](t, store.WithCodec(identity{}))
	client := newClient(t, server.Addr())
	st := newState[[]byte](t, newStore(t, client), store.WithCodec(identity{}))
	put(t, other, "k", []byte("before"))
	began, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	client.AddHook(hooked{f: func(string) {
		once.Do(func() {
			close(began)
			<-release
		})
	}})
	ctx, cancel := context.WithCancel(t.Context())
	v := []byte("mine")
	done := make(chan error, 1)
	go func() {
		_, err := st.Put(ctx, "k", v)
		done <- err
	}()
	<-began
	cancel()
	require.ErrorIs(t, <-done, store.ErrUncertain)
	copy(v, "oops")
	close(release)
	require.Eventually(t, func() bool { return string(get(t, other, "k").Value) != "before" }, patience, tick)
	assert.Equal(t, "mine", string(get(t, other, "k").Value))
}

// TestValuesAreNotInErrors, also if a server quotes the command that carried one.
func TestValuesAreNotInErrors(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.WithConfig("rename-command", "EVALSHA nope"))
	st := newState[string](t, newStore(t, newClient(t, server.Addr())))
	_, err := st.Put(t.Context(), "k", "hunter2")
	require.ErrorIs(t, err, store.ErrUnavailable)
	for err := err; err != nil; err = errors.Unwrap(err) {
		assert.NotContains(t, err.Error(), "hunter2")
	}
	assert.Contains(t, err.Error(), "unknown command 'evalsha'")
}

// TestItemsAreLoggedWithoutValues by zap; encoding/json writes them, as an API may return them.
func TestItemsAreLoggedWithoutValues(t *testing.T) {
	t.Parallel()
	core, logs := observer.New(zap.InfoLevel)
	item := store.Item[string]{Key: "k", Value: "hunter2"}
	zap.New(core).Info("x", zap.Any("item", item), zap.Any("pointer", &item))
	assert.Contains(t, fmt.Sprint(logs.All()[0].ContextMap()), `item "k"`)
	assert.NotContains(t, fmt.Sprint(logs.All()[0].ContextMap()), "hunter2")
	text, err := json.Marshal(item)
	require.NoError(t, err)
	assert.Contains(t, string(text), "hunter2")
}
