package notification_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/faultproxy"
	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/notification"
)

func TestKilledConnectionsLoseNothing(t *testing.T) {
	t.Parallel()
	const events, kills = 10_000, 100
	client := redistest.Start(t).Client(t)
	n := newSystem(t, client, notification.WithHistory(2*events, 0), notification.WithLongestPause(10*time.Millisecond))
	all := record(t, subscribe(t, n, "k*"))
	exact := record(t, subscribe(t, n, "k"))
	p := &publisher{system: n}
	for i := range kills {
		var publishing sync.WaitGroup
		publishing.Go(func() { assert.Zero(t, p.publish(t.Context(), "k", events/kills)) })
		if i%2 == 0 { // the others are killed as soon as they exist, before or during their recovery
			require.Eventually(t, func() bool { return n.HealthCheck(t.Context()) == nil }, patience, time.Millisecond)
		}
		require.Eventually(t, func() bool {
			return client.ClientKillByFilter(t.Context(), "type", "pubsub").Val() == 1
		}, patience, time.Millisecond)
		publishing.Wait()
	}
	require.Zero(t, p.publish(t.Context(), "k", 1))
	for _, r := range []*recorder{all, exact} {
		r.reached(t, p.last)
		assert.Zero(t, r.verify(t, p.sent))
		assert.Empty(t, r.gaps())
	}
	assert.GreaterOrEqual(t, n.GetMetrics().Reconnects, int64(kills))
	assert.Positive(t, n.GetMetrics().MessagesRecovered)
}

func TestWithoutHistoryACutIsAGap(t *testing.T) {
	t.Parallel()
	client := redistest.Start(t).Client(t)
	n := newSystem(t, client, notification.WithHistory(0, 0))
	r := record(t, subscribe(t, n, "k"))
	p := &publisher{system: n}
	for range 10 {
		p.publish(t.Context(), "k", 10)
		require.NoError(t, client.Do(t.Context(), "client", "kill", "type", "pubsub").Err())
		p.publish(t.Context(), "k", 10)
		require.Eventually(t, func() bool { return n.HealthCheck(t.Context()) == nil }, patience, time.Millisecond)
	}
	// The last kill may not have been noticed yet, and what is lost then is reported with the next message.
	require.Eventually(t, func() bool {
		p.publish(t.Context(), "k", 1)
		return r.last() > p.last-5
	}, patience, 10*time.Millisecond)
	r.reached(t, p.last)
	r.verify(t, p.sent)
	assert.Contains(t, r.gaps(), notification.GapReconnected)
}

// through returns a client for the server behind a proxy.
func through(tb testing.TB, server *redistest.Server, change ...func(*redis.Options)) (*redis.Client, *faultproxy.Proxy) {
	tb.Helper()
	proxy := faultproxy.New(tb, server.Addr())
	options := server.Options()
	options.Addr = proxy.Addr()
	options.ContextTimeoutEnabled = true
	options.ReadTimeout = 500 * time.Millisecond
	options.DialTimeout = 500 * time.Millisecond
	for _, f := range change {
		f(options)
	}
	client := redis.NewClient(options)
	tb.Cleanup(func() { _ = client.Close() })
	return client, proxy
}

func TestHalfOpenConnectionIsNoticed(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string][]notification.Option{
		"quick heartbeat": {notification.WithHeartbeat(50 * time.Millisecond)}, "default heartbeat": nil,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testHalfOpen(t, opts...)
		})
	}
}

func testHalfOpen(t *testing.T, opts ...notification.Option) {
	t.Helper()
	server := redistest.Start(t)
	client, proxy := through(t, server)
	n := newSystem(t, client, opts...)
	outside := newSystem(t, server.Client(t))
	r := record(t, subscribe(t, n, "k"))
	p := &publisher{system: outside}
	require.Zero(t, p.publish(t.Context(), "k", 10))
	r.reached(t, p.last)

	proxy.SwallowToClient(true)
	proxy.SwallowToServer(true)
	require.Zero(t, p.publish(t.Context(), "k", 100))
	// It is not enough that the heartbeat is late: a connection that has not been given up yet would go on behind what the
	// proxy has swallowed, which no real one does.
	require.Eventually(t, func() bool {
		err := health(n)
		return err != nil && !strings.Contains(err.Error(), "no heartbeat")
	}, patience, 5*time.Millisecond)
	require.NoError(t, n.Alive())
	proxy.SwallowToClient(false)
	proxy.SwallowToServer(false)
	require.Zero(t, p.publish(t.Context(), "k", 10))
	r.reached(t, p.last)
	assert.Zero(t, r.verify(t, p.sent))
	assert.Empty(t, r.gaps())
}

