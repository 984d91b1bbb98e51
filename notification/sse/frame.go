package sse

import (
	"encoding/json"
	"strings"

	"github.com/compozy/cache/notification"
)

// Values of the event field.
const (
	messageEvent = "message"
	gapEvent     = "gap"
	closeEvent   = "close"
)

// heartbeatFrame is a comment, which every reader ignores.
const heartbeatFrame = ": heartbeat\n\n"

// idFrame gives a client an ID to come back with. Without data it is no event.
func idFrame(id string) []byte { return []byte("id: " + id + "\n\n") }

// messageFrame is a message with the name of its event.
func messageFrame(m *notification.Message, name string) []byte {
	frame := make([]byte, 0, len(m.Payload)+len(m.EventID)+64)
	// An ID that would break the frame, or that readers ignore, is left out: the client comes back with the one before, and
	// gets this message twice rather than not at all.
	if m.EventID != "" && oneLine(m.EventID) {
		frame = append(frame, "id: "...)
		frame = append(frame, m.EventID...)
		frame = append(frame, '\n')
	}
	return appendEvent(frame, eventName(name), m.Payload)
}

// gapFrame is a gap. It has no ID: a client that is cut off behind it resumes before it.
func gapFrame(g notification.Gap) []byte {
	return jsonFrame(gapEvent, struct {
		Reason notification.GapReason `json:"reason"`
		After  string                 `json:"after,omitempty"`
		Before string                 `json:"before,omitempty"`
		Missed uint64                 `json:"missed,omitempty"`
	}{g.Reason, g.After, g.Before, g.Missed})
}

// closeFrame is the last event of a stream.
func closeFrame(reason string) []byte {
	return jsonFrame(closeEvent, struct {
		Reason string `json:"reason"`
	}{reason})
}

func jsonFrame(name string, v any) []byte {
	data, err := json.Marshal(v)
	if err != nil { // strings and numbers always marshal
		data = []byte("{}")
	}
	return appendEvent(nil, name, string(data))
}

// appendEvent appends the event and data fields and the blank line that ends an event. The data has one field per line, as a
// line break ends a field. Readers join them with LF.
func appendEvent(frame []byte, name, data string) []byte {
	frame = append(frame, "event: "...)
	frame = append(frame, name...)
	frame = append(frame, '\n')
	for {
		line, rest, more := cutLine(data)
		frame = append(frame, "data: "...)
		frame = append(frame, line...)
		frame = append(frame, '\n')
		if !more {
			return append(frame, '\n')
		}
		data = rest
	}
}

// cutLine cuts s at its first line break, which is CR LF, LF or CR to readers.
func cutLine(s string) (line, rest string, more bool) {
	at := strings.IndexAny(s, "\r\n")
	if at < 0 {
		return s, "", false
	}
	line, rest = s[:at], s[at+1:]
	if s[at] == '\r' {
		rest = strings.TrimPrefix(rest, "\n")
	}
	return line, rest, true
}

// oneLine reports whether a value can stand in a field as it is.
func oneLine(s string) bool { return !strings.ContainsAny(s, "\r\n\x00") }

// eventName returns the name, or "message" for one that cannot stand there or would be mistaken for something else.
func eventName(name string) string {
	switch name {
	case "", gapEvent, closeEvent, "open", "error":
		return messageEvent
	}
	if !oneLine(name) {
		return messageEvent
	}
	return name
}
