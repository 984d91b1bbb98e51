package lock_test

import (
	"context"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
)

// silentNet is a network that drops what asks for a new connection while it is silent. Those that are open work.
type silentNet struct {
	silent  atomic.Bool
	waiting atomic.Int64 // for a connection
}

func (n *silentNet) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if !n.silent.Load() {
		return new(net.Dialer).DialContext(ctx, network, addr)
	}
	n.waiting.Add(1)
	defer n.waiting.Add(-1)
	<-ctx.Done()
	return nil, ctx.Err()
}

// TestNoConnectionCanBeOpened: those of the application are open, and locks are renewed on them.
func TestNoConnectionCanBeOpened(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(t *testing.T, n *silentNet) redis.UniversalClient{
		"server": func(t *testing.T, n *silentNet) redis.UniversalClient {
			t.Helper()
			return redis.NewClient(&redis.Options{Addr: redistest.Start(t).Addr(), Dialer: n.dial, ContextTimeoutEnabled: true})
		},
		"cluster": func(t *testing.T, n *silentNet) redis.UniversalClient {
			t.Helper()
			return redis.NewClusterClient(&redis.ClusterOptions{
				Addrs: redistest.StartCluster(t, 3).Addrs(), Dialer: n.dial, ContextTimeoutEnabled: true,
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := new(silentNet)
			c := start(t, n)
			t.Cleanup(func() { _ = c.Close() })
			const ttl = 5 * time.Second
			l := acquire(t, newManager(t, c), "job", ttl)
			n.silent.Store(true)
			for end := time.Now().Add(2 * ttl); l.Until().Before(end); {
				require.True(t, extended(t, l))
			}
			assert.Positive(t, n.waiting.Load())
		})
	}
}

// TestCloseEndsTheOpeningOfAConnection: go-redis opens it in the background, for as long as DialTimeout says.
func TestCloseEndsTheOpeningOfAConnection(t *testing.T) {
	t.Parallel()
	n := new(silentNet)
	c := redis.NewClient(&redis.Options{
		Addr: redistest.Start(t).Addr(), Dialer: n.dial, DialTimeout: time.Hour, ContextTimeoutEnabled: true,
	})
	t.Cleanup(func() { _ = c.Close() })
	m := newManager(t, c)
	acquire(t, m, "job", time.Second)
	n.silent.Store(true)
	require.Eventually(t, func() bool { return n.waiting.Load() > 0 }, patience, tick)
	require.NoError(t, m.Close(t.Context()))
	require.Eventually(t, func() bool { return n.waiting.Load() == 0 }, patience, tick)
}
