package lock_test

import (
	"context"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/lock"
)

// setupNodes returns three masters and a function that makes managers on them.
func setupNodes(t testing.TB) ([]*redistest.Server, func(opts ...lock.Option) *lock.RedisLockManager) {
	t.Helper()
	servers := redistest.StartN(t, 3)
	return servers, func(opts ...lock.Option) *lock.RedisLockManager {
		clients := make([]redis.UniversalClient, len(servers))
		for i, s := range servers {
			clients[i] = newClient(t, s.Addr())
		}
		return newManager(t, nil, append(opts, lock.WithNodes(clients...))...)
	}
}

// patientNodes are the nodes of a manager that waits for its masters for as long as it likes: their clients do not stop it.
func patientNodes(t testing.TB, servers []*redistest.Server) lock.Option {
	t.Helper()
	clients := make([]redis.UniversalClient, len(servers))
	for i, s := range servers {
		clients[i] = newPatientClient(t, s.Addr())
		require.NoError(t, clients[i].Ping(t.Context()).Err())
	}
	return lock.WithNodes(clients...)
}

// value returns whose lock a server has under the key of "job", whichever try has set it.
func value(t testing.TB, server *redistest.Server) string {
	t.Helper()
	claim, _, _ := strings.Cut(server.Client(t).Get(t.Context(), "cache:lock:{job}").Val(), "#")
	return claim
}

// everywhere waits until "job" is locked on all servers, or on none.
func everywhere(t testing.TB, servers []*redistest.Server, locked bool) {
	t.Helper()
	for _, s := range servers {
		require.Eventually(t, func() bool { return (value(t, s) != "") == locked }, patience, tick)
	}
}

func TestQuorumExcludesAndReleases(t *testing.T) {
	t.Parallel()
	servers, manager := setupNodes(t)
	first, second := manager(), manager()
	var tokens []int64
	for range 5 {
		l := acquire(t, first, "job", longTTL)
		_, err := second.Acquire(t.Context(), "job", longTTL)
		require.ErrorIs(t, err, lock.ErrLockNotAcquired)
		tokens = append(tokens, l.Token())
		require.NoError(t, l.Refresh(t.Context()))
		require.NoError(t, l.Release(t.Context()))
		require.ErrorIs(t, l.Release(t.Context()), lock.ErrLockNotHeld)
		// Both calls return when two masters have decided; what is late on the third must not refuse another manager.
		everywhere(t, servers, false)
		first, second = second, first
	}
	assert.IsIncreasing(t, tokens)
}

func TestQuorumIsOneRoundTrip(t *testing.T) {
	t.Parallel()
	const grown, scripts = 1, 2 // by how much the token has, and one to acquire, one to release
	undisturbed(t, []int64{grown, scripts, scripts, scripts}, func() []int64 {
		servers, manager := setupNodes(t)
		m := manager()
		cycle := func() int64 {
			l := acquire(t, m, "job", longTTL)
			everywhere(t, servers, true)
			require.NoError(t, l.Release(t.Context()))
			everywhere(t, servers, false)
			return l.Token()
		}
		// The first fences come from clocks that differ. The largest is written back, and soon all agree.
		last := cycle()
		require.Eventually(t, func() bool {
			last = cycle()
			for _, s := range servers {
				if s.Client(t).Get(t.Context(), "cache:lock:{job}:fence").Val() != itoa(last) {
					return false
				}
			}
			return true
		}, patience, tick)
		for _, s := range servers {
			s.ResetCommands(t)
		}
		counts := []int64{cycle() - last}
		for _, s := range servers {
			counts = append(counts, s.Commands(t)["evalsha"])
		}
		return counts
	})
}

func TestStoppedMinorityCostsNothing(t *testing.T) {
	t.Parallel()
	servers := redistest.StartN(t, 3)
	m := newManager(t, nil, patientNodes(t, servers), lock.WithNodeTimeout(time.Hour)) // for a single call
	require.NoError(t, acquire(t, m, "warm", longTTL).Release(t.Context()))
	servers[1].Stop()
	for range 20 {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		l, err := m.Acquire(ctx, "job", longTTL)
		require.NoError(t, err)
		require.NoError(t, l.Release(ctx))
		cancel()
	}
	require.NoError(t, m.HealthCheck(t.Context()))
	servers[1].Continue()
	require.Eventually(t, func() bool { return value(t, servers[1]) == "" }, patience, tick, "late grants are taken back")
}

