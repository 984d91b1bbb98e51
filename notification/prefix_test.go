package notification_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/notification"
)

// Environments that share a server do not hear each other, whatever they listen to, and each has its own journal.
func TestChannelPrefixesKeepEnvironmentsApart(t *testing.T) {
	t.Parallel()
	client := redistest.Start(t).Client(t)
	system := func(prefix string, opts ...notification.Option) *notification.RedisNotificationSystem {
		return newSystem(t, client, append(opts, notification.WithChannelPrefix(prefix))...)
	}
	a, b := system("a."), system("b.")
	all := map[*notification.RedisNotificationSystem][]*recorder{}
	for _, n := range []*notification.RedisNotificationSystem{a, b} {
		for _, pattern := range []string{"k", "*", "k*", "?"} {
			all[n] = append(all[n], record(t, subscribe(t, n, pattern)))
		}
	}
	pa, pb := &publisher{system: a}, &publisher{system: b, last: 1000}
	for round := range 3 {
		require.Zero(t, pa.publish(t.Context(), "k", 20))
		require.Zero(t, pb.publish(t.Context(), "k", 10))
		require.NoError(t, client.Publish(t.Context(), "a.k", "foreign").Err())
		if round == 1 {
			require.NoError(t, client.Do(t.Context(), "client", "kill", "type", "pubsub").Err())
		}
	}
	for n, p := range map[*notification.RedisNotificationSystem]*publisher{a: pa, b: pb} {
		for _, r := range all[n] {
			r.reached(t, p.last)
			assert.Zero(t, r.verify(t, p.sent), r.sub.Pattern())
			for _, m := range r.received() {
				assert.Equal(t, "k", m.Channel)
			}
		}
		read := 0
		for m, err := range n.Replay(t.Context(), "k*", "", "") {
			require.NoError(t, err)
			assert.Equal(t, "k", m.Channel)
			read++
		}
		assert.Equal(t, len(p.sent), read)
	}
	for _, r := range all[b] {
		assert.Empty(t, r.gaps(), "nobody else publishes there")
	}
	resumed := record(t, b.SubscribeFrom(t.Context(), "k", ""))
	resumed.reached(t, pb.last)
	assert.Zero(t, resumed.verify(t, pb.sent))
	var plain []*notification.Subscription
	for _, pattern := range []string{"a.k", "a.*"} { // a system without a prefix sees the channels as they are
		plain = append(plain, subscribe(t, newSystem(t, client), pattern))
	}
	require.Zero(t, pa.publish(t.Context(), "k", 1))
	for _, s := range plain {
		m := next(t, s)
		assert.Equal(t, "a.k", m.Channel)
		assert.Empty(t, m.EventID, "of another journal")
	}
}

// An event of another journal is warned of once.
func TestEventsOfAnotherJournalAreWarnedOf(t *testing.T) {
	t.Parallel()
	client := redistest.Start(t).Client(t)
	log, logs := logging()
	n, other := newSystem(t, client, log), newSystem(t, client, notification.WithKeyPrefix("other:"))
	s := subscribe(t, n, "k")
	for range 5 {
		require.NoError(t, other.Publish(t.Context(), "k", struct{}{}))
		assert.Empty(t, next(t, s).EventID)
	}
	warnings := logs.FilterMessageSnippet("events of another journal").FilterLevelExact(1)
	require.Eventually(t, func() bool { return warnings.Len() == 1 }, patience, time.Millisecond)
}
