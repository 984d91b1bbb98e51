package notification_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/notification"
)

// An object may begin with fields that are called like ours. They stay its own: the event has a place in the journal, so
// that it comes once, and is found there.
func TestFieldsCalledLikeOurs(t *testing.T) {
	t.Parallel()
	client := redistest.Start(t).Client(t)
	// No heartbeat tells where the journal ends.
	n := newSystem(t, client, notification.WithHeartbeat(time.Hour))
	r := record(t, subscribe(t, n, "k"))
	objects := []string{
		`{"journal":"x","n":1}`, `{"journal":"a \"b\"","n":2}`, `{"traceparent":"mine","n":3}`,
		`{"traceparent":"a \"b\"","n":4}`, `{"journal":"","traceparent":"mine","n":5}`, `{"redelivered":true,"n":6}`,
		`{"n":7,"redelivered":true,"traceparent":"mine"}`, `{"n":8}`,
	}
	for i, object := range objects {
		require.NoError(t, n.Publish(t.Context(), "k", json.RawMessage(object)))
		r.reached(t, i+1)
		require.NoError(t, client.Do(t.Context(), "client", "kill", "type", "pubsub").Err())
		require.Eventually(t, func() bool {
			return n.GetMetrics().Reconnects > int64(i) && n.HealthCheck(t.Context()) == nil
		}, patience, time.Millisecond)
	}
	assert.Zero(t, r.verify(t, []int{1, 2, 3, 4, 5, 6, 7, 8}))
	assert.Empty(t, r.gaps())
	received := r.messages
	for m, err := range n.Replay(t.Context(), "k", "", "") {
		require.NoError(t, err)
		require.NotEmpty(t, received, "no more than what came live")
		assert.Equal(t, received[0].Payload, m.Payload)
		received = received[1:]
		assert.Empty(t, m.TraceParent)
	}
	assert.Empty(t, received)
	for i, m := range r.received() {
		assert.Empty(t, m.TraceParent)
		assert.False(t, m.Redelivered)
		assert.NotEmpty(t, m.EventID)
		published, err := notification.Decode[map[string]any](&notification.Message{Payload: objects[i]})
		require.NoError(t, err)
		decoded, err := notification.Decode[map[string]any](m)
		require.NoError(t, err)
		delete(decoded, "event_id")
		delete(decoded, "time")
		assert.Equal(t, published, decoded, "the value's own fields are the ones that are decoded")
	}
}

// What is added to every event is there once.
func TestFieldsOfEveryEventAreRefused(t *testing.T) {
	t.Parallel()
	client := redistest.Start(t).Client(t)
	n := newSystem(t, client)
	s := subscribe(t, n, "k")
	for _, object := range []string{
		`{"time":"x"}`, `{"event_id":1}`, `{"a":1,"time":null}`, `{"a":{"time":1},"event_id":""}`,
		`{"\u0074ime":1}`, `{"event\u005fid":1}`,
	} {
		for argument, err := range map[string]error{
			"v":           n.Publish(t.Context(), "k", json.RawMessage(object)),
			"events[1].v": n.PublishBatch(t.Context(), notification.To("k", struct{}{}), notification.To("k", json.RawMessage(object))),
		} {
			var refused *notification.ArgumentError
			require.ErrorAs(t, err, &refused, object)
			assert.Equal(t, argument, refused.Argument, object)
		}
	}
	for _, object := range []string{
		`{"a":{"time":1}}`, `{"a":"\"time\":1"}`, `{"a":["event_id","time"]}`, `{"Time":1}`, `{"times":"\u0041"}`,
	} {
		require.NoError(t, n.Publish(t.Context(), "k", json.RawMessage(object)))
		assert.Contains(t, next(t, s).Payload, object[1:])
	}
}

// A handler may pass on what it has got.
func TestReceivedEventsCanBePublished(t *testing.T) {
	t.Parallel()
	client := redistest.Start(t).Client(t)
	n := newSystem(t, client)
	s, passedOn := subscribe(t, n, "workflow:w"), subscribe(t, n, "k")
	require.NoError(t, n.PublishWorkflowEvent(t.Context(), &notification.WorkflowEvent{ID: "w"}))
	event, err := notification.Decode[notification.WorkflowEvent](next(t, s))
	require.NoError(t, err)
	task := notification.TaskEvent{ID: "t", EventID: event.EventID, Time: event.Time}
	require.NoError(t, n.PublishWorkflowEvent(t.Context(), &event))
	require.NoError(t, n.PublishTaskEvent(t.Context(), &task))
	for _, v := range []any{event, &event, task, &task} {
		require.NoError(t, n.Publish(t.Context(), "k", v))
		m := next(t, passedOn)
		assert.Equal(t, 1, strings.Count(m.Payload, `"event_id"`))
		assert.Equal(t, 1, strings.Count(m.Payload, `"time"`))
		assert.NotEqual(t, event.EventID, m.EventID)
	}
	assert.NotEmpty(t, event.EventID)
	assert.NotEmpty(t, task.EventID)
	require.ErrorIs(t, n.Publish(t.Context(), "k", (*notification.WorkflowEvent)(nil)), notification.ErrInvalidArgument)
}
