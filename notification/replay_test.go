package notification_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/notification"
)

func TestSlowSubscriberCatchesUp(t *testing.T) {
	t.Parallel()
	n := newSystem(t, redistest.Start(t).Client(t), notification.WithBufferSize(4))
	slow, other := subscribe(t, n, "k"), record(t, subscribe(t, n, "k*"))
	p := &publisher{system: n}
	require.Zero(t, p.publish(t.Context(), "k", 1000))
	other.reached(t, p.last)
	// Only now does it begin to read, and publishing goes on.
	late := record(t, slow)
	require.Zero(t, p.publish(t.Context(), "k", 1000))
	late.reached(t, p.last)
	assert.Zero(t, late.verify(t, p.sent))
	assert.Zero(t, other.verify(t, p.sent))
	assert.Empty(t, late.gaps())
	assert.Zero(t, slow.Dropped())
	// It is live again: what arrives now is shared and does not come from the journal.
	require.Eventually(t, func() bool {
		p.publish(t.Context(), "k", 1)
		late.mu.Lock()
		defer late.mu.Unlock()
		return !late.messages[len(late.messages)-1].Recovered
	}, patience, time.Millisecond)
}

func TestNoHoleBetweenReplayAndLive(t *testing.T) {
	t.Parallel()
	// With room for one message and events in twos, the second always comes from the journal, and the next two are
	// published while the subscription is on its way back to live delivery.
	n := newSystem(t, redistest.Start(t).Client(t), notification.WithBufferSize(1))
	s := subscribe(t, n, "k")
	const events = 1000
	last := 0
	read := func(until int) {
		for last < until {
			m := next(t, s)
			v, err := notification.Decode[numbered](m)
			require.NoError(t, err)
			require.Equal(t, last+1, v.N)
			require.Nil(t, m.Gap)
			last = v.N
		}
	}
	for i := 1; i < events; i += 2 {
		require.NoError(t, n.PublishBatch(t.Context(), notification.To("k", numbered{i}), notification.To("k", numbered{i + 1})))
		read(i)
	}
	read(events)
	recovered := n.GetMetrics().MessagesRecovered
	assert.Positive(t, recovered)
	assert.Less(t, recovered, int64(events), "it was live in between")
}

func TestSlowSubscriberBeyondTheJournal(t *testing.T) {
	t.Parallel()
	n := newSystem(t, redistest.Start(t).Client(t), notification.WithBufferSize(4), notification.WithHistory(100, 0))
	slow := subscribe(t, n, "k")
	p := &publisher{system: n}
	require.Zero(t, p.publish(t.Context(), "k", 1500))
	late := record(t, slow)
	late.reached(t, p.last)
	assert.Positive(t, late.verify(t, p.sent))
	assert.Equal(t, []notification.GapReason{notification.GapTrimmed}, late.gaps())
}

func TestDroppingPolicies(t *testing.T) {
	t.Parallel()
	const buffer, events = 4, 20
	for policy, kept := range map[notification.Policy][]int{
		notification.PolicyDropNewest: {1, 2, 3, 4, 21},
		notification.PolicyDropOldest: {18, 19, 20, 21},
	} {
		t.Run(string(policy), func(t *testing.T) {
			t.Parallel()
			n := newSystem(t, redistest.Start(t).Client(t), notification.WithBufferSize(buffer), notification.WithPolicy(policy))
			slow, other := subscribe(t, n, "k"), record(t, subscribe(t, n, "k*"))
			p := &publisher{system: n}
			for p.last < events { // slowly enough for the other, whose buffer is as small
				require.Zero(t, p.publish(t.Context(), "k", 1))
				other.reached(t, p.last)
			}
			var before string
			if policy == notification.PolicyDropNewest {
				// There is room again only after something was read.
				for range buffer {
					before = next(t, slow).EventID
				}
				kept = kept[buffer:]
			}
			require.Zero(t, p.publish(t.Context(), "k", 1))
			other.reached(t, p.last)
			missed := uint64(0)
			for _, want := range kept {
				m := next(t, slow)
				v, err := notification.Decode[numbered](m)
				require.NoError(t, err)
				assert.Equal(t, want, v.N)
				if m.Gap != nil {
					assert.Equal(t, notification.GapOverflow, m.Gap.Reason)
					assert.Equal(t, m.EventID, m.Gap.Before)
					if policy == notification.PolicyDropNewest {
						assert.Equal(t, before, m.Gap.After)
					}
					missed += m.Gap.Missed
				}
			}
			empty(t, slow)
			lost := uint64(events - buffer)
			if policy == notification.PolicyDropOldest {
				lost++
			}
			assert.Equal(t, lost, missed)
			assert.Equal(t, lost, slow.Dropped())
			assert.EqualValues(t, lost, n.GetMetrics().DroppedMessages)
			assert.Equal(t, notification.GapOverflow, (<-slow.Gaps()).Reason)
		})
	}
	t.Run("disconnect", func(t *testing.T) {
		t.Parallel()
		n := newSystem(t, redistest.Start(t).Client(t), notification.WithBufferSize(buffer), notification.WithPolicy(notification.PolicyDisconnect))
		slow, other := subscribe(t, n, "k"), record(t, subscribe(t, n, "k"))
		p := &publisher{system: n}
		for p.last < events {
			require.Zero(t, p.publish(t.Context(), "k", 1))
			other.reached(t, p.last)
		}
		for range buffer {
			next(t, slow)
		}
		<-slow.Gaps()
		requireClosed(t, slow)
		assert.ErrorIs(t, slow.Err(), notification.ErrSlowSubscriber)
	})
}

