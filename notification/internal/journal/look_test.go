package journal

import (
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func knownOf(s *Status) Known {
	return Known{Epoch: s.Epoch, Cursor: s.Cursor(), Identity: s.Identity}
}

// What Redis does to a journal, and what a comparison makes of that.
func TestLookAndCompare(t *testing.T) {
	t.Parallel()
	type steps = func(t *testing.T, client *redis.Client, w *writer)
	three := func(t *testing.T, _ *redis.Client, w *writer) {
		t.Helper()
		for range 3 {
			w.append(t, 10)
		}
	}
	for name, tc := range map[string]struct {
		before, between steps
		reason          Reason
		read            int // entries from where the verdict says, of which the one at the cursor is one if it is there
	}{
		"nothing": {before: three, between: func(*testing.T, *redis.Client, *writer) {}, read: 1},
		"events":  {before: three, between: three, read: 4},
		"first events": {
			before: func(*testing.T, *redis.Client, *writer) {}, between: three, read: 3,
		},
		"expired": {
			before: three, between: func(t *testing.T, client *redis.Client, w *writer) {
				t.Helper()
				client.Del(t.Context(), w.keys.Journal)
			},
		},
		"expired, and then events": {
			before: three, between: func(t *testing.T, client *redis.Client, w *writer) {
				t.Helper()
				client.Del(t.Context(), w.keys.Journal)
				three(t, client, w)
			}, read: 3,
		},
		"events, and then expired": {
			before: three, reason: Trimmed, between: func(t *testing.T, client *redis.Client, w *writer) {
				t.Helper()
				three(t, client, w)
				client.Del(t.Context(), w.keys.Journal)
			},
		},
		"trimmed": {
			before: three, reason: Trimmed, read: 2, between: func(t *testing.T, client *redis.Client, w *writer) {
				t.Helper()
				three(t, client, w)
				client.XTrimMaxLen(t.Context(), w.keys.Journal, 2)
			},
		},
		"trimmed up to the cursor": {
			before: three, read: 3, between: func(t *testing.T, client *redis.Client, w *writer) {
				t.Helper()
				three(t, client, w)
				client.XTrimMaxLen(t.Context(), w.keys.Journal, 3)
			},
		},
		"wiped": {
			before: three, reason: Wiped, between: func(t *testing.T, client *redis.Client, _ *writer) {
				t.Helper()
				client.FlushAll(t.Context())
			},
		},
		"wiped, and then events": {
			before: three, reason: Wiped, read: 3, between: func(t *testing.T, client *redis.Client, w *writer) {
				t.Helper()
				client.FlushAll(t.Context())
				three(t, client, w)
			},
		},
		"state evicted": {
			before: three, read: 1, between: func(t *testing.T, client *redis.Client, w *writer) {
				t.Helper()
				client.Del(t.Context(), w.keys.State)
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			onBoth(t, func(t *testing.T, client *redis.Client) {
				t.Helper()
				j, on, w := setup(client)
				tc.before(t, client, w)
				before := look(t, j, on, Known{})
				known := knownOf(&before.Status)
				tc.between(t, client, w)
				v := Compare(known, look(t, j, on, known))
				assert.Equal(t, tc.reason, v.Reason)
				part, err := j.NewReader(0).From(t.Context(), on, v.From)
				require.NoError(t, err)
				assert.Len(t, part.Entries, tc.read)
				if tc.reason == None {
					assert.True(t, part.Follows(v.From))
				}
			})
		})
	}
}

func TestLookDoesNotKeepValues(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, client *redis.Client) {
		t.Helper()
		j, on, w := setup(client)
		oldest := w.append(t, 1<<10)
		p := w.append(t, 1<<10)
		now := look(t, j, on, Known{Cursor: Envelope{Pos: p}, Oldest: Envelope{Pos: oldest}})
		require.NotNil(t, now.AtCursor)
		require.NotNil(t, now.First)
		require.NotNil(t, now.AtOldest)
		assert.Equal(t, now.First.Envelope, *now.AtOldest)
		assert.Empty(t, now.First.Value)
		assert.Equal(t, p, now.AtCursor.Pos)
		assert.Equal(t, oldest, now.First.Pos)
		assert.Zero(t, now.First.Start())
		assert.Equal(t, now.Last.Stamp, now.AtCursor.Stamp)
	})
}
