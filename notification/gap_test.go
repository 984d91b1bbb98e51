package notification_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
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

// told returns the next gap that a subscription reports.
func told(t *testing.T, s *notification.Subscription) notification.Gap {
	t.Helper()
	select {
	case gap := <-s.Gaps():
		return gap
	case <-time.After(patience):
		require.FailNow(t, "no gap")
		return notification.Gap{}
	}
}

func TestForeignMessagesThatPassedByAreAGap(t *testing.T) {
	t.Parallel()
	client := redistest.Start(t).Client(t)
	n := newSystem(t, client)
	foreign, own := subscribe(t, n, "foreign"), subscribe(t, n, "own")
	require.NoError(t, client.Publish(t.Context(), "foreign", "1").Err())
	assert.Nil(t, next(t, foreign).Gap)
	cut(t, n, client)
	assert.Equal(t, notification.GapForeign, told(t, foreign).Reason)
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
	gap := told(t, s)
	assert.Equal(t, notification.GapForeign, gap.Reason)
	require.NoError(t, client.Publish(t.Context(), "k", "another").Err())
	next(t, other)
	require.NoError(t, n.Publish(t.Context(), "k", numbered{3}))
	next(t, other)
	assert.EqualValues(t, 2, s.Dropped())
	assert.Nil(t, next(t, s).Gap)
	second := next(t, s)
	assert.Nil(t, second.Gap, "it was published before")
	third := next(t, s)
	require.NotNil(t, third.Gap)
	assert.Equal(t, notification.GapForeign, third.Gap.Reason)
	assert.EqualValues(t, 2, third.Gap.Missed)
	assert.Equal(t, second.EventID, third.Gap.After)
	assert.Equal(t, third.EventID, third.Gap.Before)
}

func TestUnreadableJournalIsAGap(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	admin := server.Client(t)
	n := newSystem(t, limited(t, server))
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

// Whoever may not read the journal learns once that another one took its place, and gets what is published there.
func TestUnreadableJournalThatIsWipedIsOneGap(t *testing.T) {
	t.Parallel()
	for name, ahead := range map[string]bool{"clock as before": false, "clock behind": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t)
			admin, client := server.Client(t), limited(t, server, "-xrange")
			if ahead {
				require.NoError(t, admin.XAdd(t.Context(), &redis.XAddArgs{
					Stream: journalKey, ID: "99999999999999-0", Values: []any{"k", "v"},
				}).Err())
			}
			n := newSystem(t, client, notification.WithHeartbeat(500*time.Millisecond))
			r := record(t, subscribe(t, n, "k"))
			p := &publisher{system: n}
			require.Zero(t, p.publish(t.Context(), "k", 5))
			r.reached(t, p.last)
			require.NoError(t, admin.FlushAll(t.Context()).Err())
			assert.Equal(t, notification.GapUnreadable, told(t, r.sub).Reason)
			require.Eventually(t, func() bool { return n.HealthCheck(t.Context()) == nil }, patience, time.Millisecond)
			require.Zero(t, p.publish(t.Context(), "k", 5))
			r.reached(t, p.last)
			reconnects, beats := n.GetMetrics().Reconnects, calls(t, admin, "xlen")
			require.Eventually(t, func() bool { return calls(t, admin, "xlen") > beats+4 }, patience, time.Millisecond)
			assert.Equal(t, reconnects, n.GetMetrics().Reconnects)
			assert.Zero(t, r.verify(t, p.sent))
			assert.Len(t, r.gaps(), 1)
		})
	}
}

