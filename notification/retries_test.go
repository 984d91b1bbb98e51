package notification_test

import (
	"context"
	"net"
	"sync/atomic"
	"testing"

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
