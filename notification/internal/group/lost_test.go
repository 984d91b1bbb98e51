package group

import (
	"context"
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

// A group is lost with what it held, and its only member stops before it has noticed: the next one reports the gap, whether or
// not a member that knows nothing has made the group again meanwhile.
func TestGroupsThatAreLostWhenTheirMemberStops(t *testing.T) {
	t.Parallel()
	for name, remade := range map[string]bool{"and gone": false, "and made again": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			b.set(func(context.Context, Event) Result { return Result{Err: errFailed} })
			stop := b.run(t, func(s *Settings) { s.FirstPause, s.LongestPause = time.Minute, time.Minute })
			b.append(t, "k", 10)
			b.eventually(t, "not tried", func() bool { return len(b.settled) == 10 })
			require.NoError(t, b.client.Del(t.Context(), b.k.progress, b.k.events, b.k.due, b.k.wake, b.k.dead).Err())
			if remade {
				b.run(t)()
			}
			stop()
			b.set(nil)
			b.run(t)
			b.append(t, "k", 5)
			b.done(t, 5)
			b.eventually(t, "no gap", func() bool { return len(b.gaps) > 0 })
			assert.Equal(t, []journal.Reason{journal.Wiped}, b.reasons())
		})
	}
}

// A turn is refused in the middle, as an event cannot be put into the dead letters: what was done before that is not taken for lost.
func TestTurnsThatAreRefusedInTheMiddle(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.run(t)() // makes the group
	stop := b.run(t, func(s *Settings) { s.Concurrency = 0 })
	b.append(t, "k", 2)
	b.eventually(t, "not read", func() bool { return b.client.ZCard(t.Context(), b.k.due).Val() == 2 })
	stop()
	set := b.settings(b.client)
	o := newOps(&set)
	taken, err := o.doTurn(t.Context(), b.client, turnRequest{number: 1, room: 2, bytes: takeBytes, claim: time.Minute})
	require.NoError(t, err)
	require.Len(t, taken.events, 2)
	require.NoError(t, b.client.Set(t.Context(), b.k.dead, "no stream", 0).Err())
	request := turnRequest{number: 2, claim: time.Minute, deadCap: 10, outcomes: []outcome{
		{what: done, id: taken.events[0].key}, {what: dead, id: taken.events[1].key, n: 1, text: "failed"},
	}}
	_, err = o.doTurn(t.Context(), b.client, request)
	require.Error(t, err)
	now, err := o.doLead(t.Context(), b.client, "", "", time.Minute)
	require.NoError(t, err)
	assert.Zero(t, now.lost)
	assert.EqualValues(t, 1, now.held)
	assert.EqualValues(t, len(taken.events[1].Body), now.bytes)

	require.NoError(t, b.client.Del(t.Context(), b.k.dead).Err())
	_, err = o.doTurn(t.Context(), b.client, request)
	require.NoError(t, err)
	b.empty(t)
}
