package lock_test

import (
	"context"
	"math/rand/v2"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/faultproxy"
	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/lock"
)

// heldBack keeps releases from leaving a client, from on until let is closed.
type heldBack struct {
	redistest.Hook

	on  atomic.Bool
	let chan struct{}
}

func (h *heldBack) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if args := cmd.Args(); h.on.Load() && len(args) > 2 && args[2] == 4 { // of all scripts this one has four keys
			select {
			case <-h.let:
			case <-ctx.Done():
				cmd.SetErr(ctx.Err())
				return ctx.Err()
			}
		}
		return next(ctx, cmd)
	}
}

// TestReleasedIsFreeThoughAMasterHasNotHeard: the release has not reached one of the masters, and another one does not
// answer when the same manager acquires again. What it has given up itself does not count as somebody else's.
func TestReleasedIsFreeThoughAMasterHasNotHeard(t *testing.T) {
	t.Parallel()
	servers := redistest.StartN(t, 3)
	late := newClient(t, servers[2].Addr())
	releases := &heldBack{let: make(chan struct{})}
	late.AddHook(releases)
	m := newManager(t, nil, lock.WithNodeTimeout(time.Hour), lock.WithNodes(
		newClient(t, servers[0].Addr()), newClient(t, servers[1].Addr()), late))
	other := newManager(t, newClient(t, servers[2].Addr()))

	first := acquire(t, m, "job", longTTL)
	everywhere(t, servers, true)
	former := value(t, servers[2])
	releases.on.Store(true)
	require.NoError(t, first.Release(t.Context()))
	everywhere(t, servers[:2], false)
	require.Equal(t, former, value(t, servers[2]), "it does not know yet")
	_, err := other.Acquire(t.Context(), "job", longTTL)
	require.ErrorIs(t, err, lock.ErrLockNotAcquired, "others cannot know that it was given up")

	waited := servers[2].Client(t).Append(t.Context(), "cache:lock:{job}", "+") // as if somebody waited there
	require.NoError(t, waited.Err())
	servers[1].Stop()
	second := acquire(t, m, "job", longTTL)
	assert.Greater(t, second.Token(), first.Token())
	now := value(t, servers[2])
	assert.NotEqual(t, former+"+", now)
	assert.Equal(t, "+", now[len(now)-1:], "and does so still")
	_, err = m.Acquire(t.Context(), "job", longTTL)
	require.ErrorIs(t, err, lock.ErrLockNotAcquired, "what is not given up is not free, for nobody")
	require.NoError(t, second.Refresh(t.Context()))
	servers[1].Continue()
	close(releases.let) // the first release finds nothing to do
	assert.Never(t, func() bool { return value(t, servers[2]) != now }, 100*time.Millisecond, tick)
	require.NoError(t, second.Release(t.Context()))
	everywhere(t, servers, false)
}

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

// TestReleasedIsFreeWhateverOvertakesWhat: each connection has moods of its own, so that the commands of one caller reach
// a master in any order, and each master at another time.
func TestReleasedIsFreeWhateverOvertakesWhat(t *testing.T) {
	t.Parallel()
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
	m := newManager(t, nil, lock.WithNodes(clients...))
	last := int64(0)
	for range 150 {
		l := acquire(t, m, "job", longTTL)
		require.Greater(t, l.Token(), last)
		last = l.Token()
		_, err := m.Acquire(t.Context(), "job", longTTL)
		require.ErrorIs(t, err, lock.ErrLockNotAcquired)
		require.NoError(t, l.Release(t.Context()))
	}
	everywhere(t, servers, false)
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
