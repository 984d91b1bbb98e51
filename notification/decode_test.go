package notification_test

import (
	"encoding/json"
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/notification"
)

func TestDecodeKeepsEveryDigit(t *testing.T) {
	t.Parallel()
	client := redistest.Start(t).Client(t)
	n := newSystem(t, client)
	s := subscribe(t, n, notification.WorkflowEvents)
	// What a consumer passes on is as exact as what it got.
	data := any(map[string]any{"id": math.MaxInt64, "list": []any{uint64(math.MaxUint64), 0.5}})
	for range 2 {
		require.NoError(t, n.PublishWorkflowEvent(t.Context(), &notification.WorkflowEvent{ID: "w", Data: data}))
		m := next(t, s)
		event, err := notification.Decode[notification.WorkflowEvent](m)
		require.NoError(t, err)
		assert.Equal(t, map[string]any{
			"id": json.Number("9223372036854775807"), "list": []any{json.Number("18446744073709551615"), json.Number("0.5")},
		}, event.Data)
		open, err := notification.Decode[any](m)
		require.NoError(t, err)
		assert.Equal(t, event.Data, open.(map[string]any)["data"])
		data = event.Data
	}
	typed, err := notification.Decode[struct {
		Data struct {
			ID   int64
			List []float64
		}
	}](&notification.Message{Payload: `{"data":{"id":9223372036854775807,"list":[0.5]}}`})
	require.NoError(t, err)
	assert.EqualValues(t, math.MaxInt64, typed.Data.ID)
	assert.Equal(t, []float64{0.5}, typed.Data.List)
}

// Decode refuses what json.Unmarshal refuses, with the same error.
func TestDecodeRefusesWhatUnmarshalRefuses(t *testing.T) {
	t.Parallel()
	for _, payload := range []string{
		"", " ", "{", `{"id":`, "text", "{}x", "{} {}", "{}}", "{}]", "null x", `{"id":1}`, "[]", `"x"`, "nul", "{}\x00", "1e999",
	} {
		var event notification.WorkflowEvent
		want := json.Unmarshal([]byte(payload), &event)
		require.Error(t, want, payload)
		got, err := notification.Decode[notification.WorkflowEvent](&notification.Message{Channel: "c", Payload: payload})
		var wrong *notification.DecodeError
		require.ErrorAs(t, err, &wrong, payload)
		assert.Equal(t, want.Error(), wrong.Err.Error(), payload)
		assert.Zero(t, got)
	}
	for _, payload := range []string{"{}", " {}\r\n\t ", "null", "null\n"} {
		_, err := notification.Decode[notification.WorkflowEvent](&notification.Message{Payload: payload})
		require.NoError(t, err, payload)
	}
}
