package lock_test

import (
	"context"
	"math/rand/v2"
	"net"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/faultproxy"
	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/lock"
)

// TestMinorityThatFailsToReleaseIsSeenTo: the lock does not stay on it until its TTL is over.
func TestMinorityThatFailsToReleaseIsSeenTo(t *testing.T) {
	t.Parallel()
	servers := redistest.StartN(t, 3)
	proxy := faultproxy.New(t, servers[2].Addr())
	m := newManager(t, nil, lock.WithNodeTimeout(time.Second), lock.WithNodes(
		newClient(t, servers[0].Addr()), newClient(t, servers[1].Addr()), newClient(t, proxy.Addr())))
	l := acquire(t, m, "job", time.Hour)
	everywhere(t, servers, true)
	proxy.SwallowToServer(true)
	require.NoError(t, l.Release(t.Context()))
	everywhere(t, servers[:2], false)
	require.NotEmpty(t, value(t, servers[2]))
	proxy.SwallowToServer(false)
	everywhere(t, servers, false)
}

// TestWhateverOvertakesWhat: each connection has moods of its own, so that the commands of one caller reach
// a master in any order, and each master at another time.
func TestWhateverOvertakesWhat(t *testing.T) {
	t.Parallel()
	servers, clients := moody(t)
	m := newManager(t, nil, lock.WithNodes(clients...))
	last := int64(0)
	for range 60 {
		l, err := m.AcquireWait(t.Context(), "job", longTTL)
		require.NoError(t, err)
		require.Greater(t, l.Token(), last)
		last = l.Token()
		_, err = m.Acquire(t.Context(), "job", longTTL)
		require.ErrorIs(t, err, lock.ErrLockNotAcquired)
		require.NoError(t, l.Release(t.Context()))
	}
	everywhere(t, servers, false)
}

// TestReleasedIsFreeAtOnceForItsManager: a master that hears of the release late refuses nobody who asks after it.
func TestReleasedIsFreeAtOnceForItsManager(t *testing.T) {
	t.Parallel()
	servers, clients := moody(t)
	m := newManager(t, nil, lock.WithNodes(clients...))
	for range 100 {
		require.NoError(t, acquire(t, m, "job", longTTL).Release(t.Context()))
	}
	everywhere(t, servers, false)
}

// moody starts three masters, and returns clients whose connections are moody.
func moody(t *testing.T) ([]*redistest.Server, []redis.UniversalClient) {
	t.Helper()
	servers := redistest.StartN(t, 3)
	clients := make([]redis.UniversalClient, len(servers))
	for i, s := range servers {
		c := redis.NewClient(&redis.Options{
			Addr: s.Addr(), ContextTimeoutEnabled: true, Dialer: moodyDial,
			MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		})
		t.Cleanup(func() { _ = c.Close() })
		clients[i] = c
	}
	return servers, clients
}

// moodyDial connects, to where sending takes now longer, now shorter.
func moodyDial(ctx context.Context, network, addr string) (net.Conn, error) {
	c, err := new(net.Dialer).DialContext(ctx, network, addr)
	return moodyConn{c}, err
}

type moodyConn struct{ net.Conn }

// Write implements net.Conn.
func (c moodyConn) Write(b []byte) (int, error) {
	if rand.N(3) == 0 {
		hold(rand.N(30 * time.Millisecond))
	}
	return c.Conn.Write(b)
}
