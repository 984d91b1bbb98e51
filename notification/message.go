package notification

import (
	"time"

	"github.com/compozy/cache/notification/internal/feed"
	"github.com/compozy/cache/notification/internal/journal"
)

// Message is one event as a subscription receives it. Messages are shared between subscriptions: treat them as
// read-only.
type Message struct {
	Channel string // channel it was published to, without the channel prefix; of several copies, the first that matched
	Pattern string // the glob it matched, empty for an exact channel
	Payload string // JSON of the event, with "event_id" and "time" in it; anything for foreign messages

	EventID     string    // its place in the journal, empty for what has none: see Redelivered, and what other programs publish
	Time        time.Time // when it was published by the publisher's clock, zero for foreign messages
	TraceParent string    // W3C trace context of the publisher, empty without tracing
	Recovered   bool      // read from the journal instead of received live
	// Redelivered says that the publisher had to repeat the event because it did not learn what became of it. After a failover
	// it may have arrived before, with another EventID. So may one without an EventID: the former master of a cluster, which had
	// been frozen, has published it late.
	Redelivered bool

	// Gap is set when events may be missing between the message before and this one; if it has no Before but the message an EventID,
	// also further behind, up to where the gap comes once more. With PolicyDropOldest they are missing further ahead: before the messages that were in the buffer when this one arrived.
	Gap *Gap
}

// newMessage makes the message that all subscriptions of one name share. The envelope is nil for what others publish.
func newMessage(n feed.Name, channel, payload string, e *journal.Envelope) *Message {
	m := &Message{Channel: channel, Payload: payload}
	if n.Glob {
		m.Pattern = n.Text
	}
	if e != nil {
		m.EventID, m.Time, m.TraceParent, m.Redelivered = e.ID, e.Time, e.TraceParent, e.Redelivered
	}
	return m
}