// The cursor moves in quiet times: what others publish meanwhile, the journal may forget.
func TestQuietSubscriptionKeepsUpWithTheJournal(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client, busy := server.Client(t), newSystem(t, server.Client(t), notification.WithHistory(100, 0))
	n := newSystem(t, client, notification.WithHistory(100, 0), notification.WithHeartbeat(500*time.Millisecond))
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

// Somebody put an older state of the journal back, on the same server.
func TestJournalThatWasSetBackIsAGap(t *testing.T) {
	t.Parallel()
	client := redistest.Start(t).Client(t)
	n := newSystem(t, client, notification.WithHeartbeat(50*time.Millisecond))
	r := record(t, subscribe(t, n, "k"))
	p := &publisher{system: n}
	require.Zero(t, p.publish(t.Context(), "k", 5))
	require.NoError(t, client.Copy(t.Context(), journalKey, journalKey+":copy", 0, false).Err())
	require.Zero(t, p.publish(t.Context(), "k", 5))
	r.reached(t, p.last)
	require.NoError(t, client.Rename(t.Context(), journalKey+":copy", journalKey).Err())
	assert.Equal(t, notification.GapRolledBack, told(t, r.sub).Reason)
	require.Zero(t, p.publish(t.Context(), "k", 5))
	r.reached(t, p.last)
	assert.Zero(t, r.verify(t, p.sent))
	assert.Equal(t, []notification.GapReason{notification.GapRolledBack}, r.gaps())
}

// The journal is deleted, or expires, and the clock was set back: IDs are lower than those before. Their offsets go on, so
// nothing is missing.
func TestEventIDsThatGoBackwardsAreNoGap(t *testing.T) {
	t.Parallel()
	client := redistest.Start(t).Client(t)
	n := newSystem(t, client, notification.WithHeartbeat(time.Hour))
	// A server whose clock was ahead.
	require.NoError(t, client.XAdd(t.Context(), &redis.XAddArgs{Stream: journalKey, ID: "99999999999999-0", Values: []any{"k", "v"}}).Err())
	r := record(t, subscribe(t, n, "k"))
	p := &publisher{system: n}
	require.Zero(t, p.publish(t.Context(), "k", 10))
	r.reached(t, p.last)
	require.NoError(t, client.Del(t.Context(), journalKey).Err())
	require.Zero(t, p.publish(t.Context(), "k", 10))
	r.reached(t, p.last)
	assert.Zero(t, r.verify(t, p.sent))
	assert.Empty(t, r.gaps())
	assert.Zero(t, n.GetMetrics().Reconnects)
}

// Somebody deletes the journal, or Redis evicts it, while the connection is cut.
func TestJournalDeletedDuringACutIsAGap(t *testing.T) {
	t.Parallel()
	for name, ahead := range map[string]bool{"clock as before": false, "clock behind": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t)
			admin := server.Client(t)
			if ahead {
				require.NoError(t, admin.XAdd(t.Context(), &redis.XAddArgs{
					Stream: journalKey, ID: "99999999999999-0", Values: []any{"k", "v"},
				}).Err())
			}
			client, proxy := through(t, server)
			n, outside := newSystem(t, client), newSystem(t, server.Client(t))
			r := record(t, subscribe(t, n, "k"))
			p := &publisher{system: outside}
			require.Zero(t, p.publish(t.Context(), "k", 5))
			r.reached(t, p.last)
			proxy.Refuse(true)
			proxy.Cut()
			require.Zero(t, p.publish(t.Context(), "k", 5))
			require.NoError(t, admin.Del(t.Context(), journalKey).Err())
			proxy.Refuse(false)
			assert.Equal(t, notification.GapTrimmed, told(t, r.sub).Reason)
			require.Zero(t, p.publish(t.Context(), "k", 5))
			r.reached(t, p.last)
			assert.Equal(t, 5, r.verify(t, p.sent))
			assert.Equal(t, []notification.GapReason{notification.GapTrimmed}, r.gaps())
		})
	}
}

