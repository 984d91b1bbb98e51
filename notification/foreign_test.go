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

// The first event of another journal looks as if ours was not the same any more. Then it is known who they are.
func TestEventsOfAnotherJournal(t *testing.T) {
	t.Parallel()
	client := redistest.Start(t).Client(t)
	n := newSystem(t, client)
	both, own := []*notification.Subscription{subscribe(t, n, "k"), subscribe(t, n, "k*")}, subscribe(t, n, "own")
	require.NoError(t, n.Publish(t.Context(), "own", struct{}{}))
	next(t, own)
	forward(t, client, "5-1")
	for _, s := range both {
		assert.Equal(t, notification.GapForeign, told(t, s).Reason, s.Pattern())
	}
	require.Eventually(t, func() bool { return n.HealthCheck(t.Context()) == nil }, patience, time.Millisecond)
	for i := range 5 {
		forward(t, client, fmt.Sprintf("5-%d", i+2))
		for _, s := range both {
			m := next(t, s)
			assert.Empty(t, m.EventID)
			assert.Equal(t, i == 0, m.Gap != nil, "the first one is lost")
		}
		require.NoError(t, n.Publish(t.Context(), "own", struct{}{}))
		m := next(t, own)
		assert.NotEmpty(t, m.EventID)
		assert.Nil(t, m.Gap)
	}
	assert.EqualValues(t, 1, n.GetMetrics().Reconnects)
	assert.Empty(t, own.Gaps())
}

// Where foreign messages are known to come, each cut tells that some may be missing. That is enough.
func TestEventOfAnotherJournalAmongForeignMessages(t *testing.T) {
	t.Parallel()
	client := redistest.Start(t).Client(t)
	n := newSystem(t, client)
	s, own := subscribe(t, n, "k"), subscribe(t, n, "own")
	require.NoError(t, client.Publish(t.Context(), "k", "plain").Err())
	next(t, s)
	require.NoError(t, n.Publish(t.Context(), "own", struct{}{}))
	next(t, own)
	forward(t, client, "5-1")
	assert.Equal(t, notification.GapForeign, told(t, s).Reason)
	require.Eventually(t, func() bool { return n.HealthCheck(t.Context()) == nil }, patience, time.Millisecond)
	assert.Empty(t, s.Gaps())
	assert.EqualValues(t, 1, n.GetMetrics().Gaps)
}

// Ours has just expired, which nobody has noticed yet.
func TestEventOfAnotherJournalAfterTheEndOfOurs(t *testing.T) {
	t.Parallel()
	client := redistest.Start(t).Client(t)
	n := newSystem(t, client, notification.WithHistory(100, 10*time.Minute), notification.WithHeartbeat(time.Hour))
	at := time.Now().Add(-11 * time.Minute)
	require.NoError(t, client.XAdd(t.Context(), &redis.XAddArgs{
		Stream: journalKey, ID: fmt.Sprintf("%d-0", at.UnixMilli()),
		Values: []any{"k", "p.1\n1:x", "v", fmt.Sprintf(`"time":%q}`, at.Format(time.RFC3339Nano))},
	}).Err())
	s := subscribe(t, n, "k")
	cut(t, n, client) // now the system knows it
	require.NoError(t, client.Del(t.Context(), journalKey).Err())
	forward(t, client, "5-1")
	assert.Equal(t, notification.GapForeign, told(t, s).Reason)
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
