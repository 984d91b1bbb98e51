package lock_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/embedded"
	"github.com/compozy/cache/internal/faultproxy"
	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/lock"
)

// promptly is two seconds, on a busy machine more.
const promptly = 5 * time.Second

// waiting starts to wait for "job" and returns where the lock comes out. The caller knows when it is queued.
func waiting(ctx context.Context, t *testing.T, m *lock.RedisLockManager) <-chan lock.FencedLock {
	t.Helper()
	got := make(chan lock.FencedLock, 1)
	go func() {
		l, err := m.AcquireWait(ctx, "job", longTTL)
		if ctx.Err() == nil {
			assert.NoError(t, err)
		}
		got <- l
	}()
	return got
}

// isPrompt checks that a lock that has been free since then is taken.
func isPrompt(t *testing.T, got <-chan lock.FencedLock, since time.Time) lock.FencedLock {
	t.Helper()
	select {
	case l := <-got:
		require.NotNil(t, l)
		assert.Less(t, time.Since(since), promptly)
		return l
	case <-time.After(patience):
		require.FailNow(t, "nobody has taken the lock")
		return nil
	}
}

// TestUsersWhoMayNotPublishOrSubscribe: their releases are not heard of, or they hear of none.
func TestUsersWhoMayNotPublishOrSubscribe(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	admin := server.Client(t)
	for user, rules := range map[string][]any{
		"free": {"allchannels", "+@all"}, "mute": {"allchannels", "+@all", "-publish"}, "deaf": {"resetchannels", "+@all"},
	} {
		args := append([]any{"ACL", "SETUSER", user, "on", ">secret", "allkeys"}, rules...)
		require.NoError(t, admin.Do(t.Context(), args...).Err())
	}
	for _, users := range [][2]string{{"mute", "free"}, {"free", "deaf"}, {"mute", "deaf"}, {"deaf", "mute"}, {"deaf", "free"}} {
		t.Run(users[0]+" releases "+users[1]+" waits", func(t *testing.T) {
			t.Parallel()
			resource := strings.Join(users[:], " ")
			managers := make([]*lock.RedisLockManager, 2)
			for i, user := range users {
				options := server.Options()
				options.Username, options.Password, options.ContextTimeoutEnabled = user, "secret", true
				c := redis.NewClient(options)
				t.Cleanup(func() { _ = c.Close() })
				managers[i] = newManager(t, c)
			}
			l := acquire(t, managers[0], resource, longTTL)
			got := make(chan lock.FencedLock, 1)
			go func() {
				w, err := managers[1].AcquireWait(t.Context(), resource, longTTL)
				assert.NoError(t, err)
				got <- w
			}()
			require.Eventually(t, func() bool {
				return admin.ZCard(t.Context(), "cache:lock:{"+resource+"}:queue").Val() == 1
			}, patience, tick)
			require.NoError(t, l.Release(t.Context()))
			require.NoError(t, isPrompt(t, got, time.Now()).Release(t.Context()))
		})
	}
}

// TestLostKeysOfTheQueue: they are evicted, deleted or flushed, or their time is up because the server's clock has
// stepped; before the release, after it, or all the time. A free lock is taken within two seconds even so.
func TestLostKeysOfTheQueue(t *testing.T) {
	t.Parallel()
	const lockKey, queueKey, nextKey = "cache:lock:{job}", "cache:lock:{job}:queue", "cache:lock:{job}:next"
	del := func(keys ...string) func(context.Context, *embedded.Server, *redis.Client) {
		return func(ctx context.Context, _ *embedded.Server, c *redis.Client) { _ = c.Del(ctx, keys...).Err() }
	}
	for harm, inflict := range map[string]func(context.Context, *embedded.Server, *redis.Client){
		"queue":         del(queueKey),
		"reservation":   del(nextKey),
		"both":          del(queueKey, nextKey),
		"scripts":       func(ctx context.Context, _ *embedded.Server, c *redis.Client) { _ = c.ScriptFlush(ctx).Err() },
		"clock forward": func(_ context.Context, s *embedded.Server, _ *redis.Client) { s.FastForward(25 * time.Second) },
		"clock back": func(ctx context.Context, _ *embedded.Server, c *redis.Client) {
			for _, key := range []string{lockKey, queueKey, nextKey} {
				if left := c.PTTL(ctx, key).Val(); left > 0 {
					_ = c.PExpire(ctx, key, left+25*time.Second).Err()
				}
			}
			for _, w := range c.ZRangeWithScores(ctx, queueKey, 0, -1).Val() { // they seem to have come later than who comes now
				_ = c.ZAdd(ctx, queueKey, redis.Z{Score: w.Score + 25e6, Member: w.Member}).Err()
			}
		},
		"nothing": func(context.Context, *embedded.Server, *redis.Client) {},
	} {
		for moment := range map[string]bool{"before the release": true, "after the release": true, "always": true, "at the third hand-off": true} {
			t.Run(harm+" "+moment, func(t *testing.T) {
				t.Parallel()
				inBubble(t, func(t *testing.T, server *embedded.Server, client *redis.Client) { //nolint:thelper // a test
					const managers = 4
					var granted []lock.FencedLock
					got := make(chan lock.FencedLock, managers)
					holder, err := lock.NewRedisLockManager(client)
					require.NoError(t, err)
					defer func() { _ = holder.Close(t.Context()) }()
					first := acquire(t, holder, "job", time.Minute)
					require.NoError(t, first.Refresh(t.Context()))
					for range managers {
						m, err := lock.NewRedisLockManager(client)
						require.NoError(t, err)
						defer func() { _ = m.Close(t.Context()) }()
						go func() {
							l, err := m.AcquireWait(t.Context(), "job", time.Minute)
							assert.NoError(t, err)
							assert.NoError(t, l.Refresh(t.Context())) // or the step of the clock would end it
							got <- l
						}()
						time.Sleep(100 * time.Millisecond) // in a bubble
					}
					ctx, stop := context.WithCancel(t.Context())
					defer stop()
					if moment == "always" && !strings.HasPrefix(harm, "clock") {
						go func() {
							for ctx.Err() == nil {
								inflict(ctx, server, client)
								time.Sleep(time.Millisecond) // in a bubble
							}
						}()
					}
					granted = append(granted, first)
					for i := range managers {
						if moment == "before the release" || moment == "at the third hand-off" && i == 2 {
							inflict(ctx, server, client)
						}
						require.NoError(t, granted[i].Release(t.Context()))
						if moment == "after the release" || moment == "always" {
							inflict(ctx, server, client)
						}
						freed := time.Now()
						l := <-got
						took := time.Since(freed)
						assert.LessOrEqual(t, took, 2*time.Second, "hand-off %d", i)
						assert.Greater(t, l.Token(), granted[i].Token())
						granted = append(granted, l)
						time.Sleep(50 * time.Millisecond) // in a bubble
					}
					stop()
					time.Sleep(time.Second) // in a bubble: it has stopped
					require.NoError(t, granted[managers].Release(t.Context()))
				})
			})
		}
	}
}

