package journal

import (
	"strings"
	"time"
)

// A payload is `{"event_id":"<ID>",` and the value of the event: `"time":"<time>"`, up to three more fields of ours, and
// the rest of the event's own JSON, which is "}" or ",<fields>}". The publish scripts make the same bytes.
const (
	openEventID     = `{"event_id":"`
	openTime        = `"time":"`
	openJournal     = `,"journal":"`
	openTraceParent = `,"traceparent":"`
	openRedelivered = `,"redelivered":`
	redelivered     = openRedelivered + "true"
	notRedelivered  = openRedelivered + "false"
)

// Envelope is what the system itself wrote at the start of a payload.
type Envelope struct {
	ID  string   // event ID
	Pos Position // the same as a position in our journal; zero for events that are in none
	// Stamp is the time as it was written, to the nanosecond. Should two lives of the journal have given the same ID to two
	// events, they still differ in it.
	Stamp       string
	Time        time.Time // when it was published, by its publisher's clock
	TraceParent string    // W3C trace context of the publisher, empty without
	Redelivered bool      // it may have been published before
	Foreign     bool      // it names another journal than ours, so that its ID means nothing here
}

// Same reports whether two envelopes are of one event. A missing stamp is not compared: an event ID that a user kept has none.
func (e *Envelope) Same(other *Envelope) bool {
	return e.Pos == other.Pos && (e.Stamp == other.Stamp || e.Stamp == "" || other.Stamp == "")
}

// AppendHead appends the fields of ours that come in front of the event's own JSON object; Join puts both together. The object
// is as encoding/json writes it, without blanks outside of strings. A journal is named only if its tag is not empty, so that
// events of two systems with different key prefixes are not taken for each other's. An object that begins with a field of the
// same name gets ours all the same, if need be one that says nothing: the first one is read.
func AppendHead(b []byte, now time.Time, tag, traceParent string, object []byte) []byte {
	b = append(b, openTime...)
	b = now.UTC().AppendFormat(b, time.RFC3339Nano)
	b = append(b, '"')
	if tag != "" || begins(object, openJournal) {
		b = append(b, openJournal...)
		b = append(b, tag...)
		b = append(b, '"')
	}
	if traceParent != "" || begins(object, openTraceParent) {
		b = append(b, openTraceParent...)
		b = append(b, traceParent...)
		b = append(b, '"')
	}
	if begins(object, openRedelivered) {
		b = append(b, notRedelivered...)
	}
	return b
}

// begins reports whether a JSON object looks like a field of ours behind others, once it is joined to them.
func begins(object []byte, field string) bool {
	return len(object) >= len(field) && string(object[1:len(field)]) == field[1:]
}

// Join returns what AppendHead wrote, and what may be in front of it, together with the event's own JSON object.
func Join(head, object []byte) string {
	var text strings.Builder
	text.Grow(len(head) + len(object))
	text.Write(head)
	if len(object) > len("{}") {
		text.WriteByte(',')
	}
	text.Write(object[1:])
	return text.String()
}

// Redeliver returns a value, as Join made it of a head and an object alone, with the mark that the event may have been
// published before.
func Redeliver(value string) string {
	var e Envelope
	_, rest, ok := e.openValue(value)
	if !ok || e.Redelivered {
		return value
	}
	head := strings.TrimSuffix(value[:len(value)-len(rest)], notRedelivered)
	return head + redelivered + rest
}

// Seal returns the payload of an event.
func Seal(id, value string) string { return openEventID + id + `",` + value }

// Open reads the start of a payload. It gives false for anything that no notification system wrote; then the message is
// delivered as it is. The tag is that of our own journal: events of another have an ID but no position. The envelope does not
// keep the payload in memory.
func Open(payload, tag string) (e Envelope, ok bool) {
	rest, ok := strings.CutPrefix(payload, openEventID)
	if !ok {
		return Envelope{}, false
	}
	if e.ID, rest, ok = strings.Cut(rest, `",`); !ok || e.ID == "" {
		return Envelope{}, false
	}
	pos, isPosition := ParsePosition(e.ID)
	if !isPosition && strings.ContainsAny(e.ID, `"\`) {
		return Envelope{}, false
	}
	name, rest, ok := e.openValue(rest)
	if !ok {
		return Envelope{}, false
	}
	e.detach(payload[:len(payload)-len(rest)])
	if e.Foreign = name != tag; !e.Foreign {
		e.Pos = pos
	}
	return e, true
}

// openValue reads the fields of ours at the start of a value, and returns the tag of the journal and what follows.
func (e *Envelope) openValue(value string) (tag, rest string, ok bool) {
	stamp, rest, ok := cutField(value, openTime)
	if !ok {
		return "", "", false
	}
	at, err := time.Parse(time.RFC3339Nano, stamp)
	if err != nil {
		return "", "", false
	}
	e.Stamp, e.Time = stamp, at
	tag, rest, _ = cutField(rest, openJournal)
	e.TraceParent, rest, _ = cutField(rest, openTraceParent)
	if after, ours := strings.CutPrefix(rest, redelivered); ours {
		e.Redelivered, rest = true, after
	} else {
		rest = strings.TrimPrefix(rest, notRedelivered)
	}
	return tag, rest, rest != "" && (rest[0] == ',' || rest[0] == '}')
}

// detach replaces the strings of the envelope that are parts of head by parts of a copy. Envelopes and event IDs are kept
// for long, and would keep all of the payload that head is the start of.
func (e *Envelope) detach(head string) {
	head = strings.Clone(head)
	for _, part := range [...]*string{&e.ID, &e.Stamp, &e.TraceParent} {
		if at := strings.Index(head, *part); at >= 0 {
			*part = head[at : at+len(*part)]
		}
	}
}

// cutField removes `<open><value>"` from the start of s. Values of ours contain no escapes.
func cutField(s, open string) (value, rest string, ok bool) {
	rest, ok = strings.CutPrefix(s, open)
	if !ok {
		return "", s, false
	}
	value, rest, ok = strings.Cut(rest, `"`)
	if !ok {
		return "", s, false
	}
	return value, rest, true
}