// A journal that expires during a cut and was not written to meanwhile. Its state tells, and not a clock.
func TestJournalExpiredDuringACutIsNoGap(t *testing.T) {
	t.Parallel()
	for name, back := range map[string]bool{"and the clock goes on": false, "and the clock is back": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t)
			client, proxy := through(t, server)
			admin := server.Client(t)
			n, outside := newSystem(t, client), newSystem(t, admin)
			if back {
				require.NoError(t, admin.XAdd(t.Context(), &redis.XAddArgs{
					Stream: journalKey, ID: "99999999999999-0", Values: []any{"k", "v"},
				}).Err())
			}
			r := record(t, subscribe(t, n, "k"))
			p := &publisher{system: outside}
			require.Zero(t, p.publish(t.Context(), "k", 5))
			r.reached(t, p.last)
			proxy.Refuse(true)
			proxy.Cut()
			require.Eventually(t, func() bool { return health(n) != nil }, patience, time.Millisecond)
			require.NoError(t, admin.PExpire(t.Context(), journalKey, time.Millisecond).Err())
			require.Eventually(t, func() bool { return admin.Exists(t.Context(), journalKey).Val() == 0 }, patience, time.Millisecond)
			proxy.Refuse(false)
			require.Eventually(t, func() bool { return n.HealthCheck(t.Context()) == nil }, patience, time.Millisecond)
			require.Zero(t, p.publish(t.Context(), "k", 5))
			r.reached(t, p.last)
			assert.Zero(t, r.verify(t, p.sent))
			assert.Empty(t, r.gaps())
		})
	}
}

// An empty journal is filled and expires during a cut.
func TestJournalFilledAndExpiredDuringACutIsAGap(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client, proxy := through(t, server)
	history := notification.WithHistory(100, 200*time.Millisecond)
	n, outside := newSystem(t, client, history), newSystem(t, server.Client(t), history)
	r := record(t, subscribe(t, n, "k"))
	p := &publisher{system: outside}
	proxy.Refuse(true)
	proxy.Cut()
	require.Zero(t, p.publish(t.Context(), "k", 1))
	admin := server.Client(t)
	require.Eventually(t, func() bool { return admin.Exists(t.Context(), journalKey).Val() == 0 }, patience, time.Millisecond)
	proxy.Refuse(false)
	assert.Equal(t, notification.GapTrimmed, told(t, r.sub).Reason)
	require.Zero(t, p.publish(t.Context(), "k", 1))
	r.reached(t, p.last)
	assert.Equal(t, 1, r.verify(t, p.sent))
	assert.Equal(t, []notification.GapReason{notification.GapTrimmed}, r.gaps())
}

// meddler does something to the journal before and after a part of it is read.
type meddler struct {
	left          atomic.Int32 // parts still to be read before that
	before, after func()
}

func (m *meddler) hook() *partHook {
	return &partHook{read: func(_ context.Context, _ part, next func() error) error {
		if m.left.Add(-1) != 0 {
			return next()
		}
		m.before()
		if m.after != nil {
			defer m.after()
		}
		return next()
	}}
}

// The journal is trimmed faster than it is read.
func TestJournalTrimmedDuringRecoveryIsAGap(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client, proxy := through(t, server)
	admin := server.Client(t)
	hook := &meddler{before: func() { assert.NoError(t, admin.XTrimMaxLen(t.Context(), journalKey, 10).Err()) }}
	n := newSystem(t, withHook(client, hook.hook()))
	r := record(t, subscribe(t, n, "k"))
	p := &publisher{system: newSystem(t, server.Client(t))}
	require.Zero(t, p.publish(t.Context(), "k", 10))
	r.reached(t, p.last)
	proxy.Refuse(true)
	proxy.Cut()
	require.Zero(t, p.publish(t.Context(), "k", 2000))
	hook.left.Store(2) // after the first part
	proxy.Refuse(false)
	r.reached(t, p.last)
	assert.Positive(t, r.verify(t, p.sent))
	assert.Equal(t, []notification.GapReason{notification.GapTrimmed}, r.gaps())
}

