package notification_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/notification"
)

// What was read for one that is behind is remembered, though others had read what is further ahead before: it does not come again
// when the journal is rolled back.
func TestPartReadBehindAnotherComesOnce(t *testing.T) {
	t.Parallel()
	servers := startPair(t)
	client, target := switched(t, servers.master.Addr())
	n := newSystem(t, client, notification.WithBufferSize(8), notification.WithLongestPause(10*time.Millisecond))
	slow, quick := subscribe(t, n, "k"), record(t, subscribe(t, n, "k*"))
	p, old := &publisher{system: newSystem(t, servers.toMaster)}, newSystem(t, servers.toMaster)
	ids := record(t, subscribe(t, old, "k"))
	require.Zero(t, p.publish(t.Context(), "k", 20))
	quick.reached(t, 20)
	require.NoError(t, quick.sub.Close()) // or it would read the journal in its order
	nowhere, before, after := "127.0.0.1:1", servers.master.Addr(), servers.replica.Addr()

	// The connection brings none of these.
	target.Store(&nowhere)
	require.NoError(t, servers.toMaster.Do(t.Context(), "client", "kill", "type", "pubsub").Err())
	require.Eventually(t, func() bool { return n.HealthCheck(t.Context()) != nil }, patience, time.Millisecond)
	require.Zero(t, p.publish(t.Context(), "k", 100))
	servers.part(t)
	require.Zero(t, p.publish(t.Context(), "k", 80))
	ids.reached(t, 200)
	target.Store(&before)
	require.Eventually(t, func() bool { return n.HealthCheck(t.Context()) == nil }, patience, time.Millisecond)

	ahead := n.SubscribeFrom(t.Context(), "k", ids.messages[149].EventID)
	for number := 151; number <= 200; number++ {
		next(t, ahead)
	}
	late := &recorder{sub: slow}
	receive := func(upTo int) {
		for late.last() < upTo {
			m := next(t, slow)
			number, err := numberOf(m)
			require.NoError(t, err)
			late.messages, late.numbers = append(late.messages, m), append(late.numbers, number)
		}
	}
	receive(80)

	target.Store(&after)
	servers.master.Kill()
	assert.Equal(t, notification.GapRolledBack, told(t, slow).Reason)
	p.system = newSystem(t, servers.toReplica)
	require.Zero(t, p.publish(t.Context(), "k", 10))
	receive(210)
	late.verify(t, p.sent)
}
