package notification_test

import (
	"fmt"
	"strings"
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

// failOver leads a client to another server, and waits until the systems that use it have recovered there.
func failOver(t *testing.T, target *atomic.Pointer[string], from, to *redistest.Server, systems ...*notification.RedisNotificationSystem) {
	t.Helper()
	addr, client := to.Addr(), to.Client(t)
	target.Store(&addr)
	require.NoError(t, from.Client(t).Do(t.Context(), "client", "kill", "type", "pubsub").Err())
	for _, n := range systems {
		require.Eventually(t, func() bool {
			return len(pubsubClients(t, client)) == len(systems) && n.HealthCheck(t.Context()) == nil
		}, patience, time.Millisecond)
	}
}

// publishAgain does what a publisher does that has lost the reply: an event of another journal gets a new place.
func publishAgain(t *testing.T, client *redis.Client, event map[string]any) {
	t.Helper()
	id, err := client.XAdd(t.Context(), &redis.XAddArgs{
		Stream: journalKey, Values: []any{"k", event["k"], "v", event["v"]},
	}).Result()
	require.NoError(t, err)
	require.NoError(t, client.Publish(t.Context(), "k", fmt.Sprintf(`{"event_id":%q,%s`, id, event["v"])).Err())
}

// A publisher whose reply was lost in a failover repeats its event on the new master. If the old one had delivered it
// but did not pass it on, it has another place there, and is the same event all the same. So it is after several failovers.
func TestEventRepeatedAfterAFailoverArrivesOnce(t *testing.T) {
	t.Parallel()
	before, between, after := redistest.Start(t), redistest.Start(t), redistest.Start(t)
	toBefore, toAfter := before.Client(t), after.Client(t)
	client, target := switched(t, before.Addr())
	n := newSystem(t, client)
	r := record(t, subscribe(t, n, "k"))
	p := &publisher{system: newSystem(t, toBefore)}
	require.Zero(t, p.publish(t.Context(), "k", 10))
	r.reached(t, p.last)
	lost, err := toBefore.XRange(t.Context(), journalKey, "-", "+").Result()
	require.NoError(t, err)
	publishAgain(t, toAfter, lost[8].Values) // the recovery will come across this one
	failOver(t, target, before, between, n)
	failOver(t, target, between, after, n)
	publishAgain(t, toAfter, lost[9].Values) // this one arrives live
	p.system = newSystem(t, toAfter)
	require.Zero(t, p.publish(t.Context(), "k", 10))
	r.reached(t, p.last)
	assert.Zero(t, r.verify(t, p.sent))
	assert.Len(t, r.gaps(), 1)
}

// As TestEventRepeatedAfterAFailoverArrivesOnce, with a subscriber whose connection stays with the old master, which
// becomes a replica and passes on what is published on the new one.
func TestEventRepeatedAfterAFailoverArrivesOnceThroughTheOldMaster(t *testing.T) {
	t.Parallel()
	before, after := redistest.Start(t), redistest.Start(t)
	toBefore, toAfter := before.Client(t), after.Client(t)
	require.NoError(t, toAfter.Do(t.Context(), "replicaof", before.Host(), before.Port()).Err())
	n := newSystem(t, toBefore, notification.WithHeartbeat(time.Hour))
	r := record(t, subscribe(t, n, "k"))
	p := &publisher{system: newSystem(t, toBefore)}
	require.Zero(t, p.publish(t.Context(), "k", 10))
	require.EqualValues(t, 1, toBefore.Wait(t.Context(), 1, patience).Val())
	require.NoError(t, toAfter.Do(t.Context(), "replicaof", "no", "one").Err())
	require.Zero(t, p.publish(t.Context(), "k", 1)) // the publisher does not learn of it
	r.reached(t, p.last)
	lost := toBefore.XRevRangeN(t.Context(), journalKey, "+", "-", 1).Val()[0].Values

	after.Stop() // the old master cannot copy the data yet
	require.NoError(t, toBefore.Do(t.Context(), "replicaof", after.Host(), after.Port()).Err())
	require.NoError(t, toBefore.Do(t.Context(), "client", "kill", "type", "pubsub").Err())
	assert.Equal(t, notification.GapFailover, told(t, r.sub).Reason)
	require.Eventually(t, func() bool { return n.HealthCheck(t.Context()) == nil }, patience, time.Millisecond)
	after.Continue()
	require.Eventually(t, func() bool {
		return strings.Contains(toBefore.Info(t.Context(), "replication").Val(), "master_link_status:up")
	}, patience, time.Millisecond)
	publishAgain(t, toAfter, lost)
	p.system = newSystem(t, toAfter)
	require.Zero(t, p.publish(t.Context(), "k", 10))
	r.reached(t, p.last)
	assert.Zero(t, r.verify(t, p.sent))
}

// As TestEventRepeatedAfterAFailoverArrivesOnce, with a subscriber that falls behind after it: it must not come across
// the repetition in the journal.
func TestEventRepeatedAfterAFailoverIsNotReplayed(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		live   bool // the repetition arrives live, and is not recovered
		behind int  // events left to the journal before the failover
	}{
		"arrived live":      {live: true},
		"recovered":         {},
		"live and behind":   {live: true, behind: 1},
		"behind":            {behind: 1},
		"behind by several": {behind: 5},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const buffer = 10
			before, after := redistest.Start(t), redistest.Start(t)
			toBefore, toAfter := before.Client(t), after.Client(t)
			client, target := switched(t, before.Addr())
			n := newSystem(t, client, notification.WithBufferSize(buffer))
			slow, other := subscribe(t, n, "k"), record(t, subscribe(t, n, "k*"))
			p := &publisher{system: newSystem(t, toBefore)}
			require.Zero(t, p.publish(t.Context(), "k", buffer)) // the buffer is full
			last := toBefore.XRevRangeN(t.Context(), journalKey, "+", "-", 1).Val()[0].Values
			require.Zero(t, p.publish(t.Context(), "k", tc.behind))
			other.reached(t, p.last)
			if !tc.live {
				publishAgain(t, toAfter, last)
			}
			failOver(t, target, before, after, n)
			if tc.live {
				publishAgain(t, toAfter, last)
			}
			p.system = newSystem(t, toAfter)
			require.Zero(t, p.publish(t.Context(), "k", 1)) // it falls behind
			other.reached(t, p.last)
			late := record(t, slow)
			late.reached(t, p.last)
			assert.Equal(t, tc.behind, late.verify(t, p.sent), "what it has not read is gone")
			assert.Zero(t, other.verify(t, p.sent))
		})
	}
}

