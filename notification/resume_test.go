package notification_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/notification"
)

// withheld keeps heartbeats back until they are let go, and counts how often the journal was read.
type withheld struct {
	redistest.Hook

	let   chan struct{}
	reads atomic.Int64
}

func (h *withheld) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		args := cmd.Args()
		if len(args) == 10 { // state.lua
			if channel, _ := args[7].(string); strings.Contains(channel, "heartbeat") {
				select {
				case <-h.let:
				case <-ctx.Done():
				}
			}
		}
		err := next(ctx, cmd)
		if len(args) == 9 { // read.lua
			h.reads.Add(1)
		}
		return err
	}
}

// Nobody here has listened to what a subscriber goes on with, so only a heartbeat, or a recovery, tells that all of it was
// read. He does not wait for the next one of the clock.
func TestResumingUnderANewName(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"heartbeat", "another subscriber has come first", "recovery"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t)
			client, admin := server.Client(t), server.Client(t)
			hook := &withheld{let: make(chan struct{})}
			client.AddHook(hook)
			n := newSystem(t, client, notification.WithHeartbeat(time.Hour))
			subscribe(t, n, "other")
			p := &publisher{system: newSystem(t, admin)}
			require.Zero(t, p.publish(t.Context(), "k", 10))

			if how == "another subscriber has come first" {
				subscribe(t, n, "k")
			}
			s := n.SubscribeFrom(t.Context(), "k", "")
			require.NoError(t, s.Err())
			r := record(t, s)
			before := hook.reads.Load()
			require.Eventually(t, func() bool { return hook.reads.Load() >= before+3 }, patience, time.Millisecond)
			assert.Zero(t, r.last())
			if how == "recovery" {
				require.NoError(t, admin.Do(t.Context(), "client", "kill", "type", "pubsub").Err())
			} else {
				close(hook.let)
			}
			r.reached(t, p.last)
			require.Eventually(t, func() bool { return gauge(t, n, "replaying_subscribers") == 0 }, patience, time.Millisecond)
			require.Zero(t, p.publish(t.Context(), "k", 10))
			r.reached(t, p.last)
			assert.Zero(t, r.verify(t, p.sent))
			assert.Empty(t, r.gaps())
		})
	}
}
