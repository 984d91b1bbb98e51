package notification

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
)

func TestLimitIsOnTheServersClock(t *testing.T) {
	t.Parallel()
	var l lateness
	l.allow(nil)
	now := time.UnixMilli(1_000_000_000_000)
	assert.Equal(t, noLimit, l.limit(now), "before the clock is known")
	l.learn("no ID", now)
	assert.Equal(t, noLimit, l.limit(now))
	l.learn("2000000000000-7", now)
	assert.Equal(t, "2000000001792", l.limit(now), "two seconds, less a step, rounded up to the next")
	assert.Equal(t, "2000000002048", l.limit(now.Add(limitStep*time.Millisecond)))
	l.forget()
	assert.Equal(t, noLimit, l.limit(now))
}

// TestServersClockIsSet: events that are refused as late, as the clock is not what it was, are published all the same, once
// and without costing more for ever.
func TestServersClockIsSet(t *testing.T) {
	t.Parallel()
	client := redistest.Start(t).Client(t)
	n, err := NewRedisNotificationSystem(client)
	require.NoError(t, err)
	t.Cleanup(func() { _ = n.Shutdown(context.Background()) })
	l := &n.publisher.lateness
	for count, publish := range []func() error{
		func() error { return n.Publish(t.Context(), "k", struct{}{}) },
		func() error { return n.PublishBatch(t.Context(), To("k", struct{}{}), To("k", struct{}{})) },
	} {
		require.NoError(t, publish())
		require.True(t, l.known.Load())
		l.ahead.Store(-time.Hour.Milliseconds())
		require.NoError(t, publish())
		assert.False(t, l.known.Load())
		require.NoError(t, publish())
		assert.True(t, l.known.Load())
		assert.Zero(t, l.ahead.Load()/time.Minute.Milliseconds())
		length := client.XLen(t.Context(), n.keys.journal).Val()
		assert.EqualValues(t, []int{3, 9}[count], length)
	}
}
