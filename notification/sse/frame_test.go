package sse_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/notification"
	"github.com/compozy/cache/notification/sse"
)

// What programs publish with plain PUBLISH may be anything, also what looks like fields of the format.
func TestPayloads(t *testing.T) {
	t.Parallel()
	client := redistest.Start(t).Client(t)
	n := newSystem(t, client)
	p := open(t, serve(t, sse.Handler(n, to("k"))).URL, "").started(t)
	for payload, data := range map[string]string{
		"":                           "",
		"one":                        "one",
		" padded ":                   " padded ",
		"a\nb":                       "a\nb",
		"a\r\nb\rc\n":                "a\nb\nc\n",
		"\n\n":                       "\n\n",
		"\r\r\n":                     "\n\n",
		"x\n\nevent: gap\ndata: {}":  "x\n\nevent: gap\ndata: {}",
		"x\rid: 1-1\r\revent: close": "x\nid: 1-1\n\nevent: close",
		": no comment":               ": no comment",
		"\x00\x01ü":                  "\x00\x01ü",
	} {
		require.NoError(t, client.Publish(t.Context(), "k", payload).Err())
		assert.Equal(t, event{name: "message", data: data}, p.expect(t, "message"), "%q", payload)
	}
}

// scripted is a system that delivers what a test wants.
type scripted struct{ messages chan *notification.Message }

func (s scripted) Subscribe(context.Context, string) notification.Subscriber { return s }
func (s scripted) Messages() <-chan *notification.Message                    { return s.messages }
func (s scripted) Close() error                                              { return nil }

func TestIDsAndNamesCannotBreakFrames(t *testing.T) {
	t.Parallel()
	s := scripted{make(chan *notification.Message, 10)}
	names := make(chan string, 10)
	p := open(t, serve(t, sse.Handler(s, to("k"), sse.WithEventName(func(m *notification.Message) string { return <-names }))).URL, "").started(t)
	for id, want := range map[string]string{"1-1": "1-1", "": "", "1\n\ndata: x": "", "1\r\rdata: x": "", "1\x00": "", "ü:": "ü:"} {
		names <- "n"
		s.messages <- &notification.Message{EventID: id, Payload: "p"}
		assert.Equal(t, event{id: want, name: "n", data: "p"}, p.expect(t, "n"), "%q", id)
	}
	for name, want := range map[string]string{
		"workflow:1": "workflow:1", "": "message", "gap": "message", "close": "message", "open": "message", "error": "message",
		"a\nid: 7": "message", "a\rid: 7": "message", "a\x00": "message",
	} {
		names <- name
		s.messages <- &notification.Message{Payload: "p"}
		assert.Equal(t, event{name: want, data: "p"}, p.expect(t, want), "%q", name)
	}
	s.messages <- &notification.Message{Payload: "p", Gap: &notification.Gap{Reason: "a\n\ndata: x"}}
	assert.JSONEq(t, `{"reason":"a\n\ndata: x"}`, p.expect(t, "gap").data)
	names <- "n"
	p.expect(t, "n")
	close(s.messages)
	assert.JSONEq(t, `{"reason":"closed"}`, p.expect(t, "close").data)
	p.ended(t)
}
