package lock_test

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/embedded"
	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/lock"
)

// TestMasterThatFailedKeepsTheLock: one of three fails to set a lock, or to extend it, when the others do for the first time.
// It has the lock for as long as they do soon after it works again, however long it is until the next renewal.
func TestMasterThatFailedKeepsTheLock(t *testing.T) {
	t.Parallel()
	for view, opts := range map[string][]lock.Option{
		"renewed": nil, "once": {lock.WithRenewal(false)}, "for a while": {lock.WithMaxHold(10 * time.Minute)},
	} {
		for command, attempts := range map[string]int64{
			"set":     2, // to acquire, and to set the lock after all
			"pexpire": 1,
		} {
			t.Run(view+" "+command, func(t *testing.T) {
				t.Parallel()
				servers := redistest.StartN(t, 3)
				m := newManager(t, nil, lock.WithNodes(clientsOf(t, servers)...))
				warmUp(t, m)
				admin := servers[2].Client(t)
				require.NoError(t, admin.Do(t.Context(), "ACL", "SETUSER", "default", "-"+command).Err())
				l, err := m.With(opts...).TryAcquire(t.Context(), "job", time.Hour)
				require.NoError(t, err)
				require.Eventually(t, func() bool { return denied(t, admin) >= attempts }, patience, tick)
				require.NoError(t, admin.Do(t.Context(), "ACL", "SETUSER", "default", "+"+command).Err())
				require.Eventually(t, func() bool {
					return admin.PTTL(t.Context(), "cache:lock:{job}").Val() > time.Minute
				}, patience, tick)
				assert.True(t, l.IsHeld())
				require.NoError(t, l.Release(t.Context()))
				everywhere(t, servers, false)
			})
		}
	}
}

// denied returns how often a server has refused a command of a script.
func denied(t *testing.T, admin *redis.Client) (count int64) {
	t.Helper()
	entries, err := admin.ACLLog(t.Context(), 100).Result()
	require.NoError(t, err)
	for _, e := range entries {
		count += e.Count
	}
	return count
}

// TestLockThatIsNotRenewedEnds: however often one of three loses it. Only Refresh makes it last longer.
func TestLockThatIsNotRenewedEnds(t *testing.T) {
	t.Parallel()
	const ttl = 2 * time.Second
	servers := redistest.StartN(t, 3)
	m := newManager(t, nil, lock.WithNodes(clientsOf(t, servers)...), lock.WithRenewal(false))
	warmUp(t, m)
	l := acquire(t, m, "job", ttl)
	admin := servers[2].Client(t)
	losing := func(until time.Time) {
		for time.Now().Before(until) {
			admin.Del(t.Context(), "cache:lock:{job}")
			require.NoError(t, l.Refresh(t.Context()))
			hold(tick)
		}
	}
	losing(time.Now().Add(ttl))
	end := time.Now().Add(ttl)
	for l.IsHeld() {
		admin.Del(t.Context(), "cache:lock:{job}")
		require.False(t, l.Until().After(end), "by %v", l.Until().Sub(end))
		hold(tick)
	}
	assert.False(t, time.Now().Before(end.Add(-ttl/2)), "Refresh has moved it")
	wait(t, l.Lost(), "the end")
}

// TestMendingMovesNoEnd: one of three was slow to grant a lock that is not renewed, and is made to have it for as long as the
// others. That is no renewal.
func TestMendingMovesNoEnd(t *testing.T) {
	t.Parallel()
	const ttl = 14 * time.Second
	servers, proxies, clients := proxied(t)
	m := newManager(t, nil, lock.WithNodes(clients...), lock.WithRenewal(false))
	warmUp(t, m)
	proxies[2].SetLatency(20 * time.Millisecond)
	l := acquire(t, m, "job", ttl)
	end := time.Now().Add(ttl)
	left := func(i int) time.Duration { return servers[i].Client(t).PTTL(t.Context(), "cache:lock:{job}").Val() }
	require.Eventually(t, func() bool { return left(2) > 0 }, patience, tick)
	require.Eventually(t, func() bool { return left(2) > 10*time.Second }, patience, tick)
	assert.False(t, l.Until().After(end), "by %v", l.Until().Sub(end))
	for i := range servers {
		assert.LessOrEqual(t, left(i), time.Until(end)+ttl/10+500*time.Millisecond)
	}
	assert.EqualValues(t, 1, m.GetMetrics().RenewalsTotal)
}

// TestMasterThatIsDownIsAskedLessAndLess: one of three is down for hours. That is no reason to ask the others more often, and
// when it is back it has the lock with the next renewal at the latest.
func TestMasterThatIsDownIsAskedLessAndLess(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const ttl = time.Hour
		var down deaf
		var clients []redis.UniversalClient
		for i := range 3 {
			server := embedded.New()
			dial := func(ctx context.Context, network, addr string) (net.Conn, error) {
				c, err := server.Dial(ctx, network, addr)
				if i == 2 {
					c = &deafConn{Conn: c, deaf: &down}
				}
				return c, err
			}
			client := redis.NewClient(&redis.Options{
				ContextTimeoutEnabled: true, Dialer: dial, MaxRetries: -1,
				MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
			})
			defer func() {
				_ = client.Close()
				_ = server.Close()
				time.Sleep(time.Minute) // in a bubble
			}()
			clients = append(clients, client)
		}
		m, err := lock.NewRedisLockManager(nil, lock.WithNodes(clients...))
		require.NoError(t, err)
		defer func() { _ = m.Close(t.Context()) }()
		down.on.Store(true)
		l := acquire(t, m, "job", ttl)
		time.Sleep(10 * ttl) // in a bubble
		assert.True(t, l.IsHeld())
		assert.InDelta(t, 31, m.GetMetrics().RenewalsTotal, 3, "none but those that are planned")
		// Six times to acquire, with each renewal, and 3, 6, 12 ... seconds after them until it is every third of the TTL.
		assert.InDelta(t, 6+31+8, down.asked.Load(), 6)
		down.on.Store(false)
		time.Sleep(ttl / 3) // in a bubble
		assert.Greater(t, clients[2].PTTL(t.Context(), "cache:lock:{job}").Val(), ttl/2)
		require.NoError(t, l.Release(t.Context()))
	})
}

// deaf is a server that is down for all that is about "job".
type deaf struct {
	on    atomic.Bool
	asked atomic.Int64
}

// deafConn is a connection to it.
type deafConn struct {
	net.Conn

	deaf *deaf
}

var errDeaf = errors.New("down")

// Write implements net.Conn.
func (c *deafConn) Write(b []byte) (int, error) {
	if c.deaf.on.Load() && kindOf(b) != "other" {
		c.deaf.asked.Add(1)
		return 0, errDeaf
	}
	return c.Conn.Write(b)
}
