package notification_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
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
		notification.DropNewest: {1, 2, 3, 4, 21},
		notification.DropOldest: {18, 19, 20, 21},
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
			if policy == notification.DropNewest {
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
					if policy == notification.DropNewest {
						assert.Equal(t, before, m.Gap.After)
					}
					missed += m.Gap.Missed
				}
			}
			empty(t, slow)
			lost := uint64(events - buffer)
			if policy == notification.DropOldest {
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
		n := newSystem(t, redistest.Start(t).Client(t), notification.WithBufferSize(buffer), notification.WithPolicy(notification.Disconnect))
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

// As TestEventRepeatedAfterAFailoverArrivesOnce, with a subscriber that falls behind after it: it must not come across
// the repetition in the journal.
func TestEventRepeatedAfterAFailoverIsNotReplayed(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		live   bool // the repetition arrives live, and is not recovered
		behind int  // events left to the journal before the failover
	}{
		"arrived live":      {live: true},
		"recovered":         {},
		"live and behind":   {live: true, behind: 1},
		"behind":            {behind: 1},
		"behind by several": {behind: 5},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const buffer = 10
			before, after := redistest.Start(t), redistest.Start(t)
			toBefore, toAfter := before.Client(t), after.Client(t)
			client, target := switched(t, before.Addr())
			n := newSystem(t, client, notification.WithBufferSize(buffer))
			slow, other := subscribe(t, n, "k"), record(t, subscribe(t, n, "k*"))
			p := &publisher{system: newSystem(t, toBefore)}
			require.Zero(t, p.publish(t.Context(), "k", buffer)) // the buffer is full
			last := toBefore.XRevRangeN(t.Context(), journalKey, "+", "-", 1).Val()[0].Values
			require.Zero(t, p.publish(t.Context(), "k", tc.behind))
			other.reached(t, p.last)
			again := func() { // as a publisher that lost the reply
				id, err := toAfter.XAdd(t.Context(), &redis.XAddArgs{
					Stream: journalKey, Values: []any{"k", last["k"], "v", last["v"]},
				}).Result()
				require.NoError(t, err)
				require.NoError(t, toAfter.Publish(t.Context(), "k", fmt.Sprintf(`{"event_id":%q,%s`, id, last["v"])).Err())
			}
			if !tc.live {
				again()
			}
			addr := after.Addr()
			target.Store(&addr)
			require.NoError(t, toBefore.Do(t.Context(), "client", "kill", "type", "pubsub").Err())
			require.Eventually(t, func() bool {
				return len(pubsubClients(t, toAfter)) == 1 && n.HealthCheck(t.Context()) == nil
			}, patience, time.Millisecond)
			if tc.live {
				again()
			}
			p.system = newSystem(t, toAfter)
			require.Zero(t, p.publish(t.Context(), "k", 1)) // it falls behind
			other.reached(t, p.last)
			late := record(t, slow)
			late.reached(t, p.last)
			assert.Equal(t, tc.behind, late.verify(t, p.sent), "what it has not read is gone")
			assert.Zero(t, other.verify(t, p.sent))
		})
	}
}

// A publisher repeats an event after a failover. Who had it before does not get it again; but who had not, because he was
// behind or has come since, does.
func TestEventRepeatedAfterAFailoverReachesWhoHadItNot(t *testing.T) {
	t.Parallel()
	before, after := redistest.Start(t), redistest.Start(t)
	toBefore, toAfter := before.Client(t), after.Client(t)
	client, target := switched(t, before.Addr())
	n := newSystem(t, client, notification.WithBufferSize(1))
	registry := prometheus.NewPedanticRegistry()
	require.NoError(t, registry.Register(n.Collector()))
	slow := subscribe(t, n, "k")
	quick := newSystem(t, client)
	other := record(t, subscribe(t, quick, "k"))
	p := &publisher{system: newSystem(t, toBefore)}
	require.Zero(t, p.publish(t.Context(), "k", 2)) // the second is left to the journal
	other.reached(t, p.last)
	lost := toBefore.XRevRangeN(t.Context(), journalKey, "+", "-", 1).Val()[0].Values
	require.Eventually(t, func() bool {
		return gauge(t, registry, "cache_notification_replaying_subscribers") == 1
	}, patience, time.Millisecond)

	addr := after.Addr()
	target.Store(&addr)
	require.NoError(t, toBefore.Do(t.Context(), "client", "kill", "type", "pubsub").Err())
	for _, system := range []*notification.RedisNotificationSystem{n, quick} {
		require.Eventually(t, func() bool {
			return len(pubsubClients(t, toAfter)) == 2 && system.HealthCheck(t.Context()) == nil
		}, patience, time.Millisecond)
	}
	newcomer := record(t, subscribe(t, quick, "k"))
	p.system = newSystem(t, toAfter)
	require.Zero(t, p.publish(t.Context(), "k", 3))
	other.reached(t, p.last)
	numbers := []int{decoded(t, next(t, slow))} // now the others are read, and two of them wait outside the buffer
	require.Eventually(t, func() bool { return n.GetMetrics().MessagesRecovered == 1 }, patience, time.Millisecond)

	id, err := toAfter.XAdd(t.Context(), &redis.XAddArgs{Stream: journalKey, Values: []any{"k", lost["k"], "v", lost["v"]}}).Result()
	require.NoError(t, err)
	require.NoError(t, toAfter.Publish(t.Context(), "k", fmt.Sprintf(`{"event_id":%q,%s`, id, lost["v"])).Err())
	require.Zero(t, p.publish(t.Context(), "k", 1))
	for len(numbers) < 6 {
		numbers = append(numbers, decoded(t, next(t, slow)))
	}
	assert.Equal(t, []int{1, 3, 4, 5, 2, 6}, numbers)
	other.reached(t, 6)
	newcomer.reached(t, 6)
	assert.Equal(t, []int{1, 2, 3, 4, 5, 6}, other.numbers)
	assert.Equal(t, []int{3, 4, 5, 2, 6}, newcomer.numbers)
}

