package lock_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/embedded"
	"github.com/compozy/cache/internal/faultproxy"
	"github.com/compozy/cache/lock"

	"github.com/compozy/cache/internal/redistest"
)

// TestVanishedWaitersInARowCostTwoSeconds: their machine is gone, though the server believes them to be there.
func TestVanishedWaitersInARowCostTwoSeconds(t *testing.T) {
	t.Parallel()
	server, holder := setup(t)
	proxy := faultproxy.New(t, server.Addr())
	l := acquire(t, holder, "job", longTTL)
	length := queueLength(t, server)

	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()
	const vanish, stay = 4, 2
	for i := range vanish {
		m := newManager(t, newClient(t, proxy.Addr()))
		all.Go(func() {
			_, err := m.AcquireWait(ctx, "job", longTTL)
			assert.ErrorIs(t, err, context.Canceled)
		})
		require.Eventually(t, func() bool { return length() == int64(i+1) }, patience, tick)
	}
	got := make(chan int, stay)
	for i := range stay {
		m := newManager(t, newClient(t, server.Addr()))
		all.Go(func() {
			w, err := m.AcquireWait(t.Context(), "job", longTTL)
			if assert.NoError(t, err) {
				got <- i
				assert.NoError(t, w.Release(t.Context()))
			}
		})
		require.Eventually(t, func() bool { return length() == int64(vanish+i+1) }, patience, tick)
	}
	proxy.SwallowToClient(true)
	proxy.SwallowToServer(true)

	begin := time.Now()
	require.NoError(t, l.Release(t.Context()))
	first := <-got
	took := time.Since(begin)
	t.Logf("%v", took)
	assert.Less(t, took, 5*time.Second, "two, on a busy machine more")
	assert.NotEqual(t, first, <-got, "in either order: when a reservation has lapsed, the first to ask gets the lock")
	proxy.SwallowToClient(false)
	proxy.SwallowToServer(false)
	proxy.Cut() // so that those who come back need no time to notice
}

// vanished adds waiters to the queue of "job" whom nobody hears of any more, though their inboxes have a listener. They
// arrived one after the other. The caller ends the listeners.
func vanished(t *testing.T, client *redis.Client, count int) (closing []func() error) {
	t.Helper()
	for i := range count {
		name := fmt.Sprintf("cache:lock:inbox:gone%d:1", i)
		pubsub := client.Subscribe(t.Context(), fmt.Sprintf("cache:lock:inbox:gone%d", i))
		closing = append(closing, pubsub.Close)
		_, err := pubsub.Receive(t.Context())
		require.NoError(t, err)
		go func() { // the server must be able to write
			for err == nil {
				_, err = pubsub.Receive(context.Background())
			}
		}()
		score := float64(time.Now().UnixMicro() + int64(i))
		require.NoError(t, client.ZAdd(t.Context(), "cache:lock:{job}:queue", z(score, name)).Err())
	}
	return closing
}

// TestAnyNumberOfVanishedWaiters: however many are ahead, the first who is alive has the lock after two seconds.
func TestAnyNumberOfVanishedWaiters(t *testing.T) {
	t.Parallel()
	for _, count := range []int{1, 2, 3, 12, 40} {
		t.Run(itoa(int64(count)), func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T, _ *embedded.Server, client *redis.Client) { //nolint:thelper // a test
				m, err := lock.NewRedisLockManager(client)
				require.NoError(t, err)
				defer func() { _ = m.Close(t.Context()) }()
				l := acquire(t, m, "job", longTTL)
				for _, leave := range vanished(t, client, count) {
					defer func() { _ = leave() }()
				}
				time.Sleep(time.Second) // in a bubble: who has arrived later is behind
				done := make(chan lock.FencedLock, 2)
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				for range 2 { // the first one is to be served first
					w, err := lock.NewRedisLockManager(client)
					require.NoError(t, err)
					defer func() { _ = w.Close(t.Context()) }()
					go func() {
						got, _ := w.AcquireWait(ctx, "job", longTTL)
						done <- got
					}()
					time.Sleep(100 * time.Millisecond) // in a bubble
				}
				begin := time.Now()
				require.NoError(t, l.Release(t.Context()))
				got := <-done
				require.NotNil(t, got)
				took := time.Since(begin)
				t.Logf("%v", took)
				assert.LessOrEqual(t, took, 2*time.Second)
				begin = time.Now()
				require.NoError(t, got.Release(t.Context()))
				require.NoError(t, (<-done).Release(t.Context()))
				assert.LessOrEqual(t, time.Since(begin), 2*time.Second)
				time.Sleep(4 * time.Second) // in a bubble: nobody asks of the queue
				assert.Zero(t, client.Exists(t.Context(), "cache:lock:{job}", "cache:lock:{job}:queue", "cache:lock:{job}:next").Val())
			})
		})
	}
}

