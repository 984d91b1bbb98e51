package group

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/notification/internal/journal"
)

// Redis has evicted what a group holds, and the leader that finds out ends, or loses the reply, before it reports that.
// The next one does, once.
func TestLossFoundByALeaderThatEnds(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.run(t)() // makes the group
	stop := b.run(t, func(s *Settings) { s.Concurrency = 0 })
	b.append(t, "k", 10)
	b.eventually(t, "not read", func() bool { return b.client.ZCard(t.Context(), b.k.due).Val() == 10 })
	stop()
	require.NoError(t, b.client.Del(t.Context(), b.k.events).Err())
	set := b.settings(b.client)
	found, err := newOps(&set).doLead(t.Context(), b.client, "", "", time.Minute)
	require.NoError(t, err)
	require.EqualValues(t, 10, found.lost)
	reported := func() int64 {
		at, err := parseProgress(b.client.HGet(t.Context(), b.k.progress, "known").Val())
		assert.NoError(t, err)
		return at.lost
	}

	stop = b.run(t, func(s *Settings) {
		inner := s.Gap
		s.Gap = func(reason journal.Reason, after string, missed uint64) {
			assert.Zero(t, reported(), "a process that dies here has not reported it")
			inner(reason, after, missed)
		}
	})
	b.eventually(t, "not reported", func() bool { return len(b.gaps) == 1 })
	b.eventually(t, "that it was reported is not stored", func() bool { return reported() == 10 })
	stop()
	b.run(t)
	b.append(t, "k", 5)
	b.done(t, 5)
	assert.Equal(t, []gap{{journal.Wiped, 10}}, b.gaps)
}