func decoded(t *testing.T, m *notification.Message) int {
	t.Helper()
	v, err := notification.Decode[numbered](m)
	require.NoError(t, err)
	return v.N
}

func TestReplayOfEventsThatArriveSlowly(t *testing.T) {
	t.Parallel()
	client := redistest.Start(t).Client(t)
	hook := &narrow{}
	client.AddHook(hook)
	n := newSystem(t, client, notification.WithBufferSize(4))
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
	client.AddHook(hook)
	core, logs := observer.New(zap.DebugLevel)
	n := newSystem(t, client, notification.WithBufferSize(1), notification.WithLogger(zap.New(core)))
	slow, other := subscribe(t, n, "k"), subscribe(t, n, "k*")
	hook.limit.Store(1) // less than any part
	for i := range 2 {  // the second is left to the journal
		require.NoError(t, n.Publish(t.Context(), "k", numbered{i + 1}))
		next(t, other)
	}
	next(t, slow)
	failed := func() *observer.ObservedLogs { return logs.FilterMessage("notification: replay failed") }
	require.Eventually(t, func() bool { return failed().Len() > 8 }, patience, time.Millisecond)
	hook.limit.Store(0)
	next(t, slow)
	assert.Equal(t, 1, failed().FilterLevelExact(zap.WarnLevel).Len())
}

// TestReplayOfWhatIsGone: that nothing matches is no reason not to tell that something may have.
func TestReplayOfWhatIsGone(t *testing.T) {
	t.Parallel()
	client := redistest.Start(t).Client(t)
	n := newSystem(t, client)
	publish := func() string {
		require.NoError(t, n.PublishWorkflowEvent(t.Context(), &notification.WorkflowEvent{ID: "W", Status: "s"}))
		var last string
		for m, err := range n.Replay(t.Context(), "workflow:W", "", "") {
			require.NoError(t, err)
			last = m.EventID
		}
		return last
	}
	replay := func(pattern, from string) (messages []*notification.Message, err error) {
		for m, e := range n.Replay(t.Context(), pattern, from, "") {
			if e != nil {
				return messages, e
			}
			messages = append(messages, m)
		}
		return messages, nil
	}
	gone := publish()
	require.NoError(t, client.Del(t.Context(), "cache:{notification}:journal").Err())
	var gap *notification.GapError
	_, err := replay("workflow:W", gone)
	require.ErrorAs(t, err, &gap, "an empty journal")
	assert.Equal(t, notification.GapTrimmed, gap.Gap.Reason)
	assert.NotZero(t, gap.Gap.Time)
	_, err = replay("workflow:*", "")
	require.NoError(t, err, "there is no beginning that could be missing")

	last := publish()
	for last == gone { // within the same millisecond
		require.NoError(t, client.Del(t.Context(), "cache:{notification}:journal").Err())
		last = publish()
	}
	_, err = replay("other", gone)
	require.ErrorAs(t, err, &gap, "nothing that matches")
	messages, err := replay("workflow:W", gone)
	require.NoError(t, err)
	require.Len(t, messages, 1)
	require.NotNil(t, messages[0].Gap, "the next message tells")
	messages, err = replay("other", last)
	require.NoError(t, err)
	assert.Empty(t, messages)
}

