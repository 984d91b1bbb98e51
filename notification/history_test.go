package notification_test

import (
	"context"
	"errors"
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

func TestRestart(t *testing.T) {
	t.Parallel()
	t.Run("without its data", func(t *testing.T) {
		t.Parallel()
		testRestart(t, notification.GapWiped)
	})
	t.Run("with its data", func(t *testing.T) {
		t.Parallel()
		missing := testRestart(t, notification.GapRestarted, redistest.WithPersistence())
		assert.Zero(t, missing, "what was published is on the disk")
	})
}

// testRestart returns how many events were published with success and are missing.
func testRestart(t *testing.T, reason notification.GapReason, opts ...redistest.Option) (missing int) {
	t.Helper()
	server := redistest.Start(t, opts...)
	client := server.Client(t)
	n := newSystem(t, client)
	r := record(t, subscribe(t, n, "k"))
	p := &publisher{system: n}
	require.Zero(t, p.publish(t.Context(), "k", 100))
	stop := p.traffic(t)
	server.Kill()
	server.Restart()
	stop()
	// The subscriber may still be away while the first of these are published.
	require.Zero(t, p.publish(t.Context(), "k", 100))
	r.reached(t, p.last)
	r.hasAll(t, client)
	assert.Equal(t, []notification.GapReason{reason}, r.gaps())
	return r.verify(t, p.sent)
}

func TestTrimmedJournalIsAGap(t *testing.T) {
	t.Parallel()
	for name, before := range map[string]int{"some events": 10, "no event yet": 0} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testTrimmed(t, before)
		})
	}
}

func testTrimmed(t *testing.T, before int) {
	t.Helper()
	server := redistest.Start(t)
	client, proxy := through(t, server)
	outside := newSystem(t, server.Client(t), notification.WithHistory(200, 0))
	n := newSystem(t, client, notification.WithHistory(200, 0))
	r := record(t, subscribe(t, n, "k"))
	p := &publisher{system: outside}
	require.Zero(t, p.publish(t.Context(), "k", before))
	r.reached(t, p.last)
	proxy.Refuse(true)
	proxy.Cut()
	require.Zero(t, p.publish(t.Context(), "k", 1000))
	proxy.Refuse(false)
	r.reached(t, p.last)
	missing := r.verify(t, p.sent)
	assert.Positive(t, missing)
	assert.Less(t, missing, 801)
	assert.Equal(t, []notification.GapReason{notification.GapTrimmed}, r.gaps())
}

// A server that goes on has sent everything before and after its data was wiped: only who was behind has lost something.
func TestFlushedWhileConnected(t *testing.T) {
	t.Parallel()
	client := redistest.Start(t).Client(t)
	n := newSystem(t, client, notification.WithHeartbeat(50*time.Millisecond), notification.WithBufferSize(200))
	r, slow := record(t, subscribe(t, n, "k")), subscribe(t, n, "k*")
	p := &publisher{system: n}
	require.Zero(t, p.publish(t.Context(), "k", 250)) // it falls behind
	for i := range 5 {
		require.Zero(t, p.publish(t.Context(), "k", 50))
		require.NoError(t, client.FlushAll(t.Context()).Err())
		nextMillisecond(t, client)
		require.Zero(t, p.publish(t.Context(), "k", 50))
		if i == 0 {
			assert.Equal(t, notification.GapWiped, told(t, slow).Reason)
		}
		require.NoError(t, r.sub.Drain(t.Context())) // so the flush was noticed
	}
	require.Zero(t, p.publish(t.Context(), "k", 1))
	late := record(t, slow)
	for _, l := range []*recorder{r, late} {
		l.reached(t, p.last)
	}
	assert.Zero(t, r.verify(t, p.sent))
	assert.Empty(t, r.gaps())
	assert.Positive(t, late.verify(t, p.sent))
	assert.Zero(t, n.GetMetrics().Reconnects)
}

// nextMillisecond waits until events have later positions than those before, also those of another journal.
func nextMillisecond(t *testing.T, client redis.UniversalClient) {
	t.Helper()
	before := client.Time(t.Context()).Val().UnixMilli()
	require.Eventually(t, func() bool {
		return client.Time(t.Context()).Val().UnixMilli() > before
	}, patience, time.Millisecond)
}

