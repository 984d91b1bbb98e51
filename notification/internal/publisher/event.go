package publisher

import (
	"context"
	"fmt"
	"slices"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/compozy/cache/internal/arguments"
	"github.com/compozy/cache/notification/internal/journal"
)

// Event is one event on its way to Redis. The zero value has no channels yet; To sets them, and Encode the rest.
type Event struct {
	Index int // its position in the batch of its caller

	name       string    // its first channel, as its caller calls it
	room       [3]string // for the channels, as no event of ours has more
	count      int       // how many it has
	key, value string    // what the journal keeps
	at         time.Time // when it was encoded
	err        error     // its outcome, once it was sent
}

// To sets the channels. A name is dropped when it is repeated, which IDs such as "events" produce: a channel must get one
// copy of an event.
func (e *Event) To(names ...string) {
	for _, name := range names {
		if !slices.Contains(e.channels(), name) {
			e.room[e.count] = name
			e.count++
		}
	}
	e.name = e.room[0]
}

// Channel returns the first channel, as its caller calls it.
func (e *Event) Channel() string { return e.name }

// channels returns the channels the event is published to.
func (e *Event) channels() []string { return e.room[:e.count] }

// Encoded returns when the event was encoded.
func (e *Event) Encoded() time.Time { return e.at }

// bytes is what an event adds to the size of a batch.
func (e *Event) bytes() int { return len(e.key) + len(e.value) }

// Encode completes an event, whose channels are set, with v, which must marshal to a JSON object. own says that v is an event
// of this module's own, of which only the data can be wrong; other objects must not have the fields that are added to every
// event. It returns an *arguments.Error for an event that is not to be sent, such as one that is too large.
func (p *Publisher) Encode(ctx context.Context, e *Event, v any, own bool) error {
	for i, channel := range e.channels() {
		e.room[i] = p.set.ChannelPrefix + channel
	}
	if slices.ContainsFunc(e.channels(), p.set.Keys.Reserved) {
		return &arguments.Error{Argument: "channel", Reason: "is one that only this module uses"}
	}
	argument := "v"
	if own {
		argument = "event.Data"
	}
	d, err := p.drafts.of(v, argument)
	if err != nil {
		return err
	}
	defer p.drafts.release(d)
	if !own {
		if name := takenField(d.object); name != "" {
			return &arguments.Error{Argument: "v", Reason: fmt.Sprintf("has a field %q, which is added to every event", name)}
		}
	}
	e.at = time.Now()
	var room [192]byte // on the stack, and enough for names of ordinary length
	head := journal.AppendKey(room[:0], p.own, p.counter.Add(1), e.channels())
	size := len(head)
	head = journal.AppendHead(head, e.at, p.set.Keys.Tag, traceParent(ctx), d.object)
	if total := len(head) + len(d.object); total > p.set.MaxEventSize {
		return &arguments.Error{Argument: argument, Reason: fmt.Sprintf(
			"makes an event of %d bytes, more than the %d that are allowed: see WithMaxEventSize", total, p.set.MaxEventSize)}
	}
	text := journal.Join(head, d.object)
	e.key, e.value = text[:size], text[size:]
	return nil
}

// traceParent returns the W3C trace context of the span in ctx, or "" without tracing.
func traceParent(ctx context.Context) string {
	span := trace.SpanContextFromContext(ctx)
	if !span.IsValid() {
		return ""
	}
	return "00-" + span.TraceID().String() + "-" + span.SpanID().String() + "-" + span.TraceFlags().String()
}
