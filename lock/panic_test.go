package lock

import (
	"context"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
)

// TestPanicOfAHookTakesNothing: callers who recover from it can go on. It takes no place from them, and no lock.
func TestPanicOfAHookTakesNothing(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	opts := server.Options()
	opts.ContextTimeoutEnabled = true
	client := redis.NewClient(opts)
	t.Cleanup(func() { _ = client.Close() })
	client.AddHook(redistest.Panics{})
	m, err := NewRedisLockManager(client)
	require.NoError(t, err)
	t.Cleanup(func() { _ = m.Close(context.Background()) })
	admin := server.Client(t)
	locked := func() bool { return admin.Exists(t.Context(), "cache:lock:{job}").Val() > 0 }

	for range 10 {
		assert.Panics(t, func() { _, _ = m.Acquire(redistest.PanicAfter(t.Context()), "job", 30*time.Second) })
		require.Eventually(t, func() bool { return !locked() }, 20*time.Second, time.Millisecond)
	}

	l, err := m.Acquire(t.Context(), "job", 30*time.Second)
	require.NoError(t, err)
	assert.Panics(t, func() { _ = l.Release(redistest.PanicBefore(t.Context())) })
	assert.False(t, l.IsHeld())
	assert.True(t, locked())
	require.NoError(t, l.Release(t.Context()))
	assert.False(t, locked())
}
