package notification_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
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

// forward publishes an event as somebody does who passes on those of another Redis.
func forward(t *testing.T, client *redis.Client, id string) {
	t.Helper()
	stamp := time.Now().Add(time.Second).UTC().Format(time.RFC3339Nano)
	require.NoError(t, client.Publish(t.Context(), "k", fmt.Sprintf(`{"event_id":%q,"time":%q}`, id, stamp)).Err())
}

// Somebody passes on events of another Redis with the same key prefix. Those that are older than ours arrive as foreign
// messages, and cost neither a reconnect nor a gap.
func TestEventsOfAnotherJournal(t *testing.T) {
	t.Parallel()
	client := redistest.Start(t).Client(t)
	n := newSystem(t, client)
	both, own := []*notification.Subscription{subscribe(t, n, "k"), subscribe(t, n, "k*")}, subscribe(t, n, "own")
	require.NoError(t, n.Publish(t.Context(), "own", struct{}{}))
	next(t, own)
	for _, offset := range []int{1, 2, 3, 1 << 40} { // the last one looks as if the clock had been set back
		forward(t, client, fmt.Sprintf("5-%d", offset))
		for _, s := range both {
			m := next(t, s)
			assert.Empty(t, m.EventID)
			assert.Nil(t, m.Gap)
		}
		require.NoError(t, n.Publish(t.Context(), "own", struct{}{}))
		m := next(t, own)
		assert.NotEmpty(t, m.EventID)
		assert.Nil(t, m.Gap)
	}
	assert.Zero(t, n.GetMetrics().Reconnects)
	assert.Empty(t, own.Gaps())
}

// Without history there is no journal of ours that could have changed.
func TestEventsOfOtherJournalsWithoutHistory(t *testing.T) {
	t.Parallel()
	client := redistest.Start(t).Client(t)
	n := newSystem(t, client, notification.WithHistory(0, 0))
	s := subscribe(t, n, "k")
	for _, id := range []string{"9-1", "5-1", "9-2", "5-2"} {
		forward(t, client, id)
		assert.Nil(t, next(t, s).Gap)
	}
	assert.Zero(t, n.GetMetrics().Reconnects)
}
