package notification_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/notification"
)

// A demoted master keeps its subscribers, and is without the new master for longer than a heartbeat before it has all data
// of that. Until then nothing is delivered, and then everything that was published on the new one, in its order.
func TestDemotedMasterWaitsForItsCopy(t *testing.T) {
	t.Parallel()
	const heartbeat = 100 * time.Millisecond
	before, after := redistest.Start(t), redistest.Start(t)
	toBefore, toAfter := before.Client(t), after.Client(t)
	require.NoError(t, toAfter.Do(t.Context(), "replicaof", before.Host(), before.Port()).Err())
	require.NoError(t, toBefore.Set(t.Context(), "k", "v", 0).Err())
	require.EqualValues(t, 1, toBefore.Wait(t.Context(), 1, patience).Val())
	log, logs := logging()
	n := newSystem(t, toBefore, notification.WithHeartbeat(heartbeat), log)
	r := record(t, subscribe(t, n, "k"))
	p := &publisher{system: n}
	require.Zero(t, p.publish(t.Context(), "k", 5))
	r.reached(t, p.last)
	require.EqualValues(t, 1, toBefore.Wait(t.Context(), 1, patience).Val())

	require.NoError(t, toAfter.Do(t.Context(), "replicaof", "no", "one").Err())
	require.NoError(t, toBefore.Set(t.Context(), "diverged", "", 0).Err()) // so that all data has to be copied
	p.system = newSystem(t, toAfter)
	require.Zero(t, p.publish(t.Context(), "k", 95))
	after.Stop() // it cannot send its data yet
	require.NoError(t, toBefore.Do(t.Context(), "replicaof", after.Host(), after.Port()).Err())
	require.Eventually(t, func() bool {
		return logs.FilterMessageSnippet("without a link to its master").Len() > 0
	}, patience, time.Millisecond)
	require.ErrorIs(t, health(n), notification.ErrNotLive)
	after.Continue()
	r.reached(t, p.last)
	require.Zero(t, p.publish(t.Context(), "k", 5))
	r.reached(t, p.last)
	assert.Zero(t, r.verify(t, p.sent))
	assert.Equal(t, []notification.GapReason{notification.GapFailover}, r.gaps())
	require.Eventually(t, func() bool { return n.HealthCheck(t.Context()) == nil }, patience, time.Millisecond)
}
