package lock_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/embedded"
	"github.com/compozy/cache/lock"

	"github.com/compozy/cache/internal/redistest"
)

// hanging makes a client's commands hang, once it is set, until their context ends.
type hanging struct {
	redistest.Hook

	on atomic.Bool
}

func (h *hanging) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if h.on.Load() {
			return hang(ctx, cmd)
		}
		return next(ctx, cmd)
	}
}

func (h *hanging) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if h.on.Load() {
			return hang(ctx, cmds...)
		}
		return next(ctx, cmds)
	}
}

func hang(ctx context.Context, cmds ...redis.Cmder) error {
	<-ctx.Done()
	for _, cmd := range cmds {
		cmd.SetErr(ctx.Err())
	}
	return ctx.Err()
}

// TestCallerOnItsOwn: who is alone with a node that is near makes the call by itself, and cannot leave. Its own deadline
// bounds the call nevertheless, and a cancellation is noticed in 200ms.
func TestCallerOnItsOwn(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		limit func(context.Context) (context.Context, context.CancelFunc)
		took  time.Duration
		err   error
	}{
		"deadline": {func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, 50*time.Millisecond)
		}, 50 * time.Millisecond, context.DeadlineExceeded},
		"cancellation": {func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(ctx)
			time.AfterFunc(50*time.Millisecond, cancel)
			return ctx, cancel
		}, 200 * time.Millisecond, context.Canceled},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T, _ *embedded.Server, client *redis.Client) { //nolint:thelper // a test
				hang := &hanging{}
				client.AddHook(hang)
				m, err := lock.NewRedisLockManager(client)
				require.NoError(t, err)
				defer func() { _ = m.Close(t.Context()) }()
				require.NoError(t, acquire(t, m, "job", longTTL).Release(t.Context()))
				synctest.Wait() // no pipeline is under way any more, and the node is known to be near
				ctx, cancel := test.limit(t.Context())
				defer cancel()
				hang.on.Store(true)
				start := time.Now()
				_, err = m.Acquire(ctx, "job", longTTL)
				require.ErrorIs(t, err, test.err)
				assert.Equal(t, test.took, time.Since(start))
				hang.on.Store(false)
			})
		})
	}
}