// TestStoppedMinorityDoesNotHoldUpClose: whatever was asked of it in the background, and however long its client would wait.
func TestStoppedMinorityDoesNotHoldUpClose(t *testing.T) {
	t.Parallel()
	for name, ask := range map[string]func(*testing.T, *lock.RedisLockManager, []*redistest.Server){
		"health check": func(t *testing.T, m *lock.RedisLockManager, _ []*redistest.Server) {
			t.Helper()
			require.NoError(t, m.HealthCheck(context.Background()))
		},
		"inbox": func(t *testing.T, m *lock.RedisLockManager, servers []*redistest.Server) {
			t.Helper()
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() {
				_, err := m.AcquireWait(ctx, "job", longTTL)
				done <- err
			}()
			length := queueLength(t, servers[0])
			require.Eventually(t, func() bool { return length() == 1 }, patience, tick)
			cancel()
			require.ErrorIs(t, <-done, context.Canceled)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			servers, manager := setupNodes(t)
			acquire(t, manager(), "job", longTTL)
			everywhere(t, servers, true)
			m := newManager(t, nil, patientNodes(t, servers))
			servers[2].Stop()
			defer servers[2].Continue()
			ask(t, m, servers)
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			require.NoError(t, m.Close(ctx))
		})
	}
}

func TestStoppedMajorityIsARedisError(t *testing.T) {
	t.Parallel()
	servers, manager := setupNodes(t)
	m := manager(lock.WithNodeTimeout(time.Second))
	held := acquire(t, m, "held", 2*time.Second)
	servers[0].Stop()
	servers[2].Stop()
	_, err := m.Acquire(t.Context(), "job", longTTL)
	require.ErrorIs(t, err, lock.ErrRedis)
	require.NotErrorIs(t, err, lock.ErrLockNotAcquired)
	require.ErrorIs(t, m.HealthCheck(t.Context()), lock.ErrRedis)
	wait(t, held.Lost(), "loss")
	servers[0].Continue()
	servers[2].Continue()
	everywhere(t, servers, false)
}

func TestMasterRestartedEmptyRejoins(t *testing.T) {
	t.Parallel()
	servers, manager := setupNodes(t)
	first, second := manager(), manager()
	const ttl = 6 * time.Second
	l := acquire(t, first, "job", ttl)
	everywhere(t, servers, true)
	own := value(t, servers[0])
	for i := range 3 { // one after the other: the lock survives as each is filled again before the next
		servers[i].Restart()
		// Not any value: one that the other manager asked for just then is taken back.
		require.Eventually(t, func() bool { return value(t, servers[i]) == own }, patience, tick)
		require.True(t, l.IsHeld())
		_, err := second.Acquire(t.Context(), "job", ttl)
		require.Error(t, err)
	}
	require.NoError(t, l.Release(t.Context()))
	everywhere(t, servers, false)
	next := acquire(t, second, "job", ttl)
	assert.Greater(t, next.Token(), l.Token(), "the fence came along")
}

func TestWaitingOnSeveralMasters(t *testing.T) {
	t.Parallel()
	servers, manager := setupNodes(t)
	l := acquire(t, manager(), "job", longTTL)
	got := make(chan lock.FencedLock, 3)
	for i := range 3 {
		m := manager()
		go func() {
			w, err := m.AcquireWait(t.Context(), "job", longTTL)
			if assert.NoError(t, err) {
				got <- w
			}
		}()
		for _, s := range servers {
			length := queueLength(t, s)
			require.Eventually(t, func() bool { return length() == int64(i+1) }, patience, tick)
		}
	}
	token := l.Token()
	for range 3 {
		require.NoError(t, l.Release(t.Context()))
		select {
		case next := <-got:
			l = concrete(t, next)
		case <-time.After(patience):
			require.FailNow(t, "nobody got the lock")
		}
		assert.Greater(t, l.Token(), token)
		token = l.Token()
	}
	require.NoError(t, l.Release(t.Context()))
	for _, s := range servers {
		require.Eventually(t, func() bool { return len(traces(t, s)) == 0 }, patience, tick)
	}
}