// What was published before somebody subscribed is not for them, even if a recovery comes across it.
func TestRecoveryGivesNothingOlderThanTheSubscription(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client := server.Client(t)
	// A heartbeat would tell where the journal ends.
	n, outside := newSystem(t, client, notification.WithHeartbeat(time.Hour)), newSystem(t, server.Client(t))
	first := subscribe(t, n, "known")
	publish := func() {
		for _, channel := range []string{"known", "new"} {
			require.NoError(t, outside.Publish(t.Context(), channel, struct{}{}))
		}
	}
	publish()
	next(t, first)
	late := []*notification.Subscription{subscribe(t, n, "known"), subscribe(t, n, "new")}
	cut(t, n, client)
	for _, s := range late {
		empty(t, s)
	}
	publish()
	for _, s := range late {
		assert.False(t, next(t, s).Recovered)
		empty(t, s)
	}
}

// The journal is set back further than the last events go that a system remembers. Those before them have passed too.
func TestJournalSetBackFarIsNotDeliveredAgain(t *testing.T) {
	t.Parallel()
	client := redistest.Start(t).Client(t)
	n := newSystem(t, client)
	r := record(t, subscribe(t, n, "k"))
	p := &publisher{system: n}
	require.Zero(t, p.publish(t.Context(), "k", 500))
	require.NoError(t, client.Copy(t.Context(), journalKey, journalKey+":copy", 0, false).Err())
	require.Zero(t, p.publish(t.Context(), "k", 1100))
	r.reached(t, p.last)
	require.NoError(t, client.Rename(t.Context(), journalKey+":copy", journalKey).Err())
	cut(t, n, client)
	require.Zero(t, p.publish(t.Context(), "k", 5))
	r.reached(t, p.last)
	assert.Zero(t, r.verify(t, p.sent))
	assert.Equal(t, []notification.GapReason{notification.GapRolledBack}, r.gaps())
}

// The journal and its state are set back, as by a failover to a replica that lagged behind, before a heartbeat comes after those
// events that are lost. It says nothing about those that take their places.
func TestJournalSetBackBehindAHeartbeat(t *testing.T) {
	t.Parallel()
	client := redistest.Start(t).Client(t)
	n := newSystem(t, client, notification.WithHeartbeat(time.Hour))
	s := subscribe(t, n, "k")
	p := &publisher{system: newSystem(t, client)}
	require.Zero(t, p.publish(t.Context(), "k", 5))
	for _, key := range []string{journalKey, "cache:{notification}:state"} {
		require.NoError(t, client.Copy(t.Context(), key, key+":copy", 0, false).Err())
	}
	require.Zero(t, p.publish(t.Context(), "k", 10))
	for range 15 {
		next(t, s)
	}
	require.NoError(t, n.Drain(t.Context())) // with a heartbeat
	for _, key := range []string{journalKey, "cache:{notification}:state"} {
		require.NoError(t, client.Rename(t.Context(), key+":copy", key).Err())
	}
	for i := range 5 {
		require.Zero(t, p.publish(t.Context(), "k", 1))
		m := next(t, s)
		v, err := notification.Decode[numbered](m)
		require.NoError(t, err)
		assert.Equal(t, p.last, v.N)
		assert.NotEmpty(t, m.EventID)
		assert.Equal(t, i == 0, m.Gap != nil, "%+v", m.Gap)
	}
	empty(t, s)
}

