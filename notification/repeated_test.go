package notification_test

import (
	"context"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
)

// lossy loses requests on their way.
type lossy struct {
	redistest.Hook

	left atomic.Int32
}

func (h *lossy) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if strings.HasPrefix(cmd.Name(), "eval") && h.left.Add(-1) >= 0 {
			err := &net.OpError{Op: "read", Net: "tcp", Err: os.ErrDeadlineExceeded}
			cmd.SetErr(err)
			return err
		}
		return next(ctx, cmd)
	}
}

// A publisher that does not know whether its first attempt was executed says so: after a failover, the event may have
// arrived before.
func TestRepetitionIsFlagged(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client, hook := server.Client(t), &lossy{}
	client.AddHook(hook)
	n, publishing := newSystem(t, server.Client(t)), newSystem(t, client)
	s := subscribe(t, n, "k")
	for _, lost := range []int32{0, 1, 0} {
		hook.left.Store(lost)
		require.NoError(t, publishing.Publish(t.Context(), "k", numbered{1}))
		assert.Equal(t, lost > 0, next(t, s).Redelivered)
	}
	recovered := 0
	for m, err := range n.Replay(t.Context(), "k", "", "") {
		require.NoError(t, err)
		assert.Equal(t, recovered == 1, m.Redelivered, "in the journal as well")
		recovered++
	}
	assert.Equal(t, 3, recovered)
}
