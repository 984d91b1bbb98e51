package group

import (
	"context"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/notification/internal/journal"
)

func TestNewGroupsBeginWhereTheyShould(t *testing.T) {
	t.Parallel()
	at := func(id string) *journal.Position {
		p, ok := journal.ParsePosition(id)
		require.True(t, ok)
		return &p
	}
	for name, test := range map[string]struct {
		from func(id string) *journal.Position
		trim int64
		want int
		gaps []journal.Reason
	}{
		"now":                          {from: func(string) *journal.Position { return nil }, want: 0},
		"at the beginning":             {from: func(string) *journal.Position { return new(journal.Position) }, want: 10},
		"at the beginning, of a part":  {from: func(string) *journal.Position { return new(journal.Position) }, trim: 7, want: 7},
		"behind an event":              {from: at, want: 5},
		"behind an event that is gone": {from: at, trim: 2, want: 2, gaps: []journal.Reason{journal.Trimmed}},
		"behind an event that is gone, and nothing else": {from: at, trim: 5, want: 5},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			id := b.append(t, "k", 5)
			b.append(t, "k", 5)
			if test.trim > 0 {
				require.NoError(t, b.client.XTrimMaxLen(t.Context(), b.keys.Journal, test.trim).Err())
			}
			b.run(t, func(s *Settings) { s.From = test.from(id) })
			b.append(t, "k", 1)
			b.done(t, test.want+1)
			assert.ElementsMatch(t, test.gaps, b.reasons())
			b.run(t, func(s *Settings) { s.From = new(journal.Position) }) // of no interest to a group that exists
			b.append(t, "k", 1)
			b.done(t, test.want+2)
		})
	}
	t.Run("before there is a journal", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		b.run(t)
		b.append(t, "k", 3)
		b.done(t, 3)
		assert.Empty(t, b.reasons())
	})
	t.Run("at the beginning of nothing", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		b.run(t, func(s *Settings) { s.From = new(journal.Position) })
		b.append(t, "k", 3)
		b.done(t, 3)
		assert.Empty(t, b.reasons())
	})
}

// The reply is lost of the script by which a member makes its group again: the gap is not.
func TestGroupsAreMadeAgainInDoubt(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.run(t)()
	known := b.client.HGet(t.Context(), b.k.progress, "known").Val()
	require.NoError(t, b.client.Del(t.Context(), b.k.progress).Err())
	set := b.settings(b.client)
	o := newOps(&set)
	m := &member{
		set: &set, ops: o, known: known, leader: newLeader(&set, o, nil), commands: link{client: b.client, key: b.k.progress},
	}
	defer m.commands.close()
	require.NoError(t, m.joinOnce(t.Context(), false)) // executed, which nobody learns
	require.NoError(t, m.joinOnce(t.Context(), false))
	b.run(t)
	b.eventually(t, "no gap", func() bool { return len(b.gaps) > 0 })
	assert.Equal(t, []journal.Reason{journal.Wiped}, b.reasons())
}

// The progress of a group was lost while nobody was there, and the member that finds that ends before it leads.
func TestLossesAreReportedBySomebody(t *testing.T) {
	t.Parallel()
	for name, leave := range map[string]func(ctx context.Context, b *bundle) error{
		"with an event": func(ctx context.Context, b *bundle) error {
			return b.client.HSet(ctx, b.k.events, "id", "x", "nid", "0 ").Err()
		},
		"with a time": func(ctx context.Context, b *bundle) error {
			return b.client.ZAdd(ctx, b.k.due, redis.Z{Member: "id"}).Err()
		},
		"with a dead event": func(ctx context.Context, b *bundle) error {
			return b.client.XAdd(ctx, &redis.XAddArgs{Stream: b.k.dead, Values: []string{"id", "id"}}).Err()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			require.NoError(t, leave(t.Context(), b))
			set := b.settings(b.client)
			o := newOps(&set)
			m := &member{set: &set, ops: o, leader: newLeader(&set, o, nil), commands: link{client: b.client, key: b.k.progress}}
			defer m.commands.close()
			require.NoError(t, m.joinOnce(t.Context(), true))
			b.run(t)
			b.eventually(t, "no gap", func() bool { return len(b.gaps) > 0 })
			assert.Equal(t, []journal.Reason{journal.Wiped}, b.reasons())
		})
	}
}
