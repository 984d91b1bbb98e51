package group

import (
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/notification/internal/journal"
)

// A group that is full does not read the journal. When that has lost events and then loses more, both are reported.
func TestFullGroupsNoticeEachLoss(t *testing.T) {
	t.Parallel()
	wiped := func(t *testing.T, b *bundle) {
		t.Helper()
		require.NoError(t, b.client.Del(t.Context(), b.keys.Journal, b.keys.State).Err())
		b.append(t, "k", 1)
	}
	rolledBack := func(t *testing.T, b *bundle) {
		t.Helper()
		require.NoError(t, b.client.HSet(t.Context(), b.keys.State, "offset", 1).Err())
		require.NoError(t, b.client.Del(t.Context(), b.keys.Journal).Err())
		b.append(t, "k", 1)
	}
	trimmed := func(t *testing.T, b *bundle) {
		t.Helper()
		b.append(t, "other", 5)
		require.NoError(t, b.client.XTrimMaxLen(t.Context(), b.keys.Journal, 3).Err())
	}
	trimmedBeforeARestart := func(t *testing.T, b *bundle) {
		t.Helper()
		trimmed(t, b)
		b.server.Shutdown()
		b.server.Restart()
	}
	deleted := func(t *testing.T, b *bundle) {
		t.Helper()
		require.NoError(t, b.client.Del(t.Context(), b.keys.Journal).Err())
	}
	for name, test := range map[string]struct {
		first, then func(t *testing.T, b *bundle)
		gaps        []journal.Reason // of the first loss
	}{
		"wiped, then trimmed":       {wiped, trimmed, []journal.Reason{journal.Wiped}},
		"wiped, then deleted":       {wiped, deleted, []journal.Reason{journal.Wiped}},
		"rolled back, then trimmed": {rolledBack, trimmed, []journal.Reason{journal.RolledBack}},
		"trimmed, then trimmed":     {trimmedBeforeARestart, trimmed, []journal.Reason{journal.Trimmed, journal.Restarted}},
		"trimmed, then deleted":     {trimmedBeforeARestart, deleted, []journal.Reason{journal.Trimmed, journal.Restarted}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, redistest.WithPersistence())
			release := b.fill(t)
			test.first(t, b)
			b.eventually(t, "the first loss is not reported", func() bool { return len(b.gaps) == len(test.gaps) })
			b.append(t, "k", 5)
			test.then(t, b)
			release()
			b.eventually(t, "the second loss is not reported", func() bool { return len(b.gaps) > len(test.gaps) })
			assert.Equal(t, append(test.gaps, journal.Trimmed), b.reasons())
		})
	}
}

// The journal loses events between the report of a loss and the next part that is read.
func TestLossesWhileOneIsReported(t *testing.T) {
	t.Parallel()
	b := setup(t)
	stop := b.run(t)
	b.append(t, "k", 10)
	b.done(t, 10)
	stop()
	require.NoError(t, b.client.Del(t.Context(), b.keys.Journal, b.keys.State).Err())
	b.append(t, "k", 10)
	b.run(t, func(s *Settings) {
		report := s.Gap
		s.Gap = func(reason journal.Reason, after string, missed uint64) {
			if reason == journal.Wiped {
				assert.NoError(t, b.client.XTrimMaxLen(t.Context(), b.keys.Journal, 4).Err())
			}
			report(reason, after, missed)
		}
	})
	b.done(t, 14)
	assert.Equal(t, []journal.Reason{journal.Wiped, journal.Trimmed}, b.reasons())
}

// fill runs a member with a group that holds as much as it may, and more behind that. It handles nothing before release.
func (b *bundle) fill(t *testing.T) (release func()) {
	t.Helper()
	released := make(chan struct{})
	b.set(func(ctx context.Context, _ Event) Result {
		select {
		case <-released:
			return Result{}
		case <-ctx.Done():
			return Result{Err: ctx.Err()}
		}
	})
	large := strings.Repeat("x", feedBytes-1<<10)
	b.run(t, func(s *Settings) {
		s.Concurrency = 4
		s.Body = func(e *journal.Entry) (string, bool) { return e.Value + large, e.Channels[0] == "k" }
	})
	b.append(t, "k", 20)
	b.eventually(t, "not full", func() bool {
		bytes, _ := b.client.HGet(t.Context(), b.k.progress, "bytes").Int64()
		return isFull(0, bytes)
	})
	return func() { close(released) }
}