// TestFlushWithWaiters: the lock is free at once, and nobody says so.
func TestFlushWithWaiters(t *testing.T) {
	t.Parallel()
	for name, flush := range map[string]func(context.Context, *redis.Client) error{
		"flushed": func(ctx context.Context, c *redis.Client) error { return c.FlushAll(ctx).Err() },
		"scripts too": func(ctx context.Context, c *redis.Client) error {
			_ = c.ScriptFlush(ctx).Err()
			return c.FlushAll(ctx).Err()
		},
		"the lock": func(ctx context.Context, c *redis.Client) error { return c.Del(ctx, "cache:lock:{job}").Err() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T, _ *embedded.Server, client *redis.Client) { //nolint:thelper // a test
				holder, err := lock.NewRedisLockManager(client)
				require.NoError(t, err)
				defer func() { _ = holder.Close(t.Context()) }()
				l := acquire(t, holder, "job", longTTL)
				got := make(chan lock.FencedLock, 1)
				for range 3 {
					m, err := lock.NewRedisLockManager(client)
					require.NoError(t, err)
					defer func() { _ = m.Close(t.Context()) }()
					go func() {
						w, err := m.AcquireWait(t.Context(), "job", longTTL)
						assert.NoError(t, err)
						got <- w
					}()
					time.Sleep(300 * time.Millisecond) // in a bubble
				}
				require.NoError(t, flush(t.Context(), client))
				last := l.Token()
				for range 3 {
					freed := time.Now()
					w := <-got
					assert.LessOrEqual(t, time.Since(freed), 2*time.Second)
					assert.Greater(t, w.Token(), last)
					last = w.Token()
					require.NoError(t, w.Release(t.Context()))
				}
				wait(t, l.Lost(), "the next renewal")
			})
		})
	}
}

// TestInboxOnAHungMaster: messages for this waiter go by a master of the cluster that hangs. The lock is on another one.
func TestInboxOnAHungMaster(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, 3, redistest.WithConfig("cluster-require-full-coverage", "no"),
		redistest.WithConfig("cluster-node-timeout", "60000"))
	master := cluster.MasterOf(t, "cache:lock:{job}")
	holder := newManager(t, clusterClient(t, cluster))
	l := acquire(t, holder, "job", longTTL)
	length := queueLength(t, master)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var hung *redistest.Server
	var got <-chan lock.FencedLock
	for hung == nil { // until one has its inbox elsewhere
		m := newManager(t, clusterClient(t, cluster))
		turn, leave := context.WithCancel(ctx)
		got = waiting(turn, t, m)
		require.Eventually(t, func() bool { return length() == 1 }, patience, tick)
		var at *redistest.Server
		require.Eventually(t, func() bool {
			for _, node := range cluster.Nodes() {
				if len(node.Client(t).PubSubChannels(t.Context(), "cache:lock:inbox:*").Val()) > 0 {
					at = node
				}
			}
			return at != nil
		}, patience, tick)
		if at != master {
			hung = at
			defer leave()
			continue
		}
		leave()
		<-got
		require.NoError(t, m.Close(t.Context()))
		require.Eventually(t, func() bool { return length() == 0 }, patience, tick)
	}
	hung.Stop()
	defer hung.Continue()
	require.NoError(t, l.Release(t.Context()))
	w := isPrompt(t, got, time.Now())
	require.NoError(t, w.Refresh(t.Context()))
	require.NoError(t, w.Release(t.Context()))
}

