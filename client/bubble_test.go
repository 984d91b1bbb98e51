package client_test

import (
	"context"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/client"
	"github.com/compozy/cache/config"
	"github.com/compozy/cache/embedded"
)

// A client on an in-memory server lives in a bubble, where time is ours: users test
// their own expiry that way.
func TestInBubble(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		mini := embedded.New()
		defer func() {
			_ = mini.Close()
			time.Sleep(time.Minute) // in the bubble: the client may still be trying to dial in the background
		}()
		var dials atomic.Int64
		r, err := client.New(&config.Config{MinIdleConns: 3, Dialer: func(ctx context.Context, network, addr string) (net.Conn, error) {
			dials.Add(1)
			return mini.Dial(ctx, network, addr)
		}})
		require.NoError(t, err)
		defer func() { require.NoError(t, r.Close()) }()
		synctest.Wait()
		require.Zero(t, dials.Load())

		r.Open()
		require.NoError(t, r.WaitReady(t.Context()))
		require.NoError(t, r.Set(t.Context(), "k", "v", time.Hour).Err())
		synctest.Wait()
		// The first command may have opened one more at the same time.
		require.GreaterOrEqual(t, r.PoolStats().IdleConns, uint32(3))
		<-time.After(59 * time.Minute)
		require.Equal(t, "v", r.Get(t.Context(), "k").Val())
		<-time.After(2 * time.Minute)
		require.Zero(t, r.Exists(t.Context(), "k").Val())
		require.NoError(t, r.HealthCheck(t.Context()))
	})
}
