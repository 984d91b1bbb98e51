package notification_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/notification"
)

// A subscription that falls behind misses nothing in front of the event that did not fit, so the journal need not reach
// back further.
func TestFallingBehindLongAfterTheLastEvent(t *testing.T) {
	t.Parallel()
	n := newSystem(t, redistest.Start(t).Client(t), notification.WithBufferSize(1), notification.WithHistory(100, 0))
	slow, other := subscribe(t, n, "k"), record(t, subscribe(t, n, "k*"))
	p, busy := &publisher{system: n}, &publisher{system: n}
	require.Zero(t, p.publish(t.Context(), "k", 1))
	require.Zero(t, busy.publish(t.Context(), "busy", 500)) // the journal forgets the first
	require.Zero(t, p.publish(t.Context(), "k", 1))
	other.reached(t, p.last)
	late := record(t, slow)
	late.reached(t, p.last)
	assert.Zero(t, late.verify(t, p.sent))
	assert.Empty(t, late.gaps())
}

// What was read from the journal waits for room in the buffer for so long that the journal forgets it.
func TestWhatWasReadMayBeForgotten(t *testing.T) {
	t.Parallel()
	n := newSystem(t, redistest.Start(t).Client(t), notification.WithBufferSize(1), notification.WithHistory(100, 0))
	slow, other := subscribe(t, n, "k"), record(t, subscribe(t, n, "k*"))
	p, busy := &publisher{system: n}, &publisher{system: n}
	require.Zero(t, p.publish(t.Context(), "k", 5))
	other.reached(t, p.last)
	before := n.GetMetrics().MessagesRecovered
	first := next(t, slow) // now the rest is read, and one goes into the buffer
	require.Eventually(t, func() bool { return n.GetMetrics().MessagesRecovered > before }, patience, time.Millisecond)
	require.Zero(t, busy.publish(t.Context(), "busy", 500))
	late := record(t, slow)
	late.reached(t, p.last)
	assert.Nil(t, first.Gap)
	assert.Zero(t, late.verify(t, p.sent[1:]))
	// It is live again, and was not told of anything.
	require.Zero(t, p.publish(t.Context(), "k", 5))
	late.reached(t, p.last)
	assert.Empty(t, late.gaps())
}

// The first event that does not fit is forgotten before the subscriber has room for it. Nothing of the journal was
// delivered before it, only what others publish.
func TestFirstEventLeftToTheJournalIsForgotten(t *testing.T) {
	t.Parallel()
	client := redistest.Start(t).Client(t)
	n := newSystem(t, client, notification.WithBufferSize(1), notification.WithHistory(100, 0))
	slow, other := subscribe(t, n, "k"), subscribe(t, n, "k*")
	require.NoError(t, client.Publish(t.Context(), "k", "foreign").Err())
	next(t, other)
	p, busy := &publisher{system: n}, &publisher{system: n}
	require.Zero(t, p.publish(t.Context(), "k", 1))
	next(t, other)
	require.Zero(t, busy.publish(t.Context(), "busy", 500))
	assert.Equal(t, "foreign", next(t, slow).Payload)
	assert.Equal(t, notification.GapTrimmed, told(t, slow).Reason)
	require.Zero(t, p.publish(t.Context(), "k", 1))
	m := next(t, slow)
	require.NotNil(t, m.Gap)
	assert.Equal(t, notification.GapTrimmed, m.Gap.Reason)
}
