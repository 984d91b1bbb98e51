package lock_test

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/faultproxy"
	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/lock"
)

// proxied returns three servers and clients that reach them through proxies.
func proxied(t *testing.T) ([]*redistest.Server, []*faultproxy.Proxy, []redis.UniversalClient) {
	t.Helper()
	servers := redistest.StartN(t, 3)
	proxies, clients := make([]*faultproxy.Proxy, len(servers)), make([]redis.UniversalClient, len(servers))
	for i, s := range servers {
		proxies[i] = faultproxy.New(t, s.Addr())
		clients[i] = newClient(t, proxies[i].Addr())
	}
	return servers, proxies, clients
}

// covered reports whether a majority of the servers has "job" for as long as its holder relies on it.
func covered(t *testing.T, servers []*redistest.Server, l lock.FencedLock) bool {
	t.Helper()
	until, count := l.Until(), 0
	for _, s := range servers {
		asked := time.Now()
		if left := s.Client(t).PTTL(t.Context(), "cache:lock:{job}").Val(); !asked.Add(left + time.Millisecond).Before(until) {
			count++
		}
	}
	return count > len(servers)/2
}

// TestHolderReliesOnWhatAMajorityHas: one of three masters is late with its reply to the acquire, and another one is
// cut off then. However the lock is extended, nobody else can get it as long as its holder relies on it.
func TestHolderReliesOnWhatAMajorityHas(t *testing.T) {
	t.Parallel()
	const long, short = time.Hour, 14 * time.Second
	for name, c := range map[string]struct {
		opts    []lock.Option
		ttl     time.Duration
		refresh bool
	}{
		"renewed":          {nil, long, false},
		"held for a while": {[]lock.Option{lock.WithMaxHold(time.Minute)}, long, false},
		"refreshed":        {[]lock.Option{lock.WithRenewal(false)}, short, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			servers, proxies, clients := proxied(t)
			m := newManager(t, nil, lock.WithNodes(clients...))
			warmUp(t, m)
			proxies[2].SetLatency(20 * time.Millisecond)
			l, err := m.With(c.opts...).TryAcquire(t.Context(), "job", c.ttl)
			require.NoError(t, err)
			proxies[2].SetLatency(0)
			everywhere(t, servers, true)
			beyond := time.Now().Add(10 * time.Second) // what any of them can have granted by itself
			if c.refresh {
				require.Eventually(t, func() bool { // and what it was extended to
					return servers[2].Client(t).PTTL(t.Context(), "cache:lock:{job}").Val() > 10*time.Second
				}, patience, tick)
				beyond = time.Now().Add(c.ttl)
			}
			proxies[0].Refuse(true)
			proxies[0].Cut()
			require.Eventually(t, func() bool {
				if c.refresh {
					require.NoError(t, l.Refresh(t.Context()))
				}
				require.True(t, covered(t, servers, l), "until %v", time.Until(l.Until()))
				return l.Until().After(beyond)
			}, patience, 10*tick)
			require.True(t, covered(t, servers, l))
			assert.True(t, l.IsHeld())
		})
	}
}

// TestSlowMasterKeepsTheLock: nothing fails, and one of three is a little slower than the others. It has the lock for as
// long as they do, also if nothing extends it after the first time.
func TestSlowMasterKeepsTheLock(t *testing.T) {
	t.Parallel()
	servers, proxies, clients := proxied(t)
	m := newManager(t, nil, lock.WithNodes(clients...))
	warmUp(t, m)
	proxies[2].SetLatency(10 * time.Millisecond)
	views := map[string]lock.Locker{
		"plain": m, "once": m.With(lock.WithRenewal(false)), "for a while": m.With(lock.WithMaxHold(time.Minute)),
	}
	for name, view := range views {
		_, err := view.TryAcquire(t.Context(), name, time.Hour)
		require.NoError(t, err)
	}
	for name := range views {
		for _, s := range servers {
			require.Eventually(t, func() bool {
				return s.Client(t).PTTL(t.Context(), "cache:lock:{"+name+"}").Val() > 30*time.Second
			}, patience, tick, name)
		}
	}
}

// TestRepairedMasterKeepsALockThatIsNotRenewed: it lost the lock before the last extension that was planned.
func TestRepairedMasterKeepsALockThatIsNotRenewed(t *testing.T) {
	t.Parallel()
	servers := redistest.StartN(t, 3)
	m := newManager(t, nil, lock.WithNodes(clientsOf(t, servers)...))
	for name, opt := range map[string]lock.Option{"once": lock.WithRenewal(false), "for a while": lock.WithMaxHold(time.Minute)} {
		l, err := m.With(opt).TryAcquire(t.Context(), name, time.Hour)
		require.NoError(t, err)
		left := func(i int) time.Duration {
			return servers[i].Client(t).PTTL(t.Context(), "cache:lock:{"+name+"}").Val()
		}
		for i := range servers {
			require.Eventually(t, func() bool { return left(i) > 0 }, patience, tick)
		}
		require.NoError(t, servers[1].Client(t).FlushAll(t.Context()).Err())
		require.NoError(t, l.Refresh(t.Context()))
		if left(1) < 0 { // the others were faster, and know now that it has lost the lock
			require.Eventually(t, func() bool { return l.Refresh(t.Context()) == nil && left(1) > 0 }, patience, 10*tick)
		}
		require.Eventually(t, func() bool { return left(1) > 30*time.Second }, patience, tick, name)
		assert.True(t, l.IsHeld())
	}
}

