package notification_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/notification"
)

// A subscription that is behind when the data is lost still has events from before in front of it. The hole comes
// after them, and so must the gap.
func TestGapOfASubscriptionThatIsBehind(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client := server.Client(t)
	n := newSystem(t, client, notification.WithBufferSize(4))
	slow, other := subscribe(t, n, "k"), record(t, subscribe(t, n, "k*"))
	p := &publisher{system: n}
	require.Zero(t, p.publish(t.Context(), "k", 500))
	other.reached(t, p.last)
	// It makes the subscription read on from the journal, so that a part of it waits outside the buffer.
	before := n.GetMetrics().MessagesRecovered
	first := next(t, slow)
	require.Eventually(t, func() bool { return n.GetMetrics().MessagesRecovered > before }, patience, time.Millisecond)

	reconnects := n.GetMetrics().Reconnects
	require.NoError(t, client.FlushAll(t.Context()).Err())
	require.NoError(t, client.Do(t.Context(), "client", "kill", "type", "pubsub").Err())
	require.Eventually(t, func() bool {
		return n.GetMetrics().Reconnects > reconnects && n.HealthCheck(t.Context()) == nil
	}, patience, time.Millisecond)
	require.Zero(t, p.publish(t.Context(), "k", 50))
	late := record(t, slow)
	late.after = first.EventID
	late.reached(t, p.last)
	v, err := notification.Decode[numbered](first)
	require.NoError(t, err)
	require.Equal(t, 1, v.N)
	assert.Positive(t, late.verify(t, p.sent[1:]))
	assert.Equal(t, []notification.GapReason{notification.GapWiped}, late.gaps())
}

// A subscription that resumes while Redis is away learns that its place is gone.
func TestResumingIntoAWipedJournal(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client := server.Client(t)
	n := newSystem(t, client)
	r := record(t, subscribe(t, n, "k"))
	p := &publisher{system: n}
	require.Zero(t, p.publish(t.Context(), "k", 10))
	r.reached(t, p.last)
	server.Kill()
	require.Eventually(t, func() bool { return health(n) != nil }, patience, time.Millisecond)
	place := r.sub.LastEventID()
	resumed := record(t, n.SubscribeFrom(t.Context(), "k", place))
	resumed.after = place
	server.Restart()
	require.Eventually(t, func() bool { return n.HealthCheck(t.Context()) == nil }, patience, time.Millisecond)
	require.Zero(t, p.publish(t.Context(), "k", 10))
	resumed.reached(t, p.last)
	assert.Zero(t, resumed.verify(t, p.sent[10:]), "the new journal has them all")
	gaps := resumed.gaps()
	require.Len(t, gaps, 1)
	assert.Contains(t, []notification.GapReason{notification.GapTrimmed, notification.GapWiped}, gaps[0],
		"the latter if it was quicker than the end of the connection")
	r.reached(t, p.last)
	assert.Zero(t, r.verify(t, p.sent))
	assert.Equal(t, []notification.GapReason{notification.GapWiped}, r.gaps())
}

// The place a subscription resumes from may lie in the future: of a journal that is gone, made by a server whose
// clock was ahead. What comes then is new all the same.
func TestResumingFromTheFuture(t *testing.T) {
	t.Parallel()
	for name, published := range map[string]int{"empty journal": 0, "journal with events": 10} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newSystem(t, redistest.Start(t).Client(t))
			p := &publisher{system: n}
			require.Zero(t, p.publish(t.Context(), "k", published))
			r := record(t, n.SubscribeFrom(t.Context(), "k", "99999999999999-0"))
			r.after = "99999999999999-0"
			require.Zero(t, p.publish(t.Context(), "k", 10))
			r.reached(t, p.last)
			assert.Zero(t, r.verify(t, p.sent))
			require.Len(t, r.gaps(), 1)
			assert.NotNil(t, r.messages[0].Gap)
		})
	}
}

// All that was published is gone with the journal. A subscription that wants everything has nothing to wait for.
func TestResumingInAnExpiredJournalIsLive(t *testing.T) {
	t.Parallel()
	client := redistest.Start(t).Client(t)
	n := newSystem(t, client)
	r := record(t, subscribe(t, n, "k"))
	p := &publisher{system: n}
	require.Zero(t, p.publish(t.Context(), "k", 10))
	r.reached(t, p.last)
	require.NoError(t, client.Del(t.Context(), "cache:{notification}:journal").Err())
	s := n.SubscribeFrom(t.Context(), "k", "")
	// What other programs publish arrives only live.
	require.Eventually(t, func() bool {
		if client.Publish(t.Context(), "k", "foreign").Err() != nil {
			return false
		}
		select {
		case m, ok := <-s.Messages():
			return ok && m.Payload == "foreign"
		default:
			return false
		}
	}, patience, time.Millisecond)
}

