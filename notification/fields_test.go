package notification_test

import (
	"encoding/json"
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
		`{"traceparent":"a \"b\"","n":4}`, `{"journal":"","traceparent":"mine","n":5}`, `{"n":6}`,
	}
	for i, object := range objects {
		require.NoError(t, n.Publish(t.Context(), "k", json.RawMessage(object)))
		r.reached(t, i+1)
		require.NoError(t, client.Do(t.Context(), "client", "kill", "type", "pubsub").Err())
		require.Eventually(t, func() bool {
			return n.GetMetrics().Reconnects > int64(i) && n.HealthCheck(t.Context()) == nil
		}, patience, time.Millisecond)
	}
	assert.Zero(t, r.verify(t, []int{1, 2, 3, 4, 5, 6}))
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
	for _, m := range r.messages {
		assert.Empty(t, m.TraceParent)
		assert.NotEmpty(t, m.EventID)
	}
}