func TestSubscribeFrom(t *testing.T) {
	t.Parallel()
	n := newSystem(t, redistest.Start(t).Client(t))
	p := &publisher{system: n}
	first := record(t, subscribe(t, n, "k"))
	require.Zero(t, p.publish(t.Context(), "k", 500))
	require.Zero(t, p.publish(t.Context(), "other", 1))
	first.reached(t, 500)
	require.NoError(t, first.sub.Close())
	<-first.done
	half := first.messages[249].EventID

	for from, seen := range map[string]int{"": 0, half: 250, first.sub.LastEventID(): 500} {
		r := record(t, n.SubscribeFrom(t.Context(), "k", from))
		require.NoError(t, r.sub.Err())
		// These have every chance to come in the middle of the replay.
		require.Zero(t, p.publish(t.Context(), "k", 100))
		r.reached(t, p.last)
		var want []int
		for _, v := range p.sent {
			if v > seen && v != 501 { // 501 went to another channel
				want = append(want, v)
			}
		}
		assert.Zero(t, r.verify(t, want))
		assert.Empty(t, r.gaps())
	}

	future := n.SubscribeFrom(t.Context(), "k", "99999999999999-0")
	assert.Equal(t, notification.GapTrimmed, (<-future.Gaps()).Reason)
	assert.ErrorIs(t, n.SubscribeFrom(t.Context(), "k", "x").Err(), notification.ErrInvalidArgument)
	plain := newSystem(t, redistest.Start(t).Client(t), notification.WithHistory(0, 0))
	assert.ErrorIs(t, plain.SubscribeFrom(t.Context(), "k", "").Err(), notification.ErrNoHistory)
}

// A shutdown waits for what a slow subscriber has still in front of it in the journal, not only in its buffer.
func TestShutdownDeliversWhatIsBehind(t *testing.T) {
	t.Parallel()
	n := newSystem(t, redistest.Start(t).Client(t), notification.WithBufferSize(4))
	slow, other := subscribe(t, n, "k"), record(t, subscribe(t, n, "k*"))
	p := &publisher{system: n}
	require.Zero(t, p.publish(t.Context(), "k", 1000))
	other.reached(t, p.last)
	done := make(chan error, 1)
	go func() { done <- n.Shutdown(t.Context()) }()
	late := record(t, slow)
	require.NoError(t, <-done)
	<-late.done
	assert.Zero(t, late.verify(t, p.sent))
	assert.Empty(t, late.gaps())
	assert.ErrorIs(t, slow.Err(), notification.ErrClosed)
}

func TestReplayOfEventsThatArriveSlowly(t *testing.T) {
	t.Parallel()
	client := redistest.Start(t).Client(t)
	hook := &narrow{}
	hook.limit.Store(-1)
	n := newSystem(t, withHook(client, hook.hook()), notification.WithBufferSize(4))
	slow, other := subscribe(t, n, "k"), record(t, subscribe(t, n, "k*"))
	p := &publisher{system: n}
	hook.limit.Store(8)
	require.Zero(t, p.publish(t.Context(), "k", 300))
	late := record(t, slow)
	for _, r := range []*recorder{late, other} {
		r.reached(t, p.last)
		assert.Zero(t, r.verify(t, p.sent))
		assert.Empty(t, r.gaps())
	}
	read := 0
	for m, err := range n.Replay(t.Context(), "k", "", "") {
		require.NoError(t, err)
		assert.NotNil(t, m)
		read++
	}
	assert.Equal(t, len(p.sent), read)
}

// A subscription that is behind asks again and again for what it cannot get. The log hears of it once.
func TestReplayThatFailsIsLoggedOnce(t *testing.T) {
	t.Parallel()
	client := redistest.Start(t).Client(t)
	hook := &narrow{}
	hook.limit.Store(-1)
	core, logs := observer.New(zap.DebugLevel)
	n := newSystem(t, withHook(client, hook.hook()), notification.WithBufferSize(1), notification.WithLogger(zap.New(core)))
	slow, other := subscribe(t, n, "k"), subscribe(t, n, "k*")
	hook.limit.Store(0) // less than any part
	for i := range 2 {  // the second is left to the journal
		require.NoError(t, n.Publish(t.Context(), "k", numbered{i + 1}))
		next(t, other)
	}
	next(t, slow)
	failed := func() *observer.ObservedLogs { return logs.FilterMessage("notification: reading the journal failed") }
	require.Eventually(t, func() bool { return failed().Len() > 8 }, patience, time.Millisecond)
	hook.limit.Store(-1)
	next(t, slow)
	assert.Equal(t, 1, failed().FilterLevelExact(zap.WarnLevel).Len())
}