// TestVanishedWaitersWhileAToolListens: their machines are gone, and a tool that reads all messages makes it look as if
// somebody heard them. Likewise a single waiter that vanished with the reservation.
func TestVanishedWaitersWhileAToolListens(t *testing.T) {
	t.Parallel()
	onOneAndThree(t, func(t *testing.T, count int) { //nolint:thelper // a test
		for _, vanish := range []int{1, 5} {
			t.Run(itoa(int64(vanish)), func(t *testing.T) {
				t.Parallel()
				servers := redistest.StartN(t, count)
				proxies := make([]*faultproxy.Proxy, count)
				for i, s := range servers {
					proxies[i] = faultproxy.New(t, s.Addr())
					tool := s.Client(t).PSubscribe(t.Context(), "*")
					t.Cleanup(func() { _ = tool.Close() })
					_, err := tool.Receive(t.Context())
					require.NoError(t, err)
					go func() {
						for range tool.Channel() {
						}
					}()
				}
				l := acquire(t, managerOn(t, clientsOf(t, servers)), "job", longTTL)
				length := queueLength(t, servers[0])
				ctx, cancel := context.WithCancel(t.Context())
				var gone []<-chan lock.FencedLock
				defer func() {
					cancel()
					for _, g := range gone {
						<-g
					}
				}()
				for i := range vanish {
					clients := make([]redis.UniversalClient, count)
					for k, p := range proxies {
						clients[k] = newClient(t, p.Addr())
					}
					gone = append(gone, waiting(ctx, t, managerOn(t, clients)))
					require.Eventually(t, func() bool { return length() == int64(i+1) }, patience, tick)
				}
				got := waiting(ctx, t, managerOn(t, clientsOf(t, servers)))
				require.Eventually(t, func() bool { return length() == int64(vanish+1) }, patience, tick)
				for _, p := range proxies {
					p.SwallowToClient(true)
					p.SwallowToServer(true)
				}
				require.NoError(t, l.Release(t.Context()))
				w := isPrompt(t, got, time.Now())
				require.NoError(t, w.Refresh(t.Context()))
				require.NoError(t, w.Release(t.Context()))
				for _, p := range proxies { // those who come back need no time to notice
					p.SwallowToClient(false)
					p.SwallowToServer(false)
					p.Cut()
				}
			})
		}
	})
}

// TestFirstWaitWithAHungMaster: whichever of three it is, before anything was sent to any.
func TestFirstWaitWithAHungMaster(t *testing.T) {
	t.Parallel()
	for hung := range 3 {
		t.Run(itoa(int64(hung)), func(t *testing.T) {
			t.Parallel()
			servers, manager := setupNodes(t)
			servers[hung].Stop()
			defer servers[hung].Continue()
			m := manager()
			begin := time.Now()
			l, err := m.AcquireWait(t.Context(), "job", longTTL)
			require.NoError(t, err)
			assert.Less(t, time.Since(begin), promptly)
			up := servers[(hung+1)%3]
			length := queueLength(t, up)
			got := waiting(t.Context(), t, manager()) // for one that is held
			require.Eventually(t, func() bool { return length() == 1 }, patience, tick)
			begin = time.Now()
			require.NoError(t, l.Release(t.Context()))
			require.NoError(t, isPrompt(t, got, begin).Release(t.Context()))
		})
	}
}

// TestReleaserDiesWithItsRelease: the command was executed, and its machine is gone before the reply comes.
func TestReleaserDiesWithItsRelease(t *testing.T) {
	t.Parallel()
	onOneAndThree(t, func(t *testing.T, count int) { //nolint:thelper // a test
		servers := redistest.StartN(t, count)
		proxies := make([]*faultproxy.Proxy, count)
		clients := make([]redis.UniversalClient, count)
		for i, s := range servers {
			proxies[i] = faultproxy.New(t, s.Addr())
			clients[i] = newClient(t, proxies[i].Addr())
		}
		holder := managerOn(t, clients, lock.WithNodeTimeout(time.Second))
		warmUp(t, holder)
		l := acquire(t, holder, "job", longTTL)
		length := queueLength(t, servers[0])
		got := waiting(t.Context(), t, managerOn(t, clientsOf(t, servers)))
		require.Eventually(t, func() bool { return length() == 1 }, patience, tick)
		for _, p := range proxies {
			p.SwallowToClient(true)
		}
		var releasing sync.WaitGroup
		defer releasing.Wait()
		begin := time.Now()
		releasing.Go(func() { assert.ErrorIs(t, l.Release(t.Context()), lock.ErrRedis) })
		w := isPrompt(t, got, begin)
		for _, p := range proxies {
			p.Refuse(true)
			p.Cut()
		}
		require.NoError(t, w.Refresh(t.Context()))
		require.NoError(t, w.Release(t.Context()))
	})
}
