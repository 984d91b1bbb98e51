package notification

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
)

// What should never happen cannot be brought about from outside.
func TestAliveNoticesItsGoroutines(t *testing.T) {
	t.Parallel()
	n, err := NewRedisNotificationSystem(redistest.Start(t).Client(t), WithHeartbeat(time.Hour))
	require.NoError(t, err)
	t.Cleanup(func() { _ = n.Shutdown(context.Background()) })
	require.NoError(t, n.Alive())
	s := n.Subscribe(t.Context(), "k")
	t.Cleanup(func() { _ = s.Close() })
	require.NoError(t, n.Alive())
	p, now := n.pump, time.Now()

	p.running.Add(-1)
	require.ErrorContains(t, n.Alive(), "has ended")
	p.running.Add(1)

	require.Eventually(t, func() bool { return p.busySince.Load() == 0 }, 2*stalledAfter, time.Millisecond)
	assert.NoError(t, p.alive(now.Add(2*stalledAfter)), "it has nothing to do")
	p.busySince.Store(now.UnixNano())
	assert.NoError(t, p.alive(now.Add(stalledAfter)))
	assert.ErrorContains(t, p.alive(now.Add(stalledAfter+1)), "stuck")
}
