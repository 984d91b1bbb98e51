package sse_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/compozy/cache/notification"
	"github.com/compozy/cache/notification/sse"
)

// gapped is a scripted system that delivers gaps, too.
type gapped struct {
	scripted

	gaps chan notification.Gap
}

func (s gapped) Subscribe(context.Context, string) notification.Subscriber { return s }
func (s gapped) Gaps() <-chan notification.Gap                             { return s.gaps }

// A gap that is sent as soon as it is noticed does not come again with the event behind it, but where it ends if it is open there.
func TestOpenGapComesAgainWhereItEnds(t *testing.T) {
	t.Parallel()
	s := gapped{scripted{make(chan *notification.Message)}, make(chan notification.Gap)}
	p := open(t, serve(t, sse.Handler(s, to("k"))).URL, "").started(t)
	gap := notification.Gap{Reason: notification.GapFailover, After: "1", Time: time.Now()}
	s.gaps <- gap
	assert.JSONEq(t, `{"reason":"failover","after":"1"}`, p.expect(t, "gap").data)
	s.messages <- &notification.Message{EventID: "2", Payload: "2", Gap: &gap}
	assert.Equal(t, "2", p.expect(t, "message").data)
	ended := gap
	ended.Before = "3"
	s.messages <- &notification.Message{EventID: "3", Payload: "3", Gap: &ended}
	assert.JSONEq(t, `{"reason":"failover","after":"1","before":"3"}`, p.expect(t, "gap").data)
	assert.Equal(t, "3", p.expect(t, "message").data)

	gap.Time = time.Now()
	s.gaps <- gap
	p.expect(t, "gap")
	s.messages <- &notification.Message{EventID: "4", Payload: "4", Gap: &notification.Gap{
		Reason: gap.Reason, After: gap.After, Before: "4", Time: gap.Time,
	}}
	assert.Equal(t, "4", p.expect(t, "message").data)
}
