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
	Redelivered bool      // it may have been delivered before

	// Gap is set when events may be missing between the message before and this one. With PolicyDropOldest they are missing
	// further ahead: before the messages that were in the buffer when this one arrived.
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
	if errA != nil || errB != nil {
		return position{}, false
	}
	return position{a, b}, true
}

// A payload is `{"event_id":"<ID>",` and the value of the event: `"time":"<time>"`, up to two more fields of ours,
// and the rest of the event's own JSON, which is "}" or ",<fields>}". The publish script makes the same bytes.
const (
	openEventID     = `{"event_id":"`
	openTime        = `"time":"`
	openJournal     = `,"journal":"`
	openTraceParent = `,"traceparent":"`
)

// envelope is what the system itself wrote at the start of a payload.
type envelope struct {
	id  string   // event ID
	pos position // the same as a place in our journal; zero for events that are in none
	// stamp is the time as it was written, to the nanosecond. Should two histories of the journal have given the
	// same ID to two events, they still differ in it.
	stamp       string
	time        time.Time
	traceParent string
}

// seal builds the payload of an event.
func seal(id, value string) string { return openEventID + id + `",` + value }

// appendFields writes the fields of ours that come in front of the event's own JSON object. The journal is named only
// if it is not the default one, so that events of two systems with different key prefixes are not taken for each
// other's. An object that begins with a field of the same name gets ours all the same, if need be empty: the first one
// is read.
func appendFields(b []byte, now time.Time, journal, traceParent string, object []byte) []byte {
	b = append(b, openTime...)
	b = now.UTC().AppendFormat(b, time.RFC3339Nano)
	b = append(b, '"')
	if journal != "" || begins(object, openJournal) {
		b = append(b, openJournal...)
		b = append(b, journal...)
		b = append(b, '"')
	}
	if traceParent != "" || begins(object, openTraceParent) {
		b = append(b, openTraceParent...)
		b = append(b, traceParent...)
		b = append(b, '"')
	}
	return b
}

// begins reports whether a JSON object looks like a field of ours behind others, once it is joined to them.
func begins(object []byte, field string) bool {
	return len(object) >= len(field) && string(object[1:len(field)]) == field[1:]
}

// join puts what appendFields wrote, and what may be in front of it, together with the event's own JSON object.
func join(head, object []byte) string {
	var text strings.Builder
	text.Grow(len(head) + len(object))
	text.Write(head)
	if len(object) > len("{}") {
		text.WriteByte(',')
	}
	text.Write(object[1:])
	return text.String()
}

// openEnvelope reads the start of a payload. It gives false for anything that no NotificationSystem wrote; then
// the message is delivered as it is. The journal given is our own: events of another have an ID but no position.
func openEnvelope(payload, journal string) (envelope, bool) {
	rest, ok := strings.CutPrefix(payload, openEventID)
	if !ok {
		return envelope{}, false
	}
	var e envelope
	if e.id, rest, ok = strings.Cut(rest, `",`); !ok || e.id == "" {
		return envelope{}, false
	}
	pos, ok := parsePosition(e.id)
	if !ok && strings.ContainsAny(e.id, `"\`) {
		return envelope{}, false
	}
	name, rest, ok := e.openValue(rest)
	if !ok {
		return envelope{}, false
	}
	e.detach(payload[:len(payload)-len(rest)])
	if name == journal {
		// An ID has a meaning only in its own journal, though any can be parsed.
		e.pos = pos
	}
	return e, true
}

// valueOf returns the value in a payload that the envelope was read from.
func (e *envelope) valueOf(payload string) string {
	return payload[len(openEventID)+len(e.id)+len(`",`):]
}

// openValue reads the fields of ours at the start of a value, and returns the name of the journal and what follows.
func (e *envelope) openValue(value string) (journal, rest string, ok bool) {
	stamp, rest, ok := cutField(value, openTime)
	if !ok {
		return "", "", false
	}
	at, err := time.Parse(time.RFC3339Nano, stamp)
	if err != nil {
		return "", "", false
	}
	e.stamp, e.time = stamp, at
	journal, rest, _ = cutField(rest, openJournal)
	e.traceParent, rest, _ = cutField(rest, openTraceParent)
	return journal, rest, rest != "" && (rest[0] == ',' || rest[0] == '}')
}

// detach replaces the strings of the envelope that are parts of head by parts of a copy. Envelopes and event IDs are kept
// for long, and would keep all of the payload that head is the start of.
func (e *envelope) detach(head string) {
	head = strings.Clone(head)
	for _, part := range [...]*string{&e.id, &e.stamp, &e.traceParent} {
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

// appendKey writes what identifies an event in the journal besides its place: the publisher's own ID for it, which a
// repetition looks for, and its channels, with their lengths, as a name may contain any byte.
func appendKey(b []byte, publisher string, number uint64, channels []string) []byte {
	b = append(b, publisher...)
	b = append(b, '.')
	b = strconv.AppendUint(b, number, 10)
	for _, channel := range channels {
		b = append(b, '\n')
		b = strconv.AppendInt(b, int64(len(channel)), 10)
		b = append(b, ':')
		b = append(b, channel...)
	}
	return b
}

// ownID returns the publisher's own ID in a key.
func ownID(key string) string {
	id, _, _ := strings.Cut(key, "\n")
	return id
}

// openKey returns the channels in a key, none if it is malformed.
func openKey(key string) []string {
	_, rest, _ := strings.Cut(key, "\n")
	var channels []string
	for rest != "" {
		digits, after, ok := strings.Cut(rest, ":")
		length, err := strconv.Atoi(digits)
		if !ok || err != nil || length < 0 || length > len(after) {
			return nil
		}
		channels = append(channels, after[:length])
		rest = strings.TrimPrefix(after[length:], "\n")
	}
	return channels
}
