package notification_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/notification"
)

// cut breaks the subscribing connection and returns when the next one delivers.
func cut(t *testing.T, n *notification.RedisNotificationSystem, admin *redis.Client) {
	t.Helper()
	before := n.GetMetrics().Reconnects
	require.NoError(t, admin.Do(t.Context(), "client", "kill", "type", "pubsub").Err())
	require.Eventually(t, func() bool {
		return n.GetMetrics().Reconnects > before && n.HealthCheck(t.Context()) == nil
	}, patience, time.Millisecond)
}

func TestForeignMessagesThatPassedByAreAGap(t *testing.T) {
	t.Parallel()
	client := redistest.Start(t).Client(t)
	n := newSystem(t, client)
	foreign, own := subscribe(t, n, "foreign"), subscribe(t, n, "own")
	require.NoError(t, client.Publish(t.Context(), "foreign", "1").Err())
	assert.Nil(t, next(t, foreign).Gap)
	cut(t, n, client)
	assert.Equal(t, notification.GapForeign, (<-foreign.Gaps()).Reason)
	require.NoError(t, n.Publish(t.Context(), "foreign", struct{}{}))
	m := next(t, foreign)
	require.NotNil(t, m.Gap)
	assert.Equal(t, notification.GapForeign, m.Gap.Reason)
	require.NoError(t, n.Publish(t.Context(), "own", struct{}{}))
	assert.Nil(t, next(t, own).Gap, "nobody else publishes there")
}

func TestForeignMessagesOfOneThatIsBehindAreAGap(t *testing.T) {
	t.Parallel()
	client := redistest.Start(t).Client(t)
	n := newSystem(t, client, notification.WithBufferSize(1))
	s, other := subscribe(t, n, "k"), subscribe(t, n, "k*")
	for i := range 2 { // the second is left to the journal
		require.NoError(t, n.Publish(t.Context(), "k", numbered{i + 1}))
		next(t, other)
	}
	require.NoError(t, client.Publish(t.Context(), "k", "foreign").Err())
	next(t, other)
	gap := <-s.Gaps()
	assert.Equal(t, notification.GapOverflow, gap.Reason)
	assert.EqualValues(t, 1, s.Dropped())
	assert.Nil(t, next(t, s).Gap)
	require.NotNil(t, next(t, s).Gap)
}

func TestUnreadableJournalIsAGap(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	admin := server.Client(t)
	require.NoError(t, admin.Do(t.Context(), "acl", "setuser", "limited", "on", ">secret", "~*", "&*", "+@all").Err())
	options := server.Options()
	options.Username, options.Password = "limited", "secret"
	client := redis.NewClient(options)
	t.Cleanup(func() { _ = client.Close() })
	n := newSystem(t, client)
	r := record(t, subscribe(t, n, "k"))
	p := &publisher{system: n}
	require.Zero(t, p.publish(t.Context(), "k", 10))
	r.reached(t, p.last)
	require.NoError(t, admin.Do(t.Context(), "acl", "setuser", "limited", "-xrange").Err())
	cut(t, n, admin)
	require.Zero(t, p.publish(t.Context(), "k", 10))
	r.reached(t, p.last)
	assert.Zero(t, r.verify(t, p.sent))
	assert.Equal(t, []notification.GapReason{notification.GapUnreadable}, r.gaps())

	// It is no loss for good.
	require.NoError(t, admin.Do(t.Context(), "acl", "setuser", "limited", "+xrange").Err())
	cut(t, n, admin)
	require.Zero(t, p.publish(t.Context(), "k", 10))
	r.reached(t, p.last)
	assert.Zero(t, r.verify(t, p.sent))
	assert.Len(t, r.gaps(), 1)
}

// The cursor moves in quiet times: what others publish meanwhile, the journal may forget.
func TestQuietSubscriptionKeepsUpWithTheJournal(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client, busy := server.Client(t), newSystem(t, server.Client(t), notification.WithHistory(100, 0))
	n := newSystem(t, client, notification.WithHistory(100, 0), notification.WithHeartbeat(50*time.Millisecond))
	r, marker := record(t, subscribe(t, n, "quiet")), subscribe(t, n, "marker")
	beats := client.PSubscribe(t.Context(), "cache:{notification}:heartbeat:*")
	t.Cleanup(func() { _ = beats.Close() })
	p, others := &publisher{system: n}, &publisher{system: busy}
	require.Zero(t, p.publish(t.Context(), "quiet", 1))
	r.reached(t, p.last)
	require.Zero(t, others.publish(t.Context(), "busy", 1000))
	last, err := client.XRevRangeN(t.Context(), journalKey, "+", "-", 1).Result()
	require.NoError(t, err)
	for !strings.Contains(receive(t, beats), last[0].ID) {
		continue
	}
	// What comes next on the same connection tells that the heartbeat was there.
	require.NoError(t, client.Publish(t.Context(), "marker", "").Err())
	next(t, marker)
	cut(t, n, client)
	require.Zero(t, p.publish(t.Context(), "quiet", 1))
	r.reached(t, p.last)
	assert.Zero(t, r.verify(t, p.sent))
	assert.Empty(t, r.gaps())
}

// receive returns the next payload of a raw subscription.
func receive(t *testing.T, raw *redis.PubSub) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	m, err := raw.ReceiveMessage(ctx)
	require.NoError(t, err)
	return m.Payload
}
