package notification_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
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
	// It is live again, and nothing was reported to it.
	require.Zero(t, p.publish(t.Context(), "k", 5))
	late.reached(t, p.last)
	assert.Empty(t, late.gaps())
}

// All that was left to the journal has been read, but the last one still waits for its reader. What is published now does
// not depend on the journal knowing those before.
func TestNewEventsWhileTheLastOneReadWaits(t *testing.T) {
	t.Parallel()
	n := newSystem(t, redistest.Start(t).Client(t), notification.WithBufferSize(1), notification.WithHistory(100, 0))
	slow := subscribe(t, n, "k")
	p, busy := &publisher{system: n}, &publisher{system: n}
	require.Zero(t, p.publish(t.Context(), "k", 3))
	require.Eventually(t, func() bool {
		return gauge(t, n, "replaying_subscribers") == 1
	}, patience, time.Millisecond)
	for range 2 {
		next(t, slow)
		require.Eventually(t, func() bool { return len(slow.Messages()) == 1 }, patience, time.Millisecond)
	}
	require.Zero(t, busy.publish(t.Context(), "busy", 500))
	require.Zero(t, p.publish(t.Context(), "k", 5))
	late := record(t, slow)
	late.reached(t, p.last)
	assert.Zero(t, late.verify(t, p.sent[2:]))
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

// reads holds up what reads the journal, and remembers for which server that was meant.
type reads struct {
	hold chan struct{} // closed to let them go
	held atomic.Int32

	mu       sync.Mutex
	listened []string // guarded by mu
}

func (h *reads) hook() *partHook {
	return &partHook{read: func(_ context.Context, p part, next func() error) error {
		h.mu.Lock()
		h.listened = append(h.listened, p.listened)
		h.mu.Unlock()
		h.held.Add(1)
		<-h.hold
		return next()
	}}
}

// A replay that began before the connection was cut goes on when another server has taken over already. It must not read
// there: what it read would be read again after the recovery.
func TestReplayReadsNowhereElseAfterACut(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client, admin := server.Client(t), server.Client(t)
	hook := &reads{hold: make(chan struct{})}
	n := newSystem(t, withHook(client, hook.hook()), notification.WithBufferSize(1))
	var slow []*notification.Subscription
	for range 10 {
		slow = append(slow, subscribe(t, n, "k"))
	}
	p := &publisher{system: newSystem(t, admin)}
	require.Zero(t, p.publish(t.Context(), "k", 10))
	// None has room for what somebody else publishes behind that.
	require.NoError(t, admin.Publish(t.Context(), "k", "foreign").Err())
	require.Eventually(t, func() bool { return n.GetMetrics().DroppedMessages == int64(len(slow)) }, patience, time.Millisecond)
	next(t, slow[0]) // room for one, which is read for
	require.Eventually(t, func() bool { return hook.held.Load() > 0 }, patience, time.Millisecond)
	for _, s := range slow[1:] {
		next(t, s) // some have their turn after that one
	}
	reconnects := n.GetMetrics().Reconnects
	require.NoError(t, admin.Do(t.Context(), "client", "kill", "type", "pubsub").Err())
	require.Eventually(t, func() bool { return n.GetMetrics().Reconnects > reconnects }, patience, time.Millisecond)
	close(hook.hold)
	for i, s := range slow {
		late := record(t, s)
		late.reached(t, p.last)
		assert.Zero(t, late.verify(t, p.sent[1:]), i)
	}
	hook.mu.Lock()
	defer hook.mu.Unlock()
	// Nor does it ask in vain for each subscription.
	refused := admin.Info(t.Context(), "errorstats").Val()
	var count int
	if _, rest, found := strings.Cut(refused, "errorstat_READONLY:count="); found {
		_, err := fmt.Sscanf(rest, "%d", &count)
		require.NoError(t, err)
	}
	assert.LessOrEqual(t, count, 4, "one command and its repetitions")
}