func TestLostRepliesNeitherLoseNorDouble(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client, proxy := through(t, server)
	n := newSystem(t, client)
	listener := newSystem(t, server.Client(t))
	r := record(t, subscribe(t, listener, "k"))
	p := &publisher{system: n}
	for range 50 {
		require.Zero(t, p.publish(t.Context(), "k", 3))
		proxy.DropReplies(1)
		require.Zero(t, p.publish(t.Context(), "k", 3))
	}
	r.reached(t, p.last)
	assert.Zero(t, r.verify(t, p.sent))
	assert.Empty(t, r.gaps())
	length, err := server.Client(t).XLen(t.Context(), "cache:{notification}:journal").Result()
	require.NoError(t, err)
	assert.EqualValues(t, len(p.sent), length)
}

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

// A program passes on an event that was published before anybody here listened: it is a foreign message as well.
func TestOldEventsThatAreForwardedArriveAsTheyAre(t *testing.T) {
	t.Parallel()
	client := redistest.Start(t).Client(t)
	early := newSystem(t, client)
	heard := subscribe(t, early, "k")
	require.NoError(t, early.Publish(t.Context(), "k", numbered{1}))
	payload := next(t, heard).Payload

	n := newSystem(t, client)
	r, mirror := record(t, subscribe(t, n, "k")), subscribe(t, n, "mirror")
	p := &publisher{system: early}
	for range 3 {
		require.Zero(t, p.publish(t.Context(), "k", 2))
		r.reached(t, p.last)
		require.NoError(t, client.Publish(t.Context(), "mirror", payload).Err())
		m := next(t, mirror)
		assert.Equal(t, payload, m.Payload)
		assert.Empty(t, m.EventID)
		assert.Nil(t, m.Gap)
	}
	assert.Zero(t, r.verify(t, p.sent))
	assert.Empty(t, r.gaps())
	assert.Zero(t, n.GetMetrics().Reconnects)
}

// narrow lets only small parts of the journal arrive in time, as where events are large or the network is slow.
type narrow struct{ limit atomic.Int32 }

func (h *narrow) hook() *partHook {
	return &partHook{read: func(_ context.Context, p part, next func() error) error {
		if limit := int(h.limit.Load()); limit >= 0 && limit < p.count {
			return &net.OpError{Op: "read", Net: "tcp", Err: os.ErrDeadlineExceeded}
		}
		return next()
	}}
}

func TestRecoveryOfEventsThatArriveSlowly(t *testing.T) {
	t.Parallel()
	for name, wiped := range map[string]bool{"same history": false, "another history": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t)
			client, proxy := through(t, server)
			hook := &narrow{}
			hook.limit.Store(-1)
			n, outside := newSystem(t, withHook(client, hook.hook())), newSystem(t, server.Client(t))
			r := record(t, subscribe(t, n, "k"))
			p := &publisher{system: outside}
			require.Zero(t, p.publish(t.Context(), "k", 10))
			r.reached(t, p.last)
			proxy.Refuse(true)
			proxy.Cut()
			var gaps []notification.GapReason
			if wiped {
				require.NoError(t, server.Client(t).FlushAll(t.Context()).Err())
				gaps = append(gaps, notification.GapWiped)
			}
			require.Zero(t, p.publish(t.Context(), "k", 200))
			hook.limit.Store(8)
			proxy.Refuse(false)
			r.reached(t, p.last)
			assert.Zero(t, r.verify(t, p.sent))
			assert.Equal(t, gaps, r.gaps())
		})
	}
}