// TestLateAnswerRepairsNothing: a master says that it does not have the lock when that was released.
func TestLateAnswerRepairsNothing(t *testing.T) {
	t.Parallel()
	servers := redistest.StartN(t, 3)
	m := newManager(t, nil, lock.WithNodes(clientsOf(t, servers)...))
	warmUp(t, m)
	l := acquire(t, m, "job", 6*time.Second)
	everywhere(t, servers, true)
	admin := servers[2].Client(t)
	require.NoError(t, admin.Del(t.Context(), "cache:lock:{job}").Err())
	before := servers[2].Commands(t)
	servers[2].Stop()
	renewed(t, m)
	require.NoError(t, l.Release(t.Context()))
	servers[2].Continue()
	require.Eventually(t, func() bool { return servers[2].Commands(t)["evalsha"] > before["evalsha"] }, patience, tick, "it answers")
	for end := time.Now().Add(300 * time.Millisecond); time.Now().Before(end); hold(tick) {
		require.Equal(t, before["set"], servers[2].Commands(t)["set"])
	}
	require.Empty(t, value(t, servers[2]))
}

// TestRefusedCommandLeavesNothing: the server has said that it did not execute it, so there is nothing to remove, and
// nothing that Close could report.
func TestRefusedCommandLeavesNothing(t *testing.T) {
	t.Parallel()
	onOneAndThree(t, func(t *testing.T, count int) { //nolint:thelper // a test
		servers := redistest.StartN(t, count)
		clients := make([]redis.UniversalClient, count)
		for i, s := range servers {
			require.NoError(t, s.Client(t).Do(t.Context(), "ACL", "SETUSER", "weak", "on", ">x", "~other*", "&*", "+@all").Err())
			options := &redis.Options{Addr: s.Addr(), ContextTimeoutEnabled: true, Username: "weak", Password: "x"}
			client := redis.NewClient(options)
			t.Cleanup(func() { _ = client.Close() })
			clients[i] = client
		}
		// A Close that comes before the last of several servers has answered cannot know, and says so: then another manager tries.
		for end := time.Now().Add(patience); ; {
			m := managerOn(t, clients)
			for i := range 5 {
				_, err := m.Acquire(t.Context(), "job "+strconv.Itoa(i), time.Hour)
				require.ErrorIs(t, err, lock.ErrRedis)
			}
			err := m.Close(t.Context())
			if err == nil {
				return
			}
			require.Greater(t, count, 1, "%v", err)
			require.True(t, time.Now().Before(end), "%v", err)
		}
	})
}

// TestHungClusterThatIsNotKnownYet: to find out where a key lives has to end with the caller's context as well.
func TestHungClusterThatIsNotKnownYet(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, 3)
	client := redis.NewClusterClient(&redis.ClusterOptions{Addrs: cluster.Addrs(), ContextTimeoutEnabled: true})
	t.Cleanup(func() { _ = client.Close() })
	m := newManager(t, client)
	for _, s := range cluster.Nodes() {
		s.Stop()
		defer s.Continue()
	}
	for name, ask := range map[string]func(ctx context.Context) error{
		"Acquire": func(ctx context.Context) error { _, err := m.Acquire(ctx, "job", time.Minute); return err },
		"wait":    func(ctx context.Context) error { _, err := m.AcquireWait(ctx, "job", time.Minute); return err },
		"Close":   m.Close,
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		begin := time.Now()
		if name != "Close" {
			require.Error(t, ask(ctx), name)
		} else {
			_ = ask(ctx)
		}
		assert.Less(t, time.Since(begin), 5*time.Second, name)
		cancel()
	}
}

// oddContext has a deadline, and does not end then.
type oddContext struct {
	context.Context //nolint:containedctx // it is one

	deadline time.Time
}

// Deadline implements context.Context.
func (c oddContext) Deadline() (time.Time, bool) { return c.deadline, true }

func TestContextThatDoesNotEndInTime(t *testing.T) {
	t.Parallel()
	server, m := setup(t)
	server.Kill()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, err := m.Acquire(oddContext{context.Background(), time.Now().Add(50 * time.Millisecond)}, "job", time.Minute)
		assert.Error(t, err)
	}()
	wait(t, done, "the end of the call")
}