// TestWhoComesBetweenTwoHandOffs: a waiter that has come just now finds the vanished ones ahead of it.
func TestWhoComesBetweenTwoHandOffs(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, _ *embedded.Server, client *redis.Client) { //nolint:thelper // a test
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		waitFor := func() chan lock.FencedLock {
			m, err := lock.NewRedisLockManager(client)
			require.NoError(t, err)
			context.AfterFunc(ctx, func() { _ = m.Close(context.Background()) })
			done := make(chan lock.FencedLock, 1)
			go func() {
				got, _ := m.AcquireWait(ctx, "job", longTTL)
				done <- got
			}()
			time.Sleep(200 * time.Millisecond) // in a bubble: it has asked
			return done
		}
		l := <-waitFor()
		first := waitFor()
		const count = 3
		for _, leave := range vanished(t, client, count) {
			defer func() { _ = leave() }()
		}
		require.NoError(t, l.Release(t.Context()))
		l = <-first
		time.Sleep(200 * time.Millisecond) // in a bubble: it has confirmed the lock
		last := waitFor()
		require.NoError(t, l.Release(t.Context()))
		begin := time.Now()
		l = <-last
		require.NotNil(t, l)
		assert.LessOrEqual(t, time.Since(begin), 2*time.Second)
		require.NoError(t, l.Release(t.Context()))
		cancel()
		time.Sleep(time.Second) // in a bubble: all are closed
	})
}

// countScripts counts the scripts that a client is asked to run.
type countScripts struct {
	redistest.Hook

	count atomic.Int64
}

func (c *countScripts) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		c.see(cmd)
		return next(ctx, cmd)
	}
}

func (c *countScripts) see(cmds ...redis.Cmder) {
	for _, cmd := range cmds {
		if strings.HasPrefix(cmd.Name(), "eval") {
			c.count.Add(1)
		}
	}
}

func (c *countScripts) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		c.see(cmds...)
		return next(ctx, cmds)
	}
}

// TestOneOfAllAsks: however many wait, one of them asks every two seconds on behalf of all.
func TestOneOfAllAsks(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, _ *embedded.Server, client *redis.Client) { //nolint:thelper // a test
		scripts := &countScripts{}
		client.AddHook(scripts)
		const waiting = 20
		done := make(chan lock.FencedLock, waiting)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		holder, err := lock.NewRedisLockManager(client)
		require.NoError(t, err)
		defer func() { _ = holder.Close(t.Context()) }()
		l := acquire(t, holder, "job", time.Hour)
		require.NoError(t, l.Refresh(t.Context())) // the script is known
		for range waiting {
			m, err := lock.NewRedisLockManager(client)
			require.NoError(t, err)
			defer func() { _ = m.Close(t.Context()) }()
			go func() {
				got, _ := m.AcquireWait(ctx, "job", time.Hour)
				done <- got
			}()
			time.Sleep(10 * time.Millisecond) // in a bubble: all have asked
		}
		for round := range 3 { // slow hand-offs: each holder keeps the lock for longer than the grant, and a look is due
			scripts.count.Store(0)
			require.NoError(t, l.Release(t.Context()))
			l = concrete(t, <-done)
			require.NotNil(t, l)
			time.Sleep(2500 * time.Millisecond) // in a bubble
			if round == 0 {
				continue // a script may have to be loaded first
			}
			assert.LessOrEqual(t, scripts.count.Load(), int64(4), "release, acquire, and a look every two seconds")
		}
	})
}

// TestForeignKeyThatLasts: it has no TTL to wait for, and whoever removes it tells nobody.
func TestForeignKeyThatLasts(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, _ *embedded.Server, client *redis.Client) { //nolint:thelper // a test
		scripts := &countScripts{}
		client.AddHook(scripts)
		require.NoError(t, client.Set(t.Context(), "cache:lock:{job}", "foreign", 0).Err())
		m, err := lock.NewRedisLockManager(client)
		require.NoError(t, err)
		defer func() { _ = m.Close(t.Context()) }()
		done := make(chan error, 1)
		go func() {
			_, err := m.AcquireWait(t.Context(), "job", longTTL)
			done <- err
		}()
		time.Sleep(10 * time.Second) // in a bubble
		assert.LessOrEqual(t, scripts.count.Load(), int64(9), "every two seconds")
		require.NoError(t, client.Del(t.Context(), "cache:lock:{job}").Err())
		require.NoError(t, <-done)
	})
}
