package journal

import (
	"strconv"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
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
				r := j.NewReader(0)
				r.mean = 100 // it knows how large events are
				part, err := r.From(t.Context(), on, v.From)
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

// What the events carry stays on the server: three large ones would not come over a slow link before the client gives up.
func TestLookAndHeartbeatsDoNotFetchValues(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client := server.Client(t)
	j, on, w := setup(client)
	const large = 1 << 20
	oldest, cursor, last := w.append(t, large), w.append(t, large), w.append(t, large)
	sent := func() int {
		_, after, _ := strings.Cut(client.Info(t.Context(), "stats").Val(), "total_net_output_bytes:")
		digits, _, _ := strings.Cut(after, "\r")
		bytes, err := strconv.Atoi(digits)
		require.NoError(t, err)
		return bytes
	}
	before := sent()
	now := look(t, j, on, Known{Cursor: Envelope{Pos: cursor}, Oldest: Envelope{Pos: oldest}})
	assert.Less(t, sent()-before, large/10)
	require.NotNil(t, now.AtCursor)
	require.NotNil(t, now.AtOldest)
	require.NotNil(t, now.First)
	assert.Equal(t, cursor, now.AtCursor.Pos)
	assert.Equal(t, oldest, now.AtOldest.Pos)
	assert.Zero(t, now.First.Start(), "its size is known nevertheless")

	// And a heartbeat copies no event within the server that an earlier one has seen.
	beat := func() Status {
		s, err := j.Beat(t.Context(), on, "", 1)
		require.NoError(t, err)
		return s
	}
	server.ResetCommands(t)
	first := beat()
	assert.Equal(t, last, first.Last.Pos)
	for range 10 {
		assert.Equal(t, first, beat())
	}
	assert.Zero(t, server.Commands(t)["xrevrange"], "the look before has seen the last event")
	last = w.append(t, 10)
	for range 10 {
		s := beat()
		assert.Equal(t, last, s.Last.Pos)
		assert.NotEqual(t, first.Last.Stamp, s.Last.Stamp)
	}
	assert.EqualValues(t, 1, server.Commands(t)["xrevrange"])
	require.NoError(t, client.XDel(t.Context(), j.keys.Journal, last.String()).Err())
	assert.Equal(t, first.Last, beat().Last, "of what there is now")
}
