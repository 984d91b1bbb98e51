package sse_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/fxtest"
	"github.com/compozy/cache/internal/faultproxy"
	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/notification"
	"github.com/compozy/cache/notification/sse"
)

// A page comes back after each of many cuts, of its own connection and of the one to Redis, while events are published.
func TestResumeWithoutLossOrDuplicates(t *testing.T) {
	t.Parallel()
	client := redistest.Start(t).Client(t)
	n := newSystem(t, client, notification.WithBufferSize(4)) // so small that the stream also falls behind
	proxy := faultproxy.New(t, serve(t, sse.Handler(n, to("k"))).Listener.Addr().String())
	url := "http://" + proxy.Addr()

	const total, cuts = 400, 8
	p := open(t, url, "").started(t)
	publish(t, n, "k", 1)
	e := p.expect(t, "message")
	require.Equal(t, 1, number(t, e))
	published := make(chan struct{})
	go func() {
		defer close(published)
		for i := 2; i <= total; i++ {
			if !assert.NoError(t, n.Publish(t.Context(), "k", numbered{i})) {
				return
			}
		}
	}()
	defer func() { <-published }()
	for at := 2; at <= total; at++ {
		if at%(total/cuts) == 0 {
			if at%100 == 0 {
				require.NoError(t, client.Do(t.Context(), "client", "kill", "type", "pubsub").Err())
			}
			proxy.Cut()
			p.leave() // with what it had received but not handled
			p = open(t, url, e.id)
		}
		e = p.expect(t, "message")
		require.NotEmpty(t, e.id)
		require.Equal(t, at, number(t, e))
	}
	p.leave()
}

// The header is what the client had last. The query is where the page began, and stays in the address.
func TestWhereToResume(t *testing.T) {
	t.Parallel()
	n := newSystem(t, redistest.Start(t).Client(t))
	url := serve(t, sse.Handler(n, to("k"))).URL
	p := open(t, url, "").started(t)
	publish(t, n, "k", 1, 2, 3)
	first, second := p.expect(t, "message"), p.expect(t, "message")
	assert.Equal(t, 2, number(t, open(t, url+"?lastEventId="+first.id, "").expect(t, "message")))
	assert.Equal(t, 3, number(t, open(t, url+"?lastEventId="+first.id, second.id).expect(t, "message")))
	open(t, url+"?lastEventId=", "").started(t)
}

// Where a stream cannot go on, its first event says so, and what is published next arrives.
func TestResumingIsImpossible(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		last, reason string
		history      int
	}{
		"cut before the first event":    {last: "start", reason: "reconnected", history: 100},
		"no event ID":                   {last: `x"y`, reason: "trimmed", history: 100},
		"ahead of the journal":          {last: "99999999999999-0", reason: "trimmed", history: 100},
		"no history":                    {last: "1-1", reason: "reconnected"},
		"no history, and no event then": {last: "start", reason: "reconnected"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newSystem(t, redistest.Start(t).Client(t), notification.WithHistory(test.history, time.Hour))
			p := open(t, serve(t, sse.Handler(n, to("k"))).URL, test.last)
			assert.Contains(t, p.expect(t, "gap").data, `"reason":"`+test.reason+`"`)
			publish(t, n, "k", 1)
			assert.Equal(t, 1, number(t, p.expect(t, "message")))
		})
	}
}

func TestResumingWithASystemThatCannot(t *testing.T) {
	t.Parallel()
	n := fxtest.NewNotificationSystem()
	p := open(t, serve(t, sse.Handler(n, to("k"))).URL, "1-1")
	assert.JSONEq(t, `{"reason":"reconnected"}`, p.expect(t, "gap").data)
	require.NoError(t, n.Publish(t.Context(), "k", numbered{1}))
	assert.Equal(t, 1, number(t, p.expect(t, "message")))
	p.leave()
}