func TestReplay(t *testing.T) {
	t.Parallel()
	n := newSystem(t, redistest.Start(t).Client(t))
	var batch []notification.Outgoing
	for i := range 1000 {
		batch = append(batch, &notification.WorkflowEvent{ID: fmt.Sprint(i % 10), Status: "s", Data: i})
	}
	require.NoError(t, n.PublishBatch(t.Context(), batch...))

	collect := func(pattern, from, to string) (messages []*notification.Message) {
		for m, err := range n.Replay(t.Context(), pattern, from, to) {
			require.NoError(t, err)
			require.Nil(t, m.Gap)
			messages = append(messages, m)
		}
		return messages
	}
	all := collect("workflow:*", "", "")
	require.Len(t, all, 1000)
	for i, m := range all {
		event, err := notification.Decode[notification.WorkflowEvent](m)
		require.NoError(t, err)
		require.EqualValues(t, i, event.Data)
		require.Equal(t, m.EventID, event.EventID)
	}
	assert.Len(t, collect("workflow:7", "", ""), 100)
	assert.Len(t, collect("workflow:events", all[100].EventID, all[199].EventID), 100)
	assert.Empty(t, collect("none", "", ""))

	seen := 0
	for _, err := range n.Replay(t.Context(), "*", "", "") {
		require.NoError(t, err)
		seen++
		break
	}
	assert.Equal(t, 1, seen)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for name, sequence := range map[string]struct {
		ctx               context.Context
		pattern, from, to string
		want              error
	}{
		"cancelled": {ctx, "*", "", "", context.Canceled},
		"from":      {t.Context(), "*", "x", "", notification.ErrInvalidArgument},
		"to":        {t.Context(), "*", "", "x", notification.ErrInvalidArgument},
		"pattern":   {t.Context(), "", "", "", notification.ErrInvalidArgument},
	} {
		count := 0
		for m, err := range n.Replay(sequence.ctx, sequence.pattern, sequence.from, sequence.to) {
			assert.Nil(t, m)
			assert.ErrorIs(t, err, sequence.want, name)
			count++
		}
		assert.Equal(t, 1, count, name)
	}
	for range 20 { // the same one each time
		for _, err := range n.Replay(t.Context(), "*", "x", "y") {
			var argument *notification.ArgumentError
			require.ErrorAs(t, err, &argument)
			require.Equal(t, "from", argument.Argument)
		}
	}
}

// What ends a replay is the last thing it yields, whenever it happens.
func TestReplayThatCannotGoOn(t *testing.T) {
	t.Parallel()
	const events = 600 // more than are read at once
	for name, test := range map[string]struct {
		opts   []notification.Option
		before func(t *testing.T, n *notification.RedisNotificationSystem)
		during func(t *testing.T, n *notification.RedisNotificationSystem, client *redis.Client)
		want   error // nil means a gap
	}{
		"without history": {opts: []notification.Option{notification.WithHistory(0, 0)}, want: notification.ErrNoHistory},
		"after closing": {before: func(t *testing.T, n *notification.RedisNotificationSystem) {
			t.Helper()
			require.NoError(t, n.Close())
		}, want: notification.ErrClosed},
		"closed meanwhile": {during: func(t *testing.T, n *notification.RedisNotificationSystem, _ *redis.Client) {
			t.Helper()
			require.NoError(t, n.Close())
		}, want: notification.ErrClosed},
		"deleted meanwhile": {during: func(t *testing.T, _ *notification.RedisNotificationSystem, client *redis.Client) {
			t.Helper()
			require.NoError(t, client.Del(t.Context(), journalKey).Err())
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := redistest.Start(t).Client(t)
			n := newSystem(t, client, test.opts...)
			p := &publisher{system: n}
			require.Zero(t, p.publish(t.Context(), "k", events))
			if test.before != nil {
				test.before(t, n)
			}
			var last *notification.Message
			var ends []error
			read := 0
			for m, err := range n.Replay(t.Context(), "k", "", "") {
				if err != nil {
					assert.Nil(t, m)
					ends = append(ends, err)
					continue
				}
				if read == 0 {
					test.during(t, n, client)
				}
				read++
				last = m
			}
			require.Len(t, ends, 1)
			assert.Equal(t, test.during != nil, read > 0)
			assert.Less(t, read, events)
			if test.want != nil {
				require.ErrorIs(t, ends[0], test.want)
				return
			}
			var gap *notification.GapError
			require.ErrorAs(t, ends[0], &gap)
			assert.Equal(t, notification.GapTrimmed, gap.Gap.Reason)
			assert.Equal(t, last.EventID, gap.Gap.After)
		})
	}
}

// A journal that is trimmed during a replay leaves a gap, and the replay goes on behind it.
func TestReplayOfAJournalThatIsTrimmed(t *testing.T) {
	t.Parallel()
	const events, left = 600, 10
	client := redistest.Start(t).Client(t)
	n := newSystem(t, client)
	p := &publisher{system: n}
	require.Zero(t, p.publish(t.Context(), "k", events))
	var before *notification.Message
	last, gaps := 0, 0
	for m, err := range n.Replay(t.Context(), "k", "", "") {
		require.NoError(t, err)
		number, err := numberOf(m)
		require.NoError(t, err)
		switch {
		case before == nil:
			require.NoError(t, client.XTrimMaxLen(t.Context(), journalKey, left).Err())
		case m.Gap != nil:
			gaps++
			assert.Equal(t, events-left+1, number)
			assert.Equal(t, notification.GapTrimmed, m.Gap.Reason)
			assert.Equal(t, before.EventID, m.Gap.After)
			assert.Equal(t, m.EventID, m.Gap.Before)
		default:
			require.Equal(t, last+1, number)
		}
		before, last = m, number
	}
	assert.Equal(t, 1, gaps)
	assert.Equal(t, events, last)
}
