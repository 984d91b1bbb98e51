package notification_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/notification"
)

// vanish deletes the journal and returns when a heartbeat has shown that to n, which must listen to "marker".
func vanish(t *testing.T, client *redis.Client, marker *notification.Subscription) {
	t.Helper()
	beats := client.PSubscribe(t.Context(), heartbeatPrefix+"*")
	t.Cleanup(func() { _ = beats.Close() })
	_, err := beats.Receive(t.Context())
	require.NoError(t, err)
	require.NoError(t, client.Del(t.Context(), journalKey).Err())
	for fields := []string(nil); len(fields) < 4 || fields[3] != "0"; {
		fields = strings.Split(receive(t, beats), "\n")
	}
	// What comes next on the same connection tells that the heartbeat was there.
	require.NoError(t, client.Publish(t.Context(), "marker", "").Err())
	next(t, marker)
}

// The journal is deleted, evicted or expires while everybody is connected, which a heartbeat tells. The next one may
// begin before it, as the clock of the server was set back.
func TestJournalThatVanishesUnderAConnection(t *testing.T) {
	t.Parallel()
	for name, reconnect := range map[string]bool{"on the same connection": false, "after a cut": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := redistest.Start(t).Client(t)
			n := newSystem(t, client, notification.WithHeartbeat(500*time.Millisecond), notification.WithBufferSize(3))
			require.NoError(t, client.XAdd(t.Context(), &redis.XAddArgs{
				Stream: journalKey, ID: "99999999999999-0", Values: []any{"k", "v"},
			}).Err())
			r, behind, marker := record(t, subscribe(t, n, "k*")), subscribe(t, n, "k"), subscribe(t, n, "marker")
			p := &publisher{system: n}
			for range 10 { // for one of them, seven are left to the journal
				require.Zero(t, p.publish(t.Context(), "k", 1))
				r.reached(t, p.last)
			}
			vanish(t, client, marker)
			if reconnect {
				cut(t, n, client)
			}
			require.Zero(t, p.publish(t.Context(), "k", 1))
			r.reached(t, p.last)
			assert.Equal(t, notification.GapTrimmed, told(t, behind).Reason)
			late := record(t, behind)
			require.Eventually(t, func() bool {
				p.publish(t.Context(), "k", 1)
				return late.last() > 10
			}, patience, 5*time.Millisecond)
			late.reached(t, p.last)
			r.reached(t, p.last)
			assert.Zero(t, r.verify(t, p.sent))
			assert.Empty(t, r.gaps())
			assert.Equal(t, 7, late.verify(t, p.sent))
			assert.Len(t, late.gaps(), 1)
		})
	}
}

// Who subscribes between two heartbeats begins behind what those know of the journal.
func TestSubscriptionBetweenHeartbeatsToAJournalThatVanishes(t *testing.T) {
	t.Parallel()
	client := redistest.Start(t).Client(t)
	n := newSystem(t, client, notification.WithHeartbeat(500*time.Millisecond))
	marker := subscribe(t, n, "marker")
	require.NoError(t, client.XAdd(t.Context(), &redis.XAddArgs{
		Stream: journalKey, ID: "99999999999999-0", Values: []any{"k", "v"},
	}).Err())
	s := subscribe(t, n, "k")
	vanish(t, client, marker)
	require.NoError(t, n.Publish(t.Context(), "k", numbered{1}))
	assert.Nil(t, next(t, s).Gap)
}

// The next event may be of a publisher whose clock is behind that of the one before, too. It is no foreign message.
func TestPublisherBehindAJournalThatVanished(t *testing.T) {
	t.Parallel()
	client := redistest.Start(t).Client(t)
	n := newSystem(t, client, notification.WithHeartbeat(500*time.Millisecond))
	require.NoError(t, client.XAdd(t.Context(), &redis.XAddArgs{
		Stream: journalKey, ID: "99999999999999-0", Values: []any{"k", "v"},
	}).Err())
	s, marker := subscribe(t, n, "k"), subscribe(t, n, "marker")
	require.NoError(t, n.Publish(t.Context(), "k", numbered{1}))
	next(t, s)
	vanish(t, client, marker)
	stamp := time.Now().Add(-time.Minute).UTC().Format(time.RFC3339Nano)
	require.NoError(t, client.Eval(t.Context(), `
		local offset = redis.call('HINCRBY', KEYS[2], 'offset', #ARGV[1] + #ARGV[2] + 64)
		local id = redis.call('XADD', KEYS[1], redis.call('TIME')[1] .. '000-' .. offset, 'k', ARGV[1], 'v', ARGV[2])
		redis.call('PUBLISH', 'k', '{"event_id":"' .. id .. '",' .. ARGV[2])
		return id`, []string{journalKey, "cache:{notification}:state"}, "other.1\n1:k", fmt.Sprintf(`"time":%q,"N":2}`, stamp)).Err())
	m := next(t, s)
	assert.NotEmpty(t, m.EventID)
	assert.False(t, m.Recovered)
	require.NoError(t, n.Publish(t.Context(), "k", numbered{3}))
	m = next(t, s)
	assert.Contains(t, m.Payload, "3}", "and nothing comes twice")
	assert.Nil(t, m.Gap)
	assert.Zero(t, n.GetMetrics().Reconnects)
}
