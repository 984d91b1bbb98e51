package notification

import (
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
)

func TestPortion(t *testing.T) {
	t.Parallel()
	timeout := &net.OpError{Op: "read", Err: os.ErrDeadlineExceeded}
	p := newPortion(500)
	assert.False(t, p.failed(errors.New("NOPERM")), "less would not help")
	for _, size := range []int{125, 31, 7, 1} {
		assert.True(t, p.failed(timeout))
		assert.Equal(t, size, p.size)
	}
	assert.False(t, p.failed(timeout), "there is no less")
	for p.size < 500 {
		before := p.size
		p.arrived()
		require.Less(t, before, p.size)
	}
	p.arrived()
	assert.Equal(t, 500, p.size)
}

// watcher lets no part of the journal be read, and notes since when the dispatcher was busy each time.
type watcher struct {
	mu   sync.Mutex
	pump *pump   // nil until it begins; guarded by mu
	busy []int64 // guarded by mu
}

func (h *watcher) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h *watcher) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (h *watcher) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if args := cmd.Args(); len(args) < 7 || args[6] != lastPosition().String() {
			return next(ctx, cmd)
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.pump == nil {
			return next(ctx, cmd)
		}
		h.busy = append(h.busy, h.pump.busySince.Load())
		return os.ErrDeadlineExceeded
	}
}

// Alive tells of a dispatcher that is stuck. One that tries to recover, again and again, is not.
func TestRecoveryThatTriesAgainIsNotStuck(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client, hook := server.Client(t), &watcher{}
	client.AddHook(hook)
	n, err := NewRedisNotificationSystem(client, WithHeartbeat(time.Hour))
	require.NoError(t, err)
	t.Cleanup(func() { _ = n.Close() })
	s := n.Subscribe(t.Context(), "k")
	require.NoError(t, n.Publish(t.Context(), "k", struct{}{}))
	<-s.Messages()
	hook.mu.Lock()
	hook.pump = n.pump
	hook.mu.Unlock()
	require.NoError(t, server.Client(t).Do(t.Context(), "client", "kill", "type", "pubsub").Err())
	require.Eventually(t, func() bool {
		hook.mu.Lock()
		defer hook.mu.Unlock()
		return len(hook.busy) >= 4
	}, 20*time.Second, time.Millisecond)
	hook.mu.Lock()
	defer hook.mu.Unlock()
	for i := range hook.busy[1:] {
		assert.Less(t, hook.busy[i], hook.busy[i+1], "each attempt is a new beginning")
	}
}
