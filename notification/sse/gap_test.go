package sse_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/fxtest"
	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/notification"
	"github.com/compozy/cache/notification/sse"
)

// The journal was deleted while the page was away, and another process takes the page over.
func TestGapOnResuming(t *testing.T) {
	t.Parallel()
	client := redistest.Start(t).Client(t)
	n := newSystem(t, client)
	url := serve(t, sse.Handler(n, to("k"))).URL
	p := open(t, url, "").started(t)
	publish(t, n, "k", 1)
	last := p.expect(t, "message").id
	p.leave()
	require.NoError(t, client.FlushAll(t.Context()).Err())
	publish(t, n, "other", 2)

	n = newSystem(t, client)
	p = open(t, serve(t, sse.Handler(n, to("k"))).URL, last)
	gap := p.expect(t, "gap")
	assert.Empty(t, gap.id, "a page that is cut off here has to come back before the gap")
	assert.JSONEq(t, `{"reason":"trimmed","after":"`+last+`"}`, gap.data)
	publish(t, n, "k", 3)
	assert.Equal(t, 3, number(t, p.expect(t, "message")), "the gap comes once")
}

// A gap that nothing follows is sent at once, and not again with the event that comes at last.
func TestGapIsSentBeforeTheNextEvent(t *testing.T) {
	t.Parallel()
	client := redistest.Start(t).Client(t)
	n := newSystem(t, client)
	p := open(t, serve(t, sse.Handler(n, to("k"))).URL, "").started(t)
	for i := range 3 {
		require.NoError(t, client.Publish(t.Context(), "k", "foreign").Err())
		assert.Equal(t, event{name: "message", data: "foreign"}, p.expect(t, "message"))
		require.NoError(t, client.Do(t.Context(), "client", "kill", "type", "pubsub").Err())
		assert.Contains(t, p.expect(t, "gap").data, `"reason":"foreign"`)
		publish(t, n, "k", i)
		assert.Equal(t, i, number(t, p.expect(t, "message")))
	}
}

// Of the gaps that a stream meets in a backlog, each stands where it belongs.
func TestGapInItsPlace(t *testing.T) {
	t.Parallel()
	n := fxtest.NewNotificationSystem()
	release := make(chan struct{})
	entered := make(chan struct{}, 10)
	p := open(t, serve(t, sse.Handler(n, to("k"), sse.WithEventName(func(*notification.Message) string {
		entered <- struct{}{}
		<-release
		return ""
	}))).URL, "").started(t)
	send := func(i int) { require.NoError(t, n.Publish(t.Context(), "k", numbered{i})) }
	send(1)
	<-entered // from here on there is a backlog
	send(2)
	n.Miss(notification.GapFailover)
	send(3)
	n.Miss(notification.GapTrimmed)
	send(4)
	n.Miss(notification.GapWiped)
	close(release)

	var got []any
	for range 7 {
		e, ok := p.next(t)
		require.True(t, ok)
		if e.name == "message" {
			got = append(got, number(t, e))
			continue
		}
		var gap struct{ Reason string }
		require.NoError(t, json.Unmarshal([]byte(e.data), &gap))
		got = append(got, gap.Reason)
	}
	assert.Equal(t, []any{1, 2, "failover", 3, "trimmed", 4, "wiped"}, got)
	n.Miss(notification.GapLate)
	require.NoError(t, n.Close())
	assert.JSONEq(t, `{"reason":"late","after":"`+n.Published()[3].ID+`"}`, p.expect(t, "gap").data, "a gap just before the end")
	p.expect(t, "close")
	p.ended(t)
}

// What a policy drops is counted in the gap, though it is noticed with the first message that is missing.
func TestGapOfASlowSubscriber(t *testing.T) {
	t.Parallel()
	n := newSystem(t, redistest.Start(t).Client(t), notification.WithBufferSize(1), notification.WithPolicy(notification.PolicyDropNewest))
	release, entered := make(chan struct{}), make(chan struct{}, 10)
	p := open(t, serve(t, sse.Handler(n, to("k"), sse.WithEventName(func(*notification.Message) string {
		entered <- struct{}{}
		<-release
		return ""
	}))).URL, "").started(t)
	publish(t, n, "k", 1)
	<-entered
	publish(t, n, "k", 2, 3, 4, 5) // 2 fits
	require.Eventually(t, func() bool { return n.GetMetrics().DroppedMessages == 3 }, patience, tick)
	close(release)
	assert.Equal(t, 1, number(t, p.expect(t, "message")))
	assert.Equal(t, 2, number(t, p.expect(t, "message")))
	<-entered
	assert.Contains(t, p.expect(t, "gap").data, `"missed":1}`, "as soon as nothing waits")
	publish(t, n, "k", 6)
	assert.Contains(t, p.expect(t, "gap").data, `"missed":3}`, "once it is known")
	assert.Equal(t, 6, number(t, p.expect(t, "message")))
	publish(t, n, "k", 7)
	assert.Equal(t, 7, number(t, p.expect(t, "message")), "and not again")
}