// What is older than a subscription is not for it, whatever becomes of the journal.
func TestChangedHistoryGivesNothingOlderThanTheSubscription(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		change func(ctx context.Context, client *redis.Client) error
		heard  int // events that the subscription gets before
		reason notification.GapReason
	}{
		"set back": {restoreCopy, 1, notification.GapRolledBack},
		"set back before anything was heard": {func(ctx context.Context, client *redis.Client) error {
			return client.Do(ctx, "eval", dropLast, "1", journalKey).Err()
		}, 0, notification.GapRolledBack},
		"state evicted": {evictState, 1, ""},
		"state evicted before anything was heard": {evictState, 0, ""},
		"set back, state evicted": {func(ctx context.Context, client *redis.Client) error {
			return errors.Join(restoreCopy(ctx, client), evictState(ctx, client))
		}, 1, notification.GapWiped},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := redistest.Start(t).Client(t)
			p := &publisher{system: newSystem(t, client)}
			require.Zero(t, p.publish(t.Context(), "k", 10))
			require.NoError(t, client.Copy(t.Context(), journalKey, journalKey+":copy", 0, false).Err())
			// A heartbeat would tell where the journal ends.
			n := newSystem(t, client, notification.WithHeartbeat(time.Hour))
			s := subscribe(t, n, "k")
			require.Zero(t, p.publish(t.Context(), "k", test.heard))
			for range test.heard {
				next(t, s)
			}
			require.NoError(t, test.change(t.Context(), client))
			cut(t, n, client)
			if test.reason != "" {
				assert.Equal(t, test.reason, told(t, s).Reason)
			}
			require.Zero(t, p.publish(t.Context(), "k", 1))
			m := next(t, s)
			assert.Equal(t, test.reason != "", m.Gap != nil)
			v, err := notification.Decode[numbered](m)
			require.NoError(t, err)
			assert.Equal(t, p.last, v.N)
		})
	}
}

// Only the state of the journal is lost, and all events are there, though not what the last heartbeat named: there was nothing
// yet, the journal had expired, or it has been trimmed since.
func TestEvictedStateIsNoGap(t *testing.T) {
	t.Parallel()
	few := notification.WithHistory(100, time.Hour)
	for name, test := range map[string]struct {
		before, expired bool // events that a heartbeat names, and the journal then expires
		events          int  // after the last heartbeat
		opts            []notification.Option
	}{
		"first events":          {events: 5},
		"after expiry":          {before: true, expired: true, events: 5},
		"trimmed since":         {before: true, events: 2000, opts: []notification.Option{few}},
		"not trimmed":           {before: true, events: 5},
		"first events, trimmed": {events: 2000, opts: []notification.Option{few}},
	} {
		for _, running := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, running: %v", name, running), func(t *testing.T) {
				t.Parallel()
				client := redistest.Start(t).Client(t)
				// With room for all, it never has to read what is trimmed meanwhile.
				opts := append([]notification.Option{notification.WithHeartbeat(time.Hour), notification.WithBufferSize(3000)}, test.opts...)
				n := newSystem(t, client, opts...)
				r := record(t, subscribe(t, n, "k"))
				p := &publisher{system: newSystem(t, client, test.opts...)}
				require.NoError(t, n.Drain(t.Context())) // with a heartbeat
				if test.before {
					require.Zero(t, p.publish(t.Context(), "k", 5))
					require.NoError(t, n.Drain(t.Context()))
				}
				if test.expired {
					require.NoError(t, client.Del(t.Context(), journalKey).Err())
					require.NoError(t, n.Drain(t.Context()))
				}
				require.Zero(t, p.publish(t.Context(), "k", test.events))
				r.reached(t, p.last)
				require.NoError(t, evictState(t.Context(), client))
				require.Zero(t, p.publish(t.Context(), "k", 5))
				if running {
					require.NoError(t, n.Drain(t.Context()))
				} else {
					cut(t, n, client)
				}
				require.Zero(t, p.publish(t.Context(), "k", 5))
				r.reached(t, p.last)
				assert.Zero(t, r.verify(t, p.sent))
				assert.Empty(t, r.gaps())
			})
		}
	}
}

// dropLast makes the journal one that has not come as far.
const dropLast = `return redis.call('XDEL', KEYS[1], redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1][1])`

func restoreCopy(ctx context.Context, client *redis.Client) error {
	return client.Rename(ctx, journalKey+":copy", journalKey).Err()
}

func evictState(ctx context.Context, client *redis.Client) error {
	return client.Del(ctx, strings.TrimSuffix(journalKey, "journal")+"state").Err()
}
