package notification_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/notification"
)

// placed is where a recorder got a gap, by the numbers of the events.
type placed struct {
	reason        notification.GapReason
	at            int // the message that carries it
	after, before int // 0 for none
}

// places returns where the gaps are.
func (r *recorder) places(tb testing.TB) (places []placed) {
	tb.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	numbers := map[string]int{"": 0}
	for _, m := range r.messages {
		n, err := numberOf(m)
		require.NoError(tb, err)
		if numbers[m.EventID] = n; m.Gap != nil {
			places = append(places, placed{m.Gap.Reason, n, numbers[m.Gap.After], numbers[m.Gap.Before]})
		}
	}
	return places
}

// pair is a master and its replica, which part makes a master.
type pair struct {
	master, replica     *redistest.Server
	toMaster, toReplica *redis.Client
}

// startPair starts them. They have seen each other, so that the master does not take another identity later.
func startPair(t *testing.T) *pair {
	t.Helper()
	p := &pair{master: redistest.Start(t), replica: redistest.Start(t)}
	p.toMaster, p.toReplica = p.master.Client(t), p.replica.Client(t)
	require.NoError(t, p.toReplica.Do(t.Context(), "replicaof", p.master.Host(), p.master.Port()).Err())
	require.NoError(t, p.toMaster.Set(t.Context(), "x", "", 0).Err())
	p.synced(t)
	return p
}

func (p *pair) synced(t *testing.T) {
	t.Helper()
	require.EqualValues(t, 1, p.toMaster.Wait(t.Context(), 1, patience).Val())
}

// part makes the replica a master, with what it has got so far.
func (p *pair) part(t *testing.T) {
	t.Helper()
	p.synced(t)
	require.NoError(t, p.toReplica.Do(t.Context(), "replicaof", "no", "one").Err())
}

// cutOff cuts a system off from the master, and lets it reach no other server.
func (p *pair) cutOff(t *testing.T, n *notification.RedisNotificationSystem, target *atomic.Pointer[string]) {
	t.Helper()
	nowhere := "127.0.0.1:1"
	target.Store(&nowhere)
	require.NoError(t, p.toMaster.Do(t.Context(), "client", "kill", "type", "pubsub").Err())
	require.Eventually(t, func() bool { return n.HealthCheck(t.Context()) != nil }, patience, time.Millisecond)
}

// hundred returns a system on client, a publisher on the master, and a recorder that has got 100 events of that.
func (p *pair) hundred(
	t *testing.T, client redis.UniversalClient,
) (*notification.RedisNotificationSystem, *publisher, *recorder) {
	t.Helper()
	n := newSystem(t, client, notification.WithLongestPause(10*time.Millisecond))
	r, from := record(t, subscribe(t, n, "k")), &publisher{system: newSystem(t, p.toMaster)}
	require.Zero(t, from.publish(t.Context(), "k", 100))
	r.reached(t, 100)
	return n, from, r
}

// What a failover has cost lies where the journals of both servers part, which may be far behind the place where a subscription was
// cut off. So its gap is open until it has got everything that the new server had.
func TestGapOfAFailoverIsOpen(t *testing.T) {
	t.Parallel()
	servers := startPair(t)
	client, target := switched(t, servers.master.Addr())
	n := newSystem(t, client, notification.WithBufferSize(8), notification.WithLongestPause(10*time.Millisecond))
	r, slow := record(t, subscribe(t, n, "k")), subscribe(t, n, "k*")
	p := &publisher{system: newSystem(t, servers.toMaster)}
	require.Zero(t, p.publish(t.Context(), "k", 100))
	r.reached(t, 100)

	servers.cutOff(t, n, target)
	require.Zero(t, p.publish(t.Context(), "k", 100)) // replicated
	servers.part(t)
	require.Zero(t, p.publish(t.Context(), "k", 10)) // lost
	servers.master.Kill()
	p.system = newSystem(t, servers.toReplica)
	require.Zero(t, p.publish(t.Context(), "k", 10)) // nobody knows that these are behind what is lost
	addr := servers.replica.Addr()
	target.Store(&addr)
	r.reached(t, 220)
	require.Eventually(t, func() bool { return n.HealthCheck(t.Context()) == nil }, patience, time.Millisecond)
	require.Zero(t, p.publish(t.Context(), "k", 10))
	r.reached(t, 230)
	assert.Equal(t, 10, r.verify(t, p.sent))
	assert.Equal(t, []placed{
		{notification.GapFailover, 101, 100, 0}, {notification.GapFailover, 221, 100, 221},
	}, r.places(t))

	// One that had not read what it had is in the same uncertainty, from where the journals may differ.
	late := record(t, slow)
	late.reached(t, 230)
	assert.Equal(t, 10, late.verify(t, p.sent))
	assert.Equal(t, []placed{
		{notification.GapFailover, 101, 100, 0}, {notification.GapFailover, 221, 100, 221},
	}, late.places(t))

	// Once it is closed there is no other.
	require.Zero(t, p.publish(t.Context(), "k", 10))
	r.reached(t, 240)
	assert.Len(t, r.places(t), 2)
}

