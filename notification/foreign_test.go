package notification_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/notification"
)

// Other programs have event IDs, too, which are no places in a journal.
func TestForeignEventIDsAreNoPlaces(t *testing.T) {
	t.Parallel()
	client := redistest.Start(t).Client(t)
	n := newSystem(t, client)
	s := subscribe(t, n, "k")
	require.NoError(t, n.Publish(t.Context(), "k", struct{}{}))
	next(t, s)
	for _, id := range []string{"order-42", "2024-05-01", "42-created"} {
		stamp := time.Now().Add(time.Second).UTC().Format(time.RFC3339Nano)
		payload := fmt.Sprintf(`{"event_id":%q,"time":%q}`, id, stamp)
		require.NoError(t, client.Publish(t.Context(), "k", payload).Err())
		m := next(t, s)
		assert.Equal(t, payload, m.Payload)
		assert.Equal(t, id, m.EventID)
	}
	require.NoError(t, n.Publish(t.Context(), "k", struct{}{}))
	assert.Nil(t, next(t, s).Gap)
	assert.Zero(t, n.GetMetrics().Reconnects)
}

// Somebody passes on the events of another Redis, and the first one looks as if the journal was not the same any more.
// Then it is known who they are.
func TestEventsOfAnotherJournal(t *testing.T) {
	t.Parallel()
	client := redistest.Start(t).Client(t)
	n := newSystem(t, client)
	s, own := subscribe(t, n, "k"), subscribe(t, n, "own")
	require.NoError(t, n.Publish(t.Context(), "own", struct{}{}))
	next(t, own)
	forward := func(number int) {
		stamp := time.Now().Add(time.Second).UTC().Format(time.RFC3339Nano)
		payload := fmt.Sprintf(`{"event_id":"5-%d","time":%q}`, number, stamp)
		require.NoError(t, client.Publish(t.Context(), "k", payload).Err())
	}
	forward(1)
	assert.Equal(t, notification.GapForeign, told(t, s).Reason)
	require.Eventually(t, func() bool { return n.HealthCheck(t.Context()) == nil }, patience, time.Millisecond)
	for i := range 5 {
		forward(i + 2)
		m := next(t, s)
		assert.Empty(t, m.EventID)
		assert.Equal(t, i == 0, m.Gap != nil, "the first one is lost")
		require.NoError(t, n.Publish(t.Context(), "own", struct{}{}))
		m = next(t, own)
		assert.NotEmpty(t, m.EventID)
		assert.Nil(t, m.Gap)
	}
	assert.EqualValues(t, 1, n.GetMetrics().Reconnects)
	assert.Empty(t, own.Gaps())
}
