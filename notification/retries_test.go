package notification_test

import (
	"context"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/faultproxy"
	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/notification"
)

// Of several attempts the first is refused, the second is executed and its reply lost, and all that follow are refused.
func TestAttemptBetweenRefusalsIsUncertain(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	admin := server.Client(t)
	proxy := faultproxy.New(t, server.Addr())
	readOnly := func(on bool) error {
		if on {
			return admin.Do(context.Background(), "replicaof", "127.0.0.1", "1").Err()
		}
		return admin.Do(context.Background(), "replicaof", "no", "one").Err()
	}
	var dials atomic.Int32
	client := redis.NewClient(&redis.Options{
		Addr: proxy.Addr(), PoolSize: 1, ReadTimeout: patience,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		Dialer: func(ctx context.Context, network, addr string) (net.Conn, error) {
			switch dials.Add(1) {
			case 1:
			case 2: // a connection that has brought READONLY is not used again
				proxy.DropReplies(1)
				assert.NoError(t, readOnly(false))
			default:
				assert.NoError(t, readOnly(true))
			}
			return new(net.Dialer).DialContext(ctx, network, addr)
		},
	})
	t.Cleanup(func() { _ = client.Close() })
	n := newSystem(t, client)
	require.NoError(t, n.Publish(t.Context(), "k", struct{}{}))
	require.NoError(t, n.PublishBatch(t.Context(), notification.To("k", struct{}{}), notification.To("k", struct{}{})))
	require.NoError(t, readOnly(true)) // the scripts are known now
	err := n.Publish(t.Context(), "k", struct{}{})
	var failed *notification.PublishError
	require.ErrorAs(t, err, &failed)
	require.EqualValues(t, 4, admin.XLen(t.Context(), journalKey).Val(), "it was published")
	assert.True(t, failed.Uncertain)
	assert.ErrorContains(t, err, "and then: READONLY")
}

// Each repetition looks back to the first attempt, however long ago that was.
func TestRepetitionsLookBackFurtherEachTime(t *testing.T) {
	t.Parallel()
	for name, retries := range map[string]int{"default": 0, "none": -1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t)
			proxy := faultproxy.New(t, server.Addr())
			options := server.Options()
			options.Addr, options.MaxRetries, options.ReadTimeout = proxy.Addr(), retries, 250*time.Millisecond
			client := redis.NewClient(options)
			t.Cleanup(func() { _ = client.Close() })
			n := newSystem(t, client)
			require.NoError(t, n.Publish(t.Context(), "k", struct{}{})) // the script is known now
			var sent elapsed
			client.AddHook(&sent)
			proxy.SwallowToClient(true)
			require.Error(t, n.Publish(t.Context(), "k", struct{}{}))
			require.Len(t, sent.repetitions, client.Options().MaxRetries+1)
			assert.True(t, slices.IsSorted(sent.repetitions))
			assert.Len(t, slices.Compact(sent.repetitions), len(sent.repetitions))
			assert.Greater(t, sent.repetitions[0], int64(250), "milliseconds, since the first attempt has timed out")
		})
	}
}

// elapsed notes how long before each repetition the first attempt was.
type elapsed struct {
	redistest.Hook

	mu          sync.Mutex
	repetitions []int64
}

func (h *elapsed) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if args := cmd.Args(); args[0] == "evalsha" {
			if milliseconds, ok := args[6].(int64); ok { // the first attempt is another script
				h.mu.Lock()
				h.repetitions = append(h.repetitions, milliseconds)
				h.mu.Unlock()
			}
		}
		return next(ctx, cmd)
	}
}
