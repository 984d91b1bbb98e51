package lock_test

import (
	"context"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/lock"
)

// movingAddress is one that leads to another server from some time on. Connections that exist stay where they are.
type movingAddress struct {
	to atomic.Pointer[redistest.Server]
}

func newMovingAddress(s *redistest.Server) *movingAddress {
	a := &movingAddress{}
	a.to.Store(s)
	return a
}

// client returns a client that knows no other address.
func (a *movingAddress) client(t *testing.T) *redis.Client {
	t.Helper()
	c := redis.NewClient(&redis.Options{
		ContextTimeoutEnabled: true,
		Dialer: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, a.to.Load().Addr())
		},
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// replicated returns a master and a replica that follows it and has all it has.
func replicated(t *testing.T) (master, replica *redistest.Server) {
	t.Helper()
	servers := redistest.StartN(t, 2)
	master, replica = servers[0], servers[1]
	require.NoError(t, replica.Client(t).ReplicaOf(t.Context(), master.Host(), master.Port()).Err())
	synchronous(t, master, replica)
	return master, replica
}

// synchronous waits until a replica has what its master has.
func synchronous(t *testing.T, master, replica *redistest.Server) {
	t.Helper()
	from, to := master.Client(t), replica.Client(t)
	require.NoError(t, from.Set(t.Context(), "mark", t.Name(), 0).Err())
	require.Eventually(t, func() bool { return to.Get(t.Context(), "mark").Val() == t.Name() }, patience, tick)
}

// failOver makes the replica the master, without a loss of data or of a connection of a client.
func failOver(t *testing.T, master, replica *redistest.Server) {
	t.Helper()
	from, to := master.Client(t), replica.Client(t)
	require.Eventually(t, func() bool { // refused as long as the replica is not connected
		return from.Do(t.Context(), "FAILOVER", "TO", replica.Host(), replica.Port()).Err() == nil
	}, patience, tick)
	require.Eventually(t, func() bool {
		role := to.Do(t.Context(), "ROLE")
		list, _ := role.Slice()
		return len(list) > 0 && list[0] == "master"
	}, patience, tick)
	require.Eventually(t, func() bool {
		return strings.Contains(from.Info(t.Context(), "replication").Val(), "master_link_status:up")
	}, patience, tick)
}

// TestFailoverThatKeepsConnections: the former master goes on to relay messages to whoever has its inbox there, while
// it can neither lock nor unlock. Whichever clients follow the master at once and whichever later, there is one holder at
// a time, and its key is on the master.
func TestFailoverThatKeepsConnections(t *testing.T) {
	t.Parallel()
	const waiting = 3
	for name, late := range map[string][waiting + 1]bool{ // the holder and those who wait, by whether their address moves late
		"all follow at once": {},
		"all follow late":    {true, true, true, true},
		"the holder is late": {true},
		"the first is late":  {false, true},
		"the holder follows": {false, true, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			master, replica := replicated(t)
			addresses := make([]*movingAddress, len(late))
			managers := make([]*lock.RedisLockManager, len(late))
			for i := range late {
				addresses[i] = newMovingAddress(master)
				managers[i] = newManager(t, addresses[i].client(t))
			}
			l := acquire(t, managers[0], "job", longTTL)
			length := queueLength(t, master)
			onMaster := replica.Client(t)
			var holders atomic.Int32
			tokens := make(chan int64, waiting)
			var all sync.WaitGroup
			ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
			defer cancel()
			for i := range waiting {
				all.Go(func() {
					w, err := managers[i+1].AcquireWait(ctx, "job", longTTL)
					if !assert.NoError(t, err) {
						return
					}
					tokens <- w.Token()
					assert.Equal(t, int32(1), holders.Add(1), "holders")
					for end := time.Now().Add(300 * time.Millisecond); time.Now().Before(end); hold(tick) {
						assert.True(t, w.IsHeld())
						assert.NotEmpty(t, onMaster.Get(ctx, "cache:lock:{job}").Val(), "it holds a key that the master has")
					}
					assert.NoError(t, w.Refresh(ctx))
					holders.Add(-1)
					assert.NoError(t, w.Release(ctx))
				})
				require.Eventually(t, func() bool { return length() == int64(i+1) }, patience, tick)
			}
			synchronous(t, master, replica)
			failOver(t, master, replica)
			move := func(late bool, which [waiting + 1]bool) {
				for i, a := range addresses {
					if which[i] == late {
						a.to.Store(replica)
					}
				}
			}
			move(false, late)
			released := make(chan error, 1)
			go func() { released <- l.Release(ctx) }()
			hold(time.Second) // whoever believes a message believes it now
			move(true, late)
			if err := <-released; err != nil { // it had only a server that could not do it
				require.ErrorIs(t, err, lock.ErrRedis)
				require.Eventually(t, func() bool { return l.Release(ctx) == nil }, patience, tick)
			}
			all.Wait()
			close(tokens)
			last := l.Token()
			for token := range tokens {
				assert.Greater(t, token, last)
				last = token
			}
			require.Eventually(t, func() bool { return len(traces(t, replica)) == 0 }, patience, tick)
		})
	}
}