// A subscriber who is behind could read in the journal what the connection has not brought yet. If the server then fails,
// nobody would know it again.
func TestReplayGoesNoFurtherThanTheConnection(t *testing.T) {
	t.Parallel()
	before, after := redistest.Start(t), redistest.Start(t)
	toBefore, toAfter := before.Client(t), after.Client(t)
	proxy := faultproxy.New(t, before.Addr())
	commands, target := switched(t, before.Addr())
	listening := redis.NewClient(&redis.Options{Addr: proxy.Addr()})
	t.Cleanup(func() { _ = listening.Close() })
	client := newApart(commands, listening)
	n := newSystem(t, client, notification.WithBufferSize(2), notification.WithHeartbeat(time.Hour))
	slow := subscribe(t, n, "k")
	p := &publisher{system: newSystem(t, toBefore)}
	require.Zero(t, p.publish(t.Context(), "k", 3)) // the third is left to the journal
	require.Eventually(t, func() bool { return gauge(t, n, "replaying_subscribers") == 1 }, patience, time.Millisecond)
	proxy.SwallowToClient(true)
	require.Zero(t, p.publish(t.Context(), "k", 1)) // the publisher does not learn of it
	lost := toBefore.XRevRangeN(t.Context(), journalKey, "+", "-", 1).Val()[0].Values
	r := record(t, slow)
	r.reached(t, p.last-1)

	addr := after.Addr()
	target.Store(&addr)
	client.subscriptions.Store(toAfter)
	proxy.Cut()
	assert.Equal(t, notification.GapWiped, told(t, r.sub).Reason)
	publishAgain(t, toAfter, lost)
	p.system = newSystem(t, toAfter)
	require.Zero(t, p.publish(t.Context(), "k", 10))
	r.reached(t, p.last)
	assert.Zero(t, r.verify(t, p.sent))
}

// A publisher repeats an event after a failover. Who had it before does not get it again; but who had not, because he was
// behind or has come since, does.
func TestEventRepeatedAfterAFailoverReachesWhoHadItNot(t *testing.T) {
	t.Parallel()
	before, after := redistest.Start(t), redistest.Start(t)
	toBefore, toAfter := before.Client(t), after.Client(t)
	client, target := switched(t, before.Addr())
	n := newSystem(t, client, notification.WithBufferSize(1))
	slow := subscribe(t, n, "k")
	quick := newSystem(t, client)
	other := record(t, subscribe(t, quick, "k"))
	p := &publisher{system: newSystem(t, toBefore)}
	require.Zero(t, p.publish(t.Context(), "k", 2)) // the second is left to the journal
	other.reached(t, p.last)
	lost := toBefore.XRevRangeN(t.Context(), journalKey, "+", "-", 1).Val()[0].Values
	require.Eventually(t, func() bool {
		return gauge(t, n, "replaying_subscribers") == 1
	}, patience, time.Millisecond)

	failOver(t, target, before, after, n, quick)
	newcomer := record(t, subscribe(t, quick, "k"))
	p.system = newSystem(t, toAfter)
	require.Zero(t, p.publish(t.Context(), "k", 3))
	other.reached(t, p.last)
	numbers := []int{decoded(t, next(t, slow))} // now the others are read, and two of them wait outside the buffer
	require.Eventually(t, func() bool { return n.GetMetrics().MessagesRecovered == 1 }, patience, time.Millisecond)

	publishAgain(t, toAfter, lost)
	require.Zero(t, p.publish(t.Context(), "k", 1))
	for len(numbers) < 6 {
		numbers = append(numbers, decoded(t, next(t, slow)))
	}
	assert.Equal(t, []int{1, 3, 4, 5, 2, 6}, numbers)
	other.reached(t, 6)
	newcomer.reached(t, 6)
	assert.Equal(t, []int{1, 2, 3, 4, 5, 6}, other.numbers)
	assert.Equal(t, []int{3, 4, 5, 2, 6}, newcomer.numbers)
}

func decoded(t *testing.T, m *notification.Message) int {
	t.Helper()
	v, err := notification.Decode[numbered](m)
	require.NoError(t, err)
	return v.N
}