// TestSplitWithAStoppedMinority: of the two masters that answer one grants and one refuses, as happens while a lock is
// being released or when several acquire at the same time.
func TestSplitWithAStoppedMinority(t *testing.T) {
	t.Parallel()
	servers := redistest.StartN(t, 3)
	m := newManager(t, nil, patientNodes(t, servers), lock.WithNodeTimeout(time.Hour))
	servers[1].Stop()
	defer servers[1].Continue() // Close would wait for it
	client := servers[2].Client(t)
	require.NoError(t, client.Set(t.Context(), "cache:lock:{job}", "somebody", 0).Err())

	// The stopped node would have an hour to answer; waiting for it cannot be told from this context's end.
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	_, err := m.Acquire(ctx, "job", longTTL)
	require.ErrorIs(t, err, lock.ErrLockNotAcquired, "a majority answers, so Redis works, and somebody is there")
	require.NotErrorIs(t, err, lock.ErrRedis)
	everywhere(t, servers[:1], false)

	done := make(chan lock.FencedLock, 1)
	go func() {
		l, err := m.AcquireWait(t.Context(), "job", longTTL)
		assert.NoError(t, err, "a majority answers, so Redis works")
		done <- l
	}()
	require.Eventually(t, func() bool { return queueLength(t, servers[2])() == 1 }, patience, tick)
	require.NoError(t, client.Del(t.Context(), "cache:lock:{job}").Err())
	l := <-done
	require.NotNil(t, l)
	require.True(t, l.IsHeld())
	require.NoError(t, l.Release(t.Context()))
}

// TestCloseDoesNotWaitForAStoppedMinority: what it may have left there ends with its TTL.
func TestCloseDoesNotWaitForAStoppedMinority(t *testing.T) {
	t.Parallel()
	servers := redistest.StartN(t, 3)
	m := newManager(t, nil, patientNodes(t, servers))
	servers[1].Stop()
	l := acquire(t, m, "job", longTTL)
	acquire(t, m, "another", longTTL)
	for range 3 { // each leaves something to be cleaned up on the node that is stopped
		_, err := m.Acquire(t.Context(), "job", longTTL)
		require.ErrorIs(t, err, lock.ErrLockNotAcquired)
	}
	// Longer than a node has to answer. Nothing else ends the calls to the one that is stopped.
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	require.NoError(t, m.Close(ctx))
	require.NoError(t, ctx.Err())
	require.ErrorIs(t, l.Release(t.Context()), lock.ErrManagerClosed)
	for _, i := range []int{0, 2} {
		assert.Empty(t, value(t, servers[i]))
	}
}

// half is a connection that breaks: the replies to acquisitions get lost, or nothing arrives at all.
type half struct {
	redistest.Hook

	lossy, dead atomic.Bool
	lost        atomic.Int64
}

func (h *half) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		args := cmd.Args()
		switch script := strings.HasPrefix(cmd.Name(), "eval"); {
		case script && h.dead.Load():
		case script && h.lossy.Load() && args[2] == 4: // of all scripts those that take a lock have four keys
			_ = next(ctx, cmd)
			h.lost.Add(1)
		default:
			return next(ctx, cmd)
		}
		cmd.SetErr(io.EOF)
		return io.EOF
	}
}

// TestMinorityThatMayHaveGranted: one of three masters has granted the lock without anybody knowing, and does not hear of
// the release either. Its key is removed as soon as it is back, or it would refuse others until the TTL is over.
func TestMinorityThatMayHaveGranted(t *testing.T) {
	t.Parallel()
	servers := redistest.StartN(t, 3)
	broken := &half{}
	third := newClient(t, servers[2].Addr())
	third.AddHook(broken)
	m := newManager(t, nil, lock.WithNodes(newClient(t, servers[0].Addr()), newClient(t, servers[1].Addr()), third))
	require.NoError(t, acquire(t, m, "job", longTTL).Release(t.Context()))
	// Nothing is under way that the next call could go along with.
	require.Eventually(t, func() bool { return value(t, servers[2]) == "" }, patience, tick)

	broken.lossy.Store(true)
	l := acquire(t, m, "job", time.Hour)
	require.Eventually(t, func() bool { return broken.lost.Load() >= 4 }, patience, tick, "it is tried for so often")
	require.NotEmpty(t, value(t, servers[2]))
	broken.dead.Store(true)
	require.NoError(t, l.Release(t.Context()))
	require.NotEmpty(t, value(t, servers[2]))
	broken.lossy.Store(false)
	broken.dead.Store(false)
	require.Eventually(t, func() bool { return value(t, servers[2]) == "" }, patience, tick)
}
