package notification

import "encoding/json"

// Decode reads the payload of a message as JSON into a T, such as a WorkflowEvent. A payload that does not fit
// gives the zero T and a *DecodeError naming the channel; a nil message gives an *ArgumentError. Safe for
// concurrent use.
func Decode[T any](m *Message) (T, error) {
	var v T
	if m == nil {
		return v, &ArgumentError{Argument: "m", Reason: "is nil"}
	}
	if err := json.Unmarshal([]byte(m.Payload), &v); err != nil {
		var zero T
		return zero, &DecodeError{Channel: m.Channel, EventID: m.EventID, Err: err}
	}
	return v, nil
}