// A subscription that is behind when a server comes back without its last events has got some of those that remain, and not
// others: where the lost ones were is not known either. One that had got everything lacks nothing in front of the first new one.
func TestGapOfARollbackIsOpen(t *testing.T) {
	t.Parallel()
	servers := startPair(t)
	client, target := switched(t, servers.master.Addr())
	n := newSystem(t, client, notification.WithBufferSize(8), notification.WithHeartbeat(time.Hour))
	r, slow := record(t, subscribe(t, n, "k")), subscribe(t, n, "k*")
	p := &publisher{system: newSystem(t, servers.toMaster)}
	require.Zero(t, p.publish(t.Context(), "k", 100))
	servers.part(t)
	require.Zero(t, p.publish(t.Context(), "k", 10)) // only those get them who are not behind
	r.reached(t, 110)
	p.system = newSystem(t, servers.toReplica)
	require.Zero(t, p.publish(t.Context(), "k", 10))
	addr := servers.replica.Addr()
	target.Store(&addr)
	servers.master.Kill()
	require.Eventually(t, func() bool {
		return len(pubsubClients(t, servers.toReplica)) == 1 && n.HealthCheck(t.Context()) == nil
	}, patience, time.Millisecond)
	r.reached(t, 120)
	require.Zero(t, p.publish(t.Context(), "k", 10))
	r.reached(t, 130)
	assert.Zero(t, r.verify(t, p.sent))
	assert.Equal(t, []placed{
		{notification.GapRolledBack, 111, 110, 0}, {notification.GapRolledBack, 121, 110, 121},
	}, r.places(t))

	late := record(t, slow)
	late.reached(t, 130)
	assert.Equal(t, 10, late.verify(t, p.sent))
	places := late.places(t)
	require.Len(t, places, 2)
	assert.Zero(t, places[0].before)
	assert.Equal(t, placed{notification.GapRolledBack, 121, places[0].after, 121}, places[1])
}

// The new server has trimmed its journal beyond the place where a subscription was cut off. That is one loss, and what the former
// server took last is another one, further ahead.
func TestTrimmedJournalHidesNoFailover(t *testing.T) {
	t.Parallel()
	servers := startPair(t)
	client, target := switched(t, servers.master.Addr())
	n, p, r := servers.hundred(t, client)
	servers.cutOff(t, n, target)
	require.Zero(t, p.publish(t.Context(), "k", 100))
	servers.part(t)
	require.Zero(t, p.publish(t.Context(), "k", 10)) // lost
	servers.master.Kill()
	require.EqualValues(t, 150, servers.toReplica.XTrimMaxLen(t.Context(), journalKey, 50).Val())
	p.system = newSystem(t, servers.toReplica)
	require.Zero(t, p.publish(t.Context(), "k", 10))
	addr := servers.replica.Addr()
	target.Store(&addr)
	r.reached(t, 220)
	require.Eventually(t, func() bool { return n.HealthCheck(t.Context()) == nil }, patience, time.Millisecond)
	require.Zero(t, p.publish(t.Context(), "k", 1))
	r.reached(t, 221)
	assert.Equal(t, 50+10, r.verify(t, p.sent))
	assert.Equal(t, []placed{
		{notification.GapTrimmed, 151, 100, 0}, {notification.GapFailover, 221, 100, 221},
	}, r.places(t))
	told := map[notification.GapReason]bool{}
	for range 2 {
		told[(<-r.sub.Gaps()).Reason] = true
	}
	assert.Equal(t, map[notification.GapReason]bool{notification.GapFailover: true, notification.GapTrimmed: true}, told)
}

