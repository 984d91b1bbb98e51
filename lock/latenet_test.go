package lock_test

import (
	"bytes"
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/lock"
)

// lateNet is a network that holds up some of what is sent to a server, and delivers it when the client has given up.
type lateNet struct {
	mu   sync.Mutex // guards what follows
	hold func(kind string) bool
	held []*lateConn
}

// client returns a client whose commands go through the network.
func (n *lateNet) client(t *testing.T, server *redistest.Server) redis.UniversalClient {
	t.Helper()
	client := redis.NewClient(&redis.Options{
		Addr: server.Addr(), ContextTimeoutEnabled: true, ReadTimeout: 500 * time.Millisecond, // then it is sent again
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		Dialer: func(ctx context.Context, network, addr string) (net.Conn, error) {
			c, err := new(net.Dialer).DialContext(ctx, network, addr)
			return &lateConn{Conn: c, net: n}, err
		},
	})
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// holding sets what is held up from now on, by what is asked for about "job".
func (n *lateNet) holding(hold func(kind string) bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.hold = hold
}

// deliver has what was held up executed, in the order in which it was sent.
func (n *lateNet) deliver(t *testing.T) {
	t.Helper()
	n.holding(nil)
	require.NotEmpty(t, n.held)
	for _, c := range n.held {
		require.NoError(t, c.Conn.SetDeadline(time.Now().Add(patience)))
		_, err := c.Conn.Write(c.data)
		require.NoError(t, err)
		_, err = c.Conn.Read(make([]byte, 1024))
		require.NoError(t, err)
		require.NoError(t, c.Conn.Close())
	}
}

// lateConn is a connection on which nothing moves any more once something was held up.
type lateConn struct {
	net.Conn

	net  *lateNet
	data []byte // guarded by the mutex of net
}

// Write implements net.Conn.
func (c *lateConn) Write(b []byte) (int, error) {
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	switch {
	case c.data != nil:
		return len(b), nil
	case c.net.hold != nil && c.net.hold(kindOf(b)):
		c.data = bytes.Clone(b)
		c.net.held = append(c.net.held, c)
		return len(b), nil
	}
	return c.Conn.Write(b)
}

// Close implements net.Conn.
func (c *lateConn) Close() error {
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	if c.data != nil {
		return c.SetReadDeadline(time.Now()) // deliver closes it
	}
	return c.Conn.Close()
}

// kindOf returns what a command about "job" is for, by its keys.
func kindOf(command []byte) string {
	fence, queue := bytes.Contains(command, []byte("{job}:fence")), bytes.Contains(command, []byte("{job}:queue"))
	switch {
	case !bytes.Contains(command, []byte("{job}")):
		return "other"
	case fence && queue:
		return "acquire"
	case fence:
		return "repair"
	case queue:
		return "release"
	default:
		return "extend"
	}
}

// TestLateAcquireAndRenewalEndSoon: both are held up, and arrive after the release, or the end of the manager, that followed
// their repetitions. What they leave does not last for the TTL.
func TestLateAcquireAndRenewalEndSoon(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*testing.T, *lock.RedisLockManager, *lock.RedisLock){
		"released": func(t *testing.T, _ *lock.RedisLockManager, l *lock.RedisLock) {
			t.Helper()
			require.NoError(t, l.Release(t.Context()))
			hold(3 * time.Second) // longer than what is uncertain is looked for
		},
		"closed": func(t *testing.T, m *lock.RedisLockManager, _ *lock.RedisLock) {
			t.Helper()
			require.NoError(t, m.Close(t.Context()))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			onOneAndThree(t, func(t *testing.T, count int) { //nolint:thelper // a test
				servers := redistest.StartN(t, count)
				nets, clients := make([]*lateNet, count), make([]redis.UniversalClient, count)
				for i, s := range servers {
					nets[i] = new(lateNet)
					clients[i] = nets[i].client(t, s)
				}
				m := managerOn(t, clients)
				warm := acquire(t, m, "warm", time.Second)
				renewed(t, m) // it knows the script
				require.NoError(t, warm.Release(t.Context()))
				for _, n := range nets {
					acquired := false
					n.holding(func(kind string) bool {
						first := kind == "acquire" && !acquired
						acquired = acquired || first
						return first || kind == "extend"
					})
				}
				l := acquire(t, m, "job", time.Hour)
				renewed(t, m)
				end(t, m, l)
				for i, n := range nets {
					n.deliver(t)
					assert.LessOrEqual(t, servers[i].Client(t).PTTL(t.Context(), "cache:lock:{job}").Val(), 10*time.Second)
				}
			})
		})
	}
}

// TestLateAcquireIsLookedForAfterTheRelease: its repetition was granted, and the lock released, when it arrives. That costs
// the next one less than a first grant.
func TestLateAcquireIsLookedForAfterTheRelease(t *testing.T) {
	t.Parallel()
	onOneAndThree(t, func(t *testing.T, count int) { //nolint:thelper // a test
		servers := redistest.StartN(t, count)
		late, clients := new(lateNet), clientsOf(t, servers)
		clients[0] = late.client(t, servers[0])
		m := managerOn(t, clients)
		warmUp(t, m)
		acquired := false
		late.holding(func(kind string) bool {
			first := kind == "acquire" && !acquired
			acquired = acquired || first
			return first
		})
		l := acquire(t, m, "job", time.Hour)
		everywhere(t, servers, true)
		require.NoError(t, l.Release(t.Context()))
		everywhere(t, servers, false)
		late.deliver(t)
		admin := servers[0].Client(t)
		left := func() time.Duration { return admin.PTTL(t.Context(), "cache:lock:{job}").Val() }
		for last := left(); last > 0; last = left() {
			require.Greater(t, last, time.Second, "it is not removed, and ends by itself")
			hold(tick)
		}
	})
}

// TestLateRepairAndRenewalEndSoon: a master has lost a lock, and what gives it back and extends it there arrives after the
// release.
func TestLateRepairAndRenewalEndSoon(t *testing.T) {
	t.Parallel()
	servers := redistest.StartN(t, 3)
	late, clients := new(lateNet), clientsOf(t, servers)
	clients[2] = late.client(t, servers[2])
	m := newManager(t, nil, lock.WithNodes(clients...))
	admin := servers[2].Client(t)
	loses := func(resource string) {
		require.Eventually(t, func() bool { return admin.Del(t.Context(), "cache:lock:{"+resource+"}").Val() == 1 }, patience, tick)
	}
	warm := acquire(t, m, "warm", time.Second)
	loses("warm")
	require.Eventually(t, func() bool { return admin.Exists(t.Context(), "cache:lock:{warm}").Val() == 1 }, patience, tick)
	require.NoError(t, warm.Release(t.Context()))

	l := acquire(t, m, "job", time.Hour)
	loses("job")
	repairing := make(chan struct{})
	gone := sync.OnceFunc(func() { close(repairing) })
	repaired := false
	late.holding(func(kind string) bool {
		if kind == "repair" {
			repaired = true
			gone()
		}
		return repaired && (kind == "repair" || kind == "extend")
	})
	wait(t, repairing, "the next renewal")
	for range 2 {
		hold(2500 * time.Millisecond) // longer than what was sent there may take
		require.NoError(t, l.Refresh(t.Context()))
	}
	require.NoError(t, l.Release(t.Context()))
	hold(3 * time.Second)
	late.deliver(t)
	assert.LessOrEqual(t, admin.PTTL(t.Context(), "cache:lock:{job}").Val(), 10*time.Second)
}