// TestDemotedMasterRelaysMessages: those who wait have their inboxes on what is a replica now, and hear of a release
// through it.
func TestDemotedMasterRelaysMessages(t *testing.T) {
	t.Parallel()
	master, replica := replicated(t)
	address := newMovingAddress(master)
	waiter := newManager(t, address.client(t))
	held := acquire(t, newManager(t, newClient(t, master.Addr())), "job", longTTL)
	got := make(chan lock.FencedLock, 1)
	go func() {
		w, err := waiter.AcquireWait(t.Context(), "job", longTTL)
		assert.NoError(t, err)
		got <- w
	}()
	length := queueLength(t, master)
	require.Eventually(t, func() bool { return length() == 1 }, patience, tick)
	inboxes := func(s *redistest.Server) []string {
		return s.Client(t).PubSubChannels(t.Context(), "cache:lock:inbox:*").Val()
	}
	require.Eventually(t, func() bool { return len(inboxes(master)) == 1 }, patience, tick)
	synchronous(t, master, replica)
	failOver(t, master, replica)
	require.Len(t, inboxes(master), 1, "the connection was kept")
	waiters := master.Client(t).ZRange(t.Context(), "cache:lock:{job}:queue", 0, -1).Val()
	require.Len(t, waiters, 1)

	// What says that the lock was released for the waiter, and is not true.
	channel, _, _ := strings.Cut(waiters[0], ":1")
	require.NoError(t, replica.Client(t).Publish(t.Context(), channel, waiters[0]).Err())
	address.to.Store(replica)
	select {
	case <-got:
		require.Fail(t, "a message made a holder")
	case <-time.After(2 * time.Second): // the time in which it asks
	}
	require.Eventually(t, func() bool { return value(t, master) == value(t, replica) }, patience, tick)
	other := newManager(t, newClient(t, replica.Addr()))
	_, err := other.Acquire(t.Context(), "job", longTTL)
	require.ErrorIs(t, err, lock.ErrLockNotAcquired)
	require.True(t, held.IsHeld())

	// Now it is: whoever had it is gone.
	require.NoError(t, replica.Client(t).Del(t.Context(), "cache:lock:{job}").Err())
	w := <-got
	require.NotNil(t, w)
	require.NoError(t, w.Refresh(t.Context()))
	assert.Greater(t, w.Token(), held.Token())
	require.NoError(t, w.Release(t.Context()))
}

// TestMessagesGrantNothing: whatever comes through an inbox, true or not, once or a hundred times.
func TestMessagesGrantNothing(t *testing.T) {
	t.Parallel()
	server, holder := setup(t)
	admin := server.Client(t)
	l := acquire(t, holder, "job", longTTL)
	const waiting = 3
	length := queueLength(t, server)
	var holders atomic.Int32
	var all sync.WaitGroup
	for i := range waiting {
		m := newManager(t, newClient(t, server.Addr()))
		all.Go(func() {
			assert.NoError(t, m.WithLock(t.Context(), "job", longTTL, func(ctx context.Context, w lock.FencedLock) error {
				assert.Equal(t, int32(1), holders.Add(1))
				defer holders.Add(-1)
				return w.Refresh(ctx)
			}))
		})
		require.Eventually(t, func() bool { return length() == int64(i+1) }, patience, tick)
	}
	names := admin.ZRange(t.Context(), "cache:lock:{job}:queue", 0, -1).Val()
	require.Len(t, names, waiting)
	for range 30 {
		for _, name := range names {
			channel := name[:strings.LastIndex(name, ":")]
			for _, message := range []string{name, name + " 1", name + " -7", name + " x", "", " ", channel} {
				require.NoError(t, admin.Publish(t.Context(), channel, message).Err())
			}
		}
		require.Zero(t, holders.Load())
		require.NoError(t, l.Refresh(t.Context()))
	}
	require.NoError(t, l.Release(t.Context()))
	all.Wait()
	require.Eventually(t, func() bool { return len(traces(t, server)) == 0 }, patience, tick)
}