// A program that passes our events on to another channel is a foreign publisher like any other, whatever it passes on and
// when.
func TestForwardedEventsArriveAsTheyAre(t *testing.T) {
	t.Parallel()
	client := redistest.Start(t).Client(t)
	n := newSystem(t, client)
	r := record(t, subscribe(t, n, "k"))
	p := &publisher{system: n}
	require.Zero(t, p.publish(t.Context(), "k", 10))
	r.reached(t, p.last)
	mirror := subscribe(t, n, "mirror")
	forward := func(number int, gap *notification.GapReason) {
		t.Helper()
		payload := r.messages[number-1].Payload
		require.NoError(t, client.Publish(t.Context(), "mirror", payload).Err())
		m := next(t, mirror)
		assert.Equal(t, payload, m.Payload)
		assert.Empty(t, m.EventID)
		if gap == nil {
			assert.Nil(t, m.Gap)
		} else {
			require.NotNil(t, m.Gap)
			assert.Equal(t, *gap, m.Gap.Reason)
		}
	}
	forward(10, nil) // the newest
	forward(10, nil)
	forward(3, nil)
	reconnects := n.GetMetrics().Reconnects
	assert.Zero(t, reconnects)
	cut(t, n, client)
	foreign := notification.GapForeign
	forward(3, &foreign) // before anything of ours
	forward(10, nil)
	require.Zero(t, p.publish(t.Context(), "k", 10))
	r.reached(t, p.last)
	assert.Zero(t, r.verify(t, p.sent))
	assert.Empty(t, r.gaps())
	assert.Equal(t, reconnects+1, n.GetMetrics().Reconnects)
}

func TestBatchOfACancelledCallerIsNotSent(t *testing.T) {
	t.Parallel()
	client := redistest.Start(t).Client(t)
	n := newSystem(t, client)
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(assert.AnError)
	for name, err := range map[string]error{
		"alone": n.Publish(ctx, "a", numbered{1}),
		"batch": n.PublishBatch(ctx, notification.To("a", numbered{1}), notification.To("b", numbered{2})),
	} {
		var failed *notification.PublishError
		require.ErrorAs(t, err, &failed, name)
		assert.False(t, failed.Uncertain, name)
		require.ErrorIs(t, err, assert.AnError, name)
	}
	assert.Zero(t, client.Exists(t.Context(), "cache:{notification}:journal").Val())
	assert.EqualValues(t, 3, n.GetMetrics().PublishErrors)
}

// A server that pauses its clients for longer than three heartbeats looks dead, and nothing is lost by that.
func TestPausedServerLosesNothing(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client, _ := through(t, server) // with short timeouts
	n := newSystem(t, client, notification.WithHeartbeat(100*time.Millisecond))
	outside := newSystem(t, server.Client(t))
	r := record(t, subscribe(t, n, "k"))
	p := &publisher{system: outside}
	require.Zero(t, p.publish(t.Context(), "k", 10))
	require.NoError(t, server.Client(t).Do(t.Context(), "client", "pause", 1000, "all").Err())
	require.Zero(t, p.publish(t.Context(), "k", 10))
	r.reached(t, p.last)
	assert.Zero(t, r.verify(t, p.sent))
	assert.Empty(t, r.gaps())
	assert.Positive(t, n.GetMetrics().Reconnects)
}

// A repetition that overtakes nothing: the server stands still for longer than the client waits.
func TestStoppedServerDoublesNothing(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client, proxy := through(t, server)
	n := newSystem(t, client)
	r := record(t, subscribe(t, newSystem(t, server.Client(t)), "k"))
	p := &publisher{system: n}
	require.Zero(t, p.publish(t.Context(), "k", 1))
	for range 3 {
		server.Stop()
		accepted := proxy.Accepted()
		done := make(chan int)
		go func() { done <- p.publish(t.Context(), "k", 1) }()
		// The first attempt has timed out when the second one connects.
		require.Eventually(t, func() bool { return proxy.Accepted() > accepted }, patience, time.Millisecond)
		server.Continue()
		require.Zero(t, <-done)
	}
	r.reached(t, p.last)
	assert.Zero(t, r.verify(t, p.sent))
	assert.EqualValues(t, len(p.sent), server.Client(t).XLen(t.Context(), "cache:{notification}:journal").Val())
}

func TestHeartbeatsWithoutHistory(t *testing.T) {
	t.Parallel()
	client := redistest.Start(t).Client(t)
	// Three intervals without a heartbeat are too many, and a busy machine may stand still for a while.
	n := newSystem(t, client, notification.WithHistory(0, 0), notification.WithHeartbeat(500*time.Millisecond),
		notification.WithKeyPrefix("*[?]\\ \"é\x00\n{a:"))
	subscribe(t, n, "k")
	require.NoError(t, n.Publish(t.Context(), "k", struct{}{}))
	require.NoError(t, n.Publish(t.Context(), "k", struct{}{})) // so that there is something to count
	beats := calls(t, client, "publish")
	require.Eventually(t, func() bool { return calls(t, client, "publish") > beats+5 }, patience, time.Millisecond)
	require.NoError(t, n.HealthCheck(t.Context()))
	assert.Zero(t, n.GetMetrics().Reconnects)
}
