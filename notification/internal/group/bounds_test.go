package group

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/internal/redisx"
	"github.com/compozy/cache/notification/internal/journal"
)

// The leader does not read on while the group holds as much as it may, and then does. It feeds the group in parts that keep the
// server busy for some milliseconds each.
func TestGroupsHoldNoMoreThanTheyMay(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.append(t, "k", 1)
	fed := &feeds{}
	client := redis.NewClient(b.server.Options())
	t.Cleanup(func() { _ = client.Close() })
	large := strings.Repeat("x", maxHeldBytes/32)
	stop := b.run(t, func(s *Settings) {
		s.Client, s.Concurrency, s.From = &watched{client, fed}, 0, new(journal.Position)
		s.Body = func(e *journal.Entry) (string, bool) { return e.Value + large, true }
	})
	b.append(t, "k", 50)
	b.eventually(t, "not read", func() bool { return b.client.ZCard(t.Context(), b.k.due).Val() >= 28 })
	require.NoError(t, redisx.Sleep(t.Context(), roundEvery/2))
	held, err := b.client.HGet(t.Context(), b.k.progress, "bytes").Int()
	require.NoError(t, err)
	assert.LessOrEqual(t, held, maxHeldBytes, "the rest stays in the journal")
	stop()
	assert.LessOrEqual(t, fed.largest.Load(), int64(1<<20))
	assert.Greater(t, fed.largest.Load(), int64(1<<19))
	b.run(t, func(s *Settings) { s.Concurrency = 4 })
	b.eventually(t, "not all was handled", func() bool { return len(b.handled) == 51 })
	assert.Empty(t, b.reasons())
}

// watched is a client on whose connections feeds looks.
type watched struct {
	redis.UniversalClient
	feeds *feeds
}

func (c *watched) Unwrap() redis.UniversalClient { return c.UniversalClient }
func (c *watched) ConnectionHook() redis.Hook    { return c.feeds }

// feeds notes how large the requests to feed a group are.
type feeds struct {
	redistest.Hook
	largest atomic.Int64
}

func (h *feeds) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if args := cmd.Args(); strings.HasPrefix(cmd.Name(), "eval") && len(args) > 11 && args[2] == 4 {
			bytes := 0
			for i := 11; i < len(args); i += 2 {
				body, _ := args[i].(string)
				bytes += len(body)
			}
			h.largest.Store(max(h.largest.Load(), int64(bytes)))
		}
		return next(ctx, cmd)
	}
}
