package store

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

// forgetfulNet is a network that forgets a connection when something is written to it while armed.
type forgetfulNet struct {
	armed     atomic.Bool
	forgotten chan struct{} // receives for each
}

// client returns a client that uses the network.
func (n *forgetfulNet) client(t *testing.T, server *redistest.Server) redis.UniversalClient {
	t.Helper()
	client := redis.NewClient(&redis.Options{
		Addr: server.Addr(), ContextTimeoutEnabled: true,
		Dialer: func(ctx context.Context, network, addr string) (net.Conn, error) {
			c, err := new(net.Dialer).DialContext(ctx, network, addr)
			return &forgottenConn{Conn: c, net: n}, err
		},
	})
	t.Cleanup(func() { _ = client.Close() })
	return client
}

type forgottenConn struct {
	net.Conn

	net  *forgetfulNet
	dead atomic.Bool
}

// Write implements net.Conn.
func (c *forgottenConn) Write(b []byte) (int, error) {
	if c.net.armed.CompareAndSwap(true, false) {
		c.dead.Store(true)
		c.net.forgotten <- struct{}{}
	}
	if c.dead.Load() {
		return len(b), nil
	}
	return c.Conn.Write(b)
}

// TestRenewalDoesNotWaitForOneThatHangs: as many connections as it takes are forgotten by the network, one after the other,
// with a renewal each.
func TestRenewalDoesNotWaitForOneThatHangs(t *testing.T) {
	t.Parallel()
	n := &forgetfulNet{forgotten: make(chan struct{}, 1)}
	s := New(n.client(t, redistest.Start(t)), settings(20*time.Second))
	const hung = renewalSenders + maxStuck - 1
	claims := make([]Claim, hung+1)
	for i := range claims {
		claims[i] = NewClaim(NewKeys("cache:", itoa(int64(i))), "claim", time.Hour, 1)
		require.Equal(t, Granted, s.Acquire(t.Context(), claims[i]).Outcome)
	}
	replies := make(chan Reply, len(claims))
	renew := func(i int) {
		s.Renew(claims[i:i+1], s.longest(), func(_ int, r Reply) { replies <- r })
	}
	for i := range hung {
		renew(hung) // opens a connection
		require.Equal(t, Granted, (<-replies).Outcome)
		n.armed.Store(true)
		renew(i)
		<-n.forgotten
	}
	renew(hung)
	require.Equal(t, Granted, (<-replies).Outcome, "and not one of those that hang")
	require.NoError(t, s.Close(t.Context()))
	for range hung {
		assert.Equal(t, Failed, (<-replies).Outcome)
	}
}

// TestSendersAreAsManyAsPipelinesAreFull: two will do, unless full pipelines wait, as where the server is far. On the detour
// there is one at a time, beside those that are stuck.
func TestSendersAreAsManyAsPipelinesAreFull(t *testing.T) {
	t.Parallel()
	const most = renewalSenders + maxStuck
	for _, c := range []struct{ waiting, stuck, want, detour int }{
		{0, 0, 0, 0},
		{1, 0, 1, 1},
		{renewalBatch + 1, 0, 2, 1},
		{3*renewalBatch - 1, 0, 2, 1},
		{3 * renewalBatch, 0, 3, 1},
		{most * renewalBatch, 0, most, 1},
		{100 * renewalBatch, 0, most, 1},
		{100 * renewalBatch, maxStuck, renewalSenders, 1},
		{1, most, 0, 0},
	} {
		started := 0
		r := &renewals{link: link{set: Settings{Go: func(func()) bool { started++; return true }}}}
		start := func(l *lane) int {
			started, l.waiting, l.stuck = 0, make([]renewal, c.waiting), c.stuck
			r.start(l)
			return started
		}
		assert.Equal(t, c.want, start(&lane{}), "%+v", c)
		assert.Equal(t, c.detour, start(&lane{detour: time.Now().Add(time.Hour)}), "%+v", c)
		assert.Equal(t, c.detour, start(&lane{hanging: 1}), "%+v", c)
	}
}
