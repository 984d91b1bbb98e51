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
	n.cancel()
	require.Eventually(t, func() bool { return n.Alive() != nil }, 15*time.Second, time.Millisecond)
	assert.ErrorContains(t, n.Alive(), "has ended")
}