// A subscription that is behind while the journal changes twice gets the gap of each change in its place.
func TestGapsOfTwoChangesHaveTheirOwnPlaces(t *testing.T) {
	t.Parallel()
	servers := startPair(t)
	client, target := switched(t, servers.master.Addr())
	n := newSystem(t, client, notification.WithBufferSize(8))
	r, slow := record(t, subscribe(t, n, "k")), subscribe(t, n, "k*")
	p := &publisher{system: newSystem(t, servers.toMaster)}
	require.Zero(t, p.publish(t.Context(), "k", 100))
	r.reached(t, 100)
	require.NoError(t, servers.toMaster.FlushAll(t.Context()).Err())
	require.Zero(t, p.publish(t.Context(), "k", 50))
	r.reached(t, 150)
	assert.Equal(t, notification.GapWiped, told(t, slow).Reason)

	servers.part(t)
	addr := servers.replica.Addr()
	target.Store(&addr)
	servers.master.Kill()
	assert.Equal(t, notification.GapFailover, told(t, slow).Reason)
	p.system = newSystem(t, servers.toReplica)
	require.Zero(t, p.publish(t.Context(), "k", 10))
	r.reached(t, 160)
	assert.Zero(t, r.verify(t, p.sent))
	assert.Equal(t, []placed{{notification.GapFailover, 151, 150, 151}}, r.places(t))

	late := record(t, slow)
	late.reached(t, 160)
	assert.Equal(t, 100-8, late.verify(t, p.sent))
	assert.Equal(t, []placed{
		{notification.GapWiped, 101, 8, 101}, {notification.GapFailover, 151, 150, 151},
	}, late.places(t))
}

// Data that is wiped just before a failover hides no failover: what the former server took in between may be lost as well.
func TestWipedJournalHidesNoFailover(t *testing.T) {
	t.Parallel()
	servers := startPair(t)
	client, target := switched(t, servers.master.Addr())
	n, p, r := servers.hundred(t, client)
	servers.cutOff(t, n, target)
	require.NoError(t, servers.toMaster.FlushAll(t.Context()).Err())
	require.Zero(t, p.publish(t.Context(), "k", 10))
	servers.part(t)
	require.Zero(t, p.publish(t.Context(), "k", 10)) // lost
	servers.master.Kill()
	p.system = newSystem(t, servers.toReplica)
	require.Zero(t, p.publish(t.Context(), "k", 10))
	addr := servers.replica.Addr()
	target.Store(&addr)
	r.reached(t, 130)
	require.Eventually(t, func() bool { return n.HealthCheck(t.Context()) == nil }, patience, time.Millisecond)
	require.Zero(t, p.publish(t.Context(), "k", 1))
	r.reached(t, 131)
	assert.Equal(t, 10, r.verify(t, p.sent))
	assert.Equal(t, []placed{
		{notification.GapWiped, 101, 100, 0}, {notification.GapWiped, 131, 100, 131},
	}, r.places(t))
}

// A server came back without its last events, and has trimmed its journal beyond the place where a subscription is behind. That
// what was rolled back is further ahead does not hide what is missing in front of what is left.
func TestRolledBackJournalHidesNoTrimming(t *testing.T) {
	t.Parallel()
	servers := startPair(t)
	client, target := switched(t, servers.master.Addr())
	n := newSystem(t, client, notification.WithBufferSize(8), notification.WithLongestPause(10*time.Millisecond))
	r, slow := record(t, subscribe(t, n, "k")), subscribe(t, n, "k*")
	p := &publisher{system: newSystem(t, servers.toMaster)}
	require.Zero(t, p.publish(t.Context(), "k", 100))
	r.reached(t, 100)
	subscribe(t, n, "other") // for which a heartbeat comes that names them
	servers.part(t)
	require.Zero(t, p.publish(t.Context(), "k", 10)) // lost
	r.reached(t, 110)
	require.EqualValues(t, 50, servers.toReplica.XTrimMaxLen(t.Context(), journalKey, 50).Val())
	p.system = newSystem(t, servers.toReplica)
	require.Zero(t, p.publish(t.Context(), "k", 1))
	addr := servers.replica.Addr()
	target.Store(&addr)
	servers.master.Kill()
	r.reached(t, 111)
	assert.Equal(t, []placed{{notification.GapRolledBack, 111, 110, 0}}, r.places(t))

	late := record(t, slow)
	late.reached(t, 111)
	assert.Equal(t, 50-8+10, late.verify(t, p.sent))
	assert.Equal(t, []placed{{notification.GapTrimmed, 51, 8, 51}, {notification.GapRolledBack, 111, 100, 0}}, late.places(t))
}