// The journal was empty when the connection was cut, and is trimmed before it is read for the first time.
func TestJournalTrimmedBeforeItIsReadIsAGap(t *testing.T) {
	t.Parallel()
	server, history := redistest.Start(t), notification.WithHistory(100, 0)
	client, proxy := through(t, server)
	p := &publisher{system: newSystem(t, server.Client(t), history)}
	hook := &meddler{before: func() { assert.Zero(t, p.publish(t.Context(), "k", 500)) }}
	n := newSystem(t, withHook(client, hook.hook()), history)
	r := record(t, subscribe(t, n, "k"))
	hook.left.Store(1)
	proxy.Refuse(true)
	proxy.Cut()
	require.Zero(t, p.publish(t.Context(), "k", 1))
	proxy.Refuse(false)
	require.Eventually(t, func() bool { return r.last() > 0 }, patience, time.Millisecond)
	r.reached(t, p.last)
	assert.Positive(t, r.verify(t, p.sent))
	assert.Equal(t, []notification.GapReason{notification.GapTrimmed}, r.gaps())
}

// A replay reads a new data set before the connection has brought anything of it. What it reads comes once.
func TestReplayOfAWipedJournal(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client, admin := server.Client(t), server.Client(t)
	var hook meddler
	n := newSystem(t, withHook(client, hook.hook()), notification.WithBufferSize(1))
	hook.before = func() {
		assert.NoError(t, admin.FlushAll(t.Context()).Err())
		value := fmt.Sprintf(`"time":%q,"n":3}`, time.Now().UTC().Format(time.RFC3339Nano))
		event := redis.XAddArgs{Stream: journalKey, Values: []any{"k", "somebody.1\n1:k", "v", value}}
		assert.NoError(t, admin.XAdd(t.Context(), &event).Err())
	}
	hook.after = func() { assert.NoError(t, admin.Do(t.Context(), "client", "kill", "type", "pubsub").Err()) }
	s, other := subscribe(t, n, "k"), subscribe(t, n, "k*")
	for i := range 2 { // the second is left to the journal
		require.NoError(t, n.Publish(t.Context(), "k", numbered{i + 1}))
		next(t, other)
	}
	hook.left.Store(1)
	next(t, s)
	for _, expected := range []int{3, 4} {
		m := next(t, s)
		number, err := numberOf(m)
		require.NoError(t, err)
		assert.Equal(t, expected, number)
		assert.Equal(t, expected == 3, m.Gap != nil)
		require.Eventually(t, func() bool { return n.HealthCheck(t.Context()) == nil }, patience, time.Millisecond)
		require.NoError(t, n.Publish(t.Context(), "k", numbered{4}))
	}
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

// The data is wiped, and the next event has the millisecond of the last one, and by its publisher's clock is older.
func TestWipedWithinAMillisecond(t *testing.T) {
	t.Parallel()
	client := redistest.Start(t).Client(t)
	n := newSystem(t, client, notification.WithHeartbeat(time.Hour))
	s := subscribe(t, n, "k")
	require.NoError(t, n.Publish(t.Context(), "k", numbered{1}))
	last := next(t, s)
	ms, _, _ := strings.Cut(last.EventID, "-")
	id, value := ms+"-70", fmt.Sprintf(`"time":%q,"n":2}`, last.Time.Add(-time.Second).Format(time.RFC3339Nano))
	_, err := client.TxPipelined(t.Context(), func(p redis.Pipeliner) error {
		p.FlushAll(t.Context())
		p.XAdd(t.Context(), &redis.XAddArgs{Stream: journalKey, ID: id, Values: []any{"k", "somebody.1\n1:k", "v", value}})
		p.Publish(t.Context(), "k", `{"event_id":"`+id+`",`+value)
		return nil
	})
	require.NoError(t, err)
	m := next(t, s)
	assert.Equal(t, id, m.EventID, "it is no foreign message")
	require.NoError(t, n.Publish(t.Context(), "k", numbered{3}))
	assert.NotEmpty(t, next(t, s).EventID)
}
