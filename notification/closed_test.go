package notification

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
)

// fallBehind returns a subscription that is behind, with one message in its buffer.
func fallBehind(t *testing.T) (*RedisNotificationSystem, *Subscription) {
	t.Helper()
	n, err := NewRedisNotificationSystem(redistest.Start(t).Client(t), WithBufferSize(1))
	require.NoError(t, err)
	t.Cleanup(func() { _ = n.Shutdown(context.Background()) })
	s, ok := n.Subscribe(t.Context(), "k").(*Subscription)
	require.True(t, ok)
	for range 5 {
		require.NoError(t, n.Publish(t.Context(), "k", struct{}{}))
	}
	require.Eventually(t, func() bool {
		s.topic.mu.Lock()
		defer s.topic.mu.Unlock()
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.state == replaying && s.last.less(s.topic.passed)
	}, 15*time.Second, time.Millisecond)
	return n, s
}

// TestGapsOfASubscriptionThatIsBeingClosed: its channels are closed before its name forgets it.
func TestGapsOfASubscriptionThatIsBeingClosed(t *testing.T) {
	t.Parallel()
	n, s := fallBehind(t)
	require.NoError(t, s.Close())
	cursor := n.pump.dispatcher.at().pos
	require.False(t, cursor.isZero())
	s.topic.mu.Lock()
	defer s.topic.mu.Unlock()
	s.expired(s.topic.passed, cursor)
	assert.False(t, s.missed(GapWiped, cursor))
	s.rewind(position{})
	assert.Equal(t, nothing, s.offer(&Message{}, position{}, cursor, 0))
	assert.Equal(t, nothing, s.offerRecovered(&Message{}, lastPosition(), cursor, 0))
}

// TestReplayThatHasNotBegun: whoever resumes from the beginning has read nothing of a journal that is deleted before.
func TestReplayThatHasNotBegun(t *testing.T) {
	t.Parallel()
	n, s := fallBehind(t)
	s.topic.mu.Lock()
	defer s.topic.mu.Unlock()
	s.mu.Lock()
	s.last, s.next = position{}, position{}
	was := reading{rewinds: s.rewinds, passed: s.topic.passed}
	s.mu.Unlock()
	s.expired(s.topic.passed, n.pump.dispatcher.start(s.topic))
	require.Len(t, s.Gaps(), 1, "a heartbeat has told")
	assert.Equal(t, GapTrimmed, (<-s.Gaps()).Reason)
	assert.NotEqual(t, was.rewinds, s.rewinds, "what is being read is of the journal before")

	was.rewinds = s.rewinds
	n.pump.replayer.take(s, section{intact: true}, was)
	require.Len(t, s.Gaps(), 1, "the replay was there first")
	assert.Equal(t, GapTrimmed, (<-s.Gaps()).Reason)
}

// TestGapsThatWaitForTheirPlacesAreBounded: nobody reads, and there is a gap with each of many reconnects.
func TestGapsThatWaitForTheirPlacesAreBounded(t *testing.T) {
	t.Parallel()
	_, s := fallBehind(t)
	for i := range 10 * maxHeld {
		s.missed(GapForeign, position{ms: uint64(i)})
	}
	assert.True(t, s.missed(GapWiped, lastPosition()))
	s.mu.Lock()
	defer s.mu.Unlock()
	assert.Len(t, s.held, maxHeld)
	assert.Equal(t, GapWiped, s.held[maxHeld-1].Reason)
}

// TestShutdownThatThrowsAwayWhatIsQueued: its buffers are empty, and yet something was not delivered.
func TestShutdownThatThrowsAwayWhatIsQueued(t *testing.T) {
	t.Parallel()
	n, err := NewRedisNotificationSystem(redistest.Start(t).Client(t))
	require.NoError(t, err)
	s, ok := n.Subscribe(t.Context(), "k").(*Subscription)
	require.True(t, ok)
	n.registry.few.Store(false) // the dispatcher does the work
	s.topic.mu.Lock()           // and cannot
	for range 3 {
		require.NoError(t, n.Publish(t.Context(), "k", struct{}{}))
	}
	require.Eventually(t, func() bool { return n.pump.pending.Load() == 3 }, 15*time.Second, time.Millisecond)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	done := make(chan error, 1)
	go func() { done <- n.Shutdown(ctx) }()
	require.Eventually(t, n.pump.dispatcher.abort.Load, 15*time.Second, time.Millisecond)
	s.topic.mu.Unlock()
	first := <-s.Messages()
	assert.NotNil(t, first)
	assert.ErrorIs(t, <-done, context.Canceled)
}

// TestNamesAreKeptWhileASessionBegins: Redis would be asked to forget them first, and then for them.
func TestNamesAreKeptWhileASessionBegins(t *testing.T) {
	t.Parallel()
	n, err := NewRedisNotificationSystem(redistest.Start(t).Client(t), WithUnsubscribeDelay(time.Hour))
	require.NoError(t, err)
	t.Cleanup(func() { _ = n.Shutdown(context.Background()) })
	s, ok := n.Subscribe(t.Context(), "k").(*Subscription)
	require.True(t, ok)
	require.NoError(t, s.Close())
	setLive := func(to *session) {
		n.pump.mu.Lock()
		defer n.pump.mu.Unlock()
		n.pump.live = to
	}
	var session *session
	require.Eventually(t, func() bool {
		session = n.pump.served()
		return session != nil
	}, 15*time.Second, time.Millisecond)
	setLive(nil)
	n.registry.mu.Lock()
	s.topic.idleSince = time.Now().Add(-2 * time.Hour)
	n.registry.mu.Unlock()
	n.pump.reconcile()
	assert.Equal(t, 1, n.registry.names())
	setLive(session)
	n.pump.reconcile()
	assert.Zero(t, n.registry.names())
}
