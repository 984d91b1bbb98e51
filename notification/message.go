package notification

import (
	"strconv"
	"strings"
	"time"
)

// Message is one event as a subscription receives it. Messages are shared between subscriptions: treat them as
// read-only.
type Message struct {
	Channel string // channel it was published to; of several copies, the first that matched
	Pattern string // the glob it matched, empty for an exact channel
	Payload string // JSON of the event, with "event_id" and "time" in it; anything for foreign messages

	EventID     string    // its place in the journal, empty for what other programs published
	Time        time.Time // when it was published by the publisher's clock, zero for foreign messages
	TraceParent string    // W3C trace context of the publisher, empty without tracing
	Recovered   bool      // read from the journal instead of received live

	// Gap is set when events may be missing between the message before and this one.
	Gap *Gap
}

// position is a place in the journal. Redis makes IDs of its clock in milliseconds and a counter.
type position struct{ ms, seq uint64 }

func (p position) less(q position) bool {
	return p.ms < q.ms || p.ms == q.ms && p.seq < q.seq
}

func (p position) isZero() bool { return p == position{} }

func (p position) String() string {
	return strconv.FormatUint(p.ms, 10) + "-" + strconv.FormatUint(p.seq, 10)
}

// parsePosition reads an event ID. IDs that are no place in a journal give false.
func parsePosition(id string) (position, bool) {
	ms, seq, found := strings.Cut(id, "-")
	if !found || ms == "" || seq == "" || len(ms) > 20 || len(seq) > 20 {
		return position{}, false
	}
	a, errA := strconv.ParseUint(ms, 10, 64)
	b, errB := strconv.ParseUint(seq, 10, 64)
	return position{a, b}, errA == nil && errB == nil
}

// A payload is `{"event_id":"<ID>",` + head + body, where head is `"time":"<time>"` with up to two more fields of
// ours, and body is the rest of the event's own JSON: "}" or ",<fields>}". The publish script makes the same bytes.
const (
	openEventID     = `{"event_id":"`
	openTime        = `"time":"`
	openJournal     = `,"journal":"`
	openTraceParent = `,"traceparent":"`
)

// envelope is what the system itself wrote at the start of a payload.
type envelope struct {
	id          string   // event ID
	pos         position // the same as a place in our journal; zero for events that are in none
	head        string   // everything between the event ID and the event's own fields
	time        time.Time
	traceParent string
}

// seal builds the payload of an event.
func seal(id, head, body string) string {
	var b strings.Builder
	b.Grow(len(openEventID) + len(id) + 2 + len(head) + len(body))
	b.WriteString(openEventID)
	b.WriteString(id)
	b.WriteString(`",`)
	b.WriteString(head)
	b.WriteString(body)
	return b.String()
}

// makeHead writes the fields of ours that follow the event ID. The journal is named only if it is not the default
// one, so that events of two systems with different key prefixes are not taken for each other's.
func makeHead(now time.Time, journal, traceParent string) string {
	b := make([]byte, 0, 128)
	b = append(b, openTime...)
	b = now.UTC().AppendFormat(b, time.RFC3339Nano)
	b = append(b, '"')
	if journal != "" {
		b = append(b, openJournal...)
		b = append(b, journal...)
		b = append(b, '"')
	}
	if traceParent != "" {
		b = append(b, openTraceParent...)
		b = append(b, traceParent...)
		b = append(b, '"')
	}
	return string(b)
}

// openEnvelope reads the start of a payload. It gives false for anything that no NotificationSystem wrote; then
// the message is delivered as it is. The journal given is our own: events of another have an ID but no position.
func openEnvelope(payload, journal string) (envelope, bool) {
	rest, ok := strings.CutPrefix(payload, openEventID)
	if !ok {
		return envelope{}, false
	}
	var e envelope
	if e.id, rest, ok = strings.Cut(rest, `",`); !ok || e.id == "" || strings.ContainsAny(e.id, `"\`) {
		return envelope{}, false
	}
	start := rest
	if !parseHead(&rest, &e, journal) {
		return envelope{}, false
	}
	e.head = start[:len(start)-len(rest)]
	return e, rest != "" && (rest[0] == ',' || rest[0] == '}')
}

// parseHead consumes the head at the start of rest.
func parseHead(rest *string, e *envelope, journal string) bool {
	stamp, ok := cutField(rest, openTime)
	if !ok {
		return false
	}
	var err error
	if e.time, err = time.Parse(time.RFC3339Nano, stamp); err != nil {
		return false
	}
	name, _ := cutField(rest, openJournal)
	if name == journal {
		// The check is done even for an ID we could parse: it has a meaning only in its own journal.
		e.pos, _ = parsePosition(e.id)
	}
	e.traceParent, _ = cutField(rest, openTraceParent)
	return true
}

// cutField removes `<open><value>"` from the start of s and returns the value. Values of ours contain no escapes.
func cutField(s *string, open string) (string, bool) {
	rest, ok := strings.CutPrefix(*s, open)
	if !ok {
		return "", false
	}
	value, rest, ok := strings.Cut(rest, `"`)
	if !ok {
		return "", false
	}
	*s = rest
	return value, true
}
