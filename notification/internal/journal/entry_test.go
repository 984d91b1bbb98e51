package journal

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func FuzzKey(f *testing.F) {
	f.Add("a", "b\n3:c")
	f.Fuzz(func(t *testing.T, a, b string) {
		channels := []string{a, b, "task:1"}
		key := string(AppendKey(nil, "own", 1, channels))
		assert.Equal(t, channels, Channels(key))
		assert.Equal(t, "own.1", OwnID(key))
	})
}

func TestMalformedKeys(t *testing.T) {
	t.Parallel()
	for _, key := range []string{"", "own", "own\n", "own\nx", "own\n-1:", "own\n5:abc", "own\n1:ab", "own\nx:a", "own\n1:a\n2:b"} {
		assert.Empty(t, Channels(key), "%q", key)
	}
}

func TestEntriesTellWhatIsBetween(t *testing.T) {
	t.Parallel()
	const value = `"time":"2020-01-01T00:00:00Z"}`
	key := string(AppendKey(nil, "own", 1, []string{"c"}))
	e, err := ParseEntry([]any{"7-1000", []any{"k", key, "v", value}})
	require.NoError(t, err)
	assert.Equal(t, []string{"c"}, e.Channels)
	assert.EqualValues(t, len(key)+len(value)+64, e.Size)
	assert.EqualValues(t, 1000-len(key)-len(value)-64, e.Start())
	e.Pos.Offset = 3
	assert.EqualValues(t, 3, e.Start(), "its ID is not one of ours: nothing is known of what was before it")
}

func TestEntriesOfOthers(t *testing.T) {
	t.Parallel()
	for _, row := range []any{nil, "x", []any{"1-1"}, []any{int64(1), []any{}}, []any{"x", []any{}}} {
		_, err := ParseEntry(row)
		require.ErrorIs(t, err, ErrProtocol)
	}
	for _, fields := range []any{nil, []any{}, []any{"a", "b"}, []any{"k", "own\n1:c", "v", "not ours"}, []any{"k", int64(1), "v", nil}} {
		e, err := ParseEntry([]any{"1-1", fields})
		require.NoError(t, err)
		assert.Equal(t, Position{1, 1}, e.Pos)
		assert.Empty(t, e.Channels, "it is delivered to nobody")
	}
}

func TestSameEvent(t *testing.T) {
	t.Parallel()
	e := Envelope{Pos: Position{1, 1}, Stamp: "t"}
	assert.True(t, e.Same(&Envelope{Pos: Position{1, 1}, Stamp: "t", Redelivered: true}))
	assert.True(t, e.Same(&Envelope{Pos: Position{1, 1}}), "a user's ID has no stamp")
	assert.False(t, e.Same(&Envelope{Pos: Position{1, 1}, Stamp: "u"}))
	assert.False(t, e.Same(&Envelope{Pos: Position{1, 2}, Stamp: "t"}))
}
