package notification

import (
	"encoding/json"
	"strings"
)

// Decode reads the payload of a message as JSON into a T, such as a WorkflowEvent. Where T leaves the type open, as
// WorkflowEvent.Data does, a number becomes a json.Number, which has all its digits: an int64 would lose its last ones as
// the float64 of json.Unmarshal. A payload that does not fit gives the zero T and a *DecodeError naming the channel; a nil
// message gives an *ArgumentError. Safe for concurrent use.
func Decode[T any](m *Message) (T, error) {
	var v T
	if m == nil {
		return v, &ArgumentError{Argument: "m", Reason: "is nil"}
	}
	if err := unmarshal(m.Payload, &v); err != nil {
		var zero T
		return zero, &DecodeError{Channel: m.Channel, EventID: m.EventID, Err: err}
	}
	return v, nil
}

// unmarshal is json.Unmarshal with exact numbers.
func unmarshal(payload string, v any) error {
	decoder := json.NewDecoder(strings.NewReader(payload))
	decoder.UseNumber()
	err := decoder.Decode(v)
	if err == nil && strings.Trim(payload[decoder.InputOffset():], " \t\r\n") == "" {
		return nil
	}
	// A decoder accepts what follows a value, and says of an incomplete one only that it ends. This says what is wrong.
	if wrong := json.Unmarshal([]byte(payload), new(json.RawMessage)); wrong != nil {
		return wrong
	}
	return err
}
