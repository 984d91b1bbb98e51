package store_test

import (
	"bytes"
	"encoding/gob"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

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
