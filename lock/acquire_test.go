package lock_test

import (
	"context"
	"net"
	"strings"
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

func TestTwoManagersExcludeEachOther(t *testing.T) {
	t.Parallel()
	server, first := setup(t)
	second := newManager(t, newClient(t, server.Addr()))

	l := acquire(t, first, "job", longTTL)
	assert.Equal(t, "job", l.Resource())
	assert.True(t, l.IsHeld())
	_, err := second.Acquire(t.Context(), "job", longTTL)
	require.ErrorIs(t, err, lock.ErrLockNotAcquired)
	var refused *lock.NotAcquiredError
	require.ErrorAs(t, err, &refused)
	assert.InDelta(t, 10, refused.RetryAfter.Seconds(), 5, "as long as it was not renewed")

	require.NoError(t, l.Release(t.Context()))
	assert.False(t, l.IsHeld())
	next := acquire(t, second, "job", longTTL)
	assert.Greater(t, next.Token(), l.Token())
	require.ErrorIs(t, l.Release(t.Context()), lock.ErrLockNotHeld)
	require.ErrorIs(t, l.Refresh(t.Context()), lock.ErrLockNotHeld)
	require.NoError(t, next.Refresh(t.Context()), "a second release of the first lock must not delete it")
}

func TestBadInputSendsNothing(t *testing.T) {
	t.Parallel()
	server, m := setup(t)
	server.ResetCommands(t)
	for name, call := range map[string]func() error{
		"empty resource": func() error { _, err := m.Acquire(t.Context(), "", time.Second); return err },
		"zero ttl":       func() error { _, err := m.Acquire(t.Context(), "r", 0); return err },
		"negative ttl":   func() error { _, err := m.Acquire(t.Context(), "r", -time.Second); return err },
		"short ttl":      func() error { _, err := m.Acquire(t.Context(), "r", 9*time.Millisecond); return err },
		"nil context":    func() error { _, err := m.Acquire(nil, "r", time.Second); return err }, //nolint:staticcheck // the point of the test
		"wait":           func() error { _, err := m.AcquireWait(t.Context(), "", time.Second); return err },
		"nil function":   func() error { return m.WithLock(t.Context(), "r", time.Second, nil) },
	} {
		err := call()
		require.ErrorIs(t, err, lock.ErrInvalidArgument, name)
		var argument *lock.ArgumentError
		require.ErrorAs(t, err, &argument, name)
		assert.NotEmpty(t, argument.Argument, name)
	}
	assert.Empty(t, server.Commands(t))

	_, err := lock.NewRedisLockManager(nil)
	require.ErrorIs(t, err, lock.ErrInvalidArgument)
	_, err = lock.NewRedisLockManager(nil, lock.WithNodes())
	require.ErrorIs(t, err, lock.ErrInvalidArgument)
	ring := redis.NewRing(&redis.RingOptions{Addrs: map[string]string{"a": server.Addr()}})
	defer func() { require.NoError(t, ring.Close()) }()
	_, err = lock.NewRedisLockManager(ring)
	require.ErrorContains(t, err, "invalid argument: client is a *redis.Ring")
	_, err = lock.NewRedisLockManager(nil, lock.WithNodes(newClient(t, server.Addr()), ring))
	require.ErrorContains(t, err, "invalid argument: WithNodes contains a *redis.Ring")
	_, err = lock.NewRedisLockManager(newClient(t, server.Addr()), lock.WithKeyPrefix("a{}b:"))
	require.ErrorIs(t, err, lock.ErrInvalidArgument)
}

func TestOneRoundTripEach(t *testing.T) {
	t.Parallel()
	one := map[string]int64{"script": 1}
	type counted struct{ acquire, refused, refresh, release map[string]int64 }
	undisturbed(t, counted{acquire: one, refused: one, refresh: one, release: one}, func() (counts counted) {
		server, m := setup(t)
		other := newManager(t, newClient(t, server.Addr()))
		// Scripts are loaded by their first use.
		l := acquire(t, m, "warm", longTTL)
		_, err := other.Acquire(t.Context(), "warm", longTTL)
		require.ErrorIs(t, err, lock.ErrLockNotAcquired)
		require.NoError(t, l.Refresh(t.Context()))
		require.NoError(t, l.Release(t.Context()))

		scripts := func(act func()) map[string]int64 {
			server.ResetCommands(t)
			act()
			sent := map[string]int64{}
			for name, calls := range server.Commands(t) {
				switch name {
				case "evalsha", "eval": // the first run of a script carries its source
					sent["script"] += calls
				case "script|load", "publish", "hello", "client|setinfo":
					sent[name] = calls
				}
			}
			return sent
		}
		counts.acquire = scripts(func() { l = acquire(t, m, "job", longTTL) })
		counts.refused = scripts(func() {
			_, err := other.Acquire(t.Context(), "job", longTTL)
			require.ErrorIs(t, err, lock.ErrLockNotAcquired)
		})
		counts.refresh = scripts(func() { require.NoError(t, l.Refresh(t.Context())) })
		counts.release = scripts(func() { require.NoError(t, l.Release(t.Context())) })
		return counts
	})
}

func TestErrorsAreNotConfused(t *testing.T) {
	t.Parallel()
	server, m := setup(t)
	holder := acquire(t, m, "job", longTTL)
	kinds := []error{lock.ErrLockNotAcquired, context.Canceled, context.DeadlineExceeded, lock.ErrRedis, lock.ErrManagerClosed}
	only := func(err, want error) {
		t.Helper()
		for _, kind := range kinds {
			if kind == want { //nolint:errorlint // the very value
				require.ErrorIs(t, err, kind)
			} else {
				require.NotErrorIs(t, err, kind)
			}
		}
	}

	_, err := m.Acquire(t.Context(), "job", longTTL)
	only(err, lock.ErrLockNotAcquired)
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = m.Acquire(canceled, "job", longTTL)
	only(err, context.Canceled)

	server.Stop()
	short, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	_, err = m.Acquire(short, "other", longTTL)
	only(err, context.DeadlineExceeded)
	_, err = m.Acquire(t.Context(), "other", time.Second)
	only(err, lock.ErrRedis)
	server.Kill()
	_, err = m.Acquire(t.Context(), "other", longTTL)
	only(err, lock.ErrRedis)

	require.ErrorIs(t, holder.Release(t.Context()), lock.ErrRedis)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	only(m.Close(ctx), lock.ErrRedis) // keys may be left
	_, err = m.Acquire(t.Context(), "other", longTTL)
	only(err, lock.ErrManagerClosed)
}

func TestTimedOutAcquireLeavesNoKey(t *testing.T) {
	t.Parallel()
	server, m := setup(t)
	require.NoError(t, acquire(t, m, "warm", longTTL).Release(t.Context()))
	server.Stop()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err := m.Acquire(ctx, "job", longTTL)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	server.Continue() // Redis now executes what it had received

	client := server.Client(t)
	require.Eventually(t, func() bool {
		return client.Exists(t.Context(), "cache:lock:{job}:fence").Val() == 1 &&
			client.Exists(t.Context(), "cache:lock:{job}").Val() == 0
	}, patience, tick)
}

func TestCanceledAcquireReturnsAtOnceAndLeavesNoKey(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	proxy := faultproxy.New(t, server.Addr())
	m := newManager(t, newClient(t, proxy.Addr()))
	require.NoError(t, acquire(t, m, "warm", longTTL).Release(t.Context()))
	proxy.SwallowToClient(true)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := m.Acquire(ctx, "job", longTTL)
		done <- err
	}()
	client := server.Client(t)
	require.Eventually(t, func() bool { return client.Exists(t.Context(), "cache:lock:{job}").Val() == 1 }, patience, tick)
	cancel()
	require.ErrorIs(t, <-done, context.Canceled)
	proxy.SwallowToClient(false)
	require.Eventually(t, func() bool { return client.Exists(t.Context(), "cache:lock:{job}").Val() == 0 }, patience, tick)
}

func TestLostReplyOfAcquireIsNoRefusal(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	proxy := faultproxy.New(t, server.Addr())
	m := newManager(t, newClient(t, proxy.Addr()))
	require.NoError(t, acquire(t, m, "warm", longTTL).Release(t.Context()))
	proxy.DropReplies(1)
	l := acquire(t, m, "job", longTTL)
	assert.True(t, l.IsHeld())
	assert.Equal(t, server.Client(t).Get(t.Context(), "cache:lock:{job}:fence").Val(), itoa(l.Token()))
}

func TestAnyResourceNameWorks(t *testing.T) {
	t.Parallel()
	server, m := setup(t)
	other := newManager(t, newClient(t, server.Addr()))
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	for _, resource := range []string{
		" ", "\x00", "\xff\xfe", "}", "{", "{}", "}{", "%", "a b\r\nSET x y", "a}:fence", string(all), strings.Repeat("long", 4096),
	} {
		l := acquire(t, m, resource, longTTL)
		assert.Equal(t, resource, l.Resource())
		_, err := other.Acquire(t.Context(), resource, longTTL)
		require.ErrorIs(t, err, lock.ErrLockNotAcquired, "%q", resource)
		done := make(chan error, 1)
		go func() {
			w, err := other.AcquireWait(t.Context(), resource, longTTL)
			if err == nil {
				err = w.Release(t.Context())
			}
			done <- err
		}()
		require.Eventually(t, func() bool { return other.GetMetrics().Waiting == 1 }, patience, tick)
		require.NoError(t, l.Release(t.Context()))
		require.NoError(t, <-done, "%q", resource)
	}
	keys, err := server.Client(t).Keys(t.Context(), "*").Result()
	require.NoError(t, err)
	for _, key := range keys {
		assert.True(t, strings.HasSuffix(key, ":fence"), "%q", key)
	}
}

// TestAnyKeyPrefixWorks: prefixes are part of the scripts.
func TestAnyKeyPrefixWorks(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	for _, prefix := range []string{"", `it's "quoted"`, "\\n\\", "\x00\r\n\xff", "]]--", "%d%s", "{tag}"} {
		holder := newUnhurriedManager(t, server, lock.WithKeyPrefix(prefix))
		other := newManager(t, newClient(t, server.Addr()), lock.WithKeyPrefix(prefix))
		l := acquire(t, holder, "job", longTTL)
		require.Equal(t, int64(1), server.Client(t).Exists(t.Context(), prefix+"lock:{job}").Val())
		done := make(chan error, 1)
		go func() {
			w, err := other.AcquireWait(t.Context(), "job", longTTL)
			if err == nil {
				err = w.Release(t.Context())
			}
			done <- err
		}()
		queue := prefix + "lock:{job}:queue"
		require.Eventually(t, func() bool { return server.Client(t).ZCard(t.Context(), queue).Val() == 1 }, patience, tick)
		require.NoError(t, l.Release(t.Context()))
		require.NoError(t, <-done, "%q", prefix)
		require.Equal(t, int64(1), holder.GetMetrics().HandOffs, "%q: told through the inbox", prefix)
	}
}

// TestAttemptHeldUpInTheNetwork: it arrives when the lock that its repetition got has been released already.
func TestAttemptHeldUpInTheNetwork(t *testing.T) {
	t.Parallel()
	t.Run("server", func(t *testing.T) {
		t.Parallel()
		server := redistest.Start(t)
		proxy := faultproxy.New(t, server.Addr())
		client := single(t, proxy)
		testAttemptHeldUp(t, client, server, proxy)
	})
	t.Run("cluster", func(t *testing.T) {
		t.Parallel()
		cluster := redistest.StartCluster(t, 3)
		server := cluster.MasterOf(t, "cache:lock:{job}")
		proxy := faultproxy.New(t, server.Addr())
		client := redis.NewClusterClient(&redis.ClusterOptions{
			Addrs: cluster.Addrs(), PoolSize: 1, ContextTimeoutEnabled: true, ReadTimeout: 200 * time.Millisecond,
			Dialer: func(ctx context.Context, network, addr string) (net.Conn, error) {
				if addr == server.Addr() {
					addr = proxy.Addr()
				}
				return new(net.Dialer).DialContext(ctx, network, addr)
			},
			MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		})
		t.Cleanup(func() { _ = client.Close() })
		testAttemptHeldUp(t, client, server, proxy)
	})
}

func testAttemptHeldUp(t *testing.T, client redis.UniversalClient, server *redistest.Server, proxy *faultproxy.Proxy) {
	t.Helper()
	m := newManager(t, client, lock.WithNodeTimeout(patience))             // for the repetition
	require.NoError(t, acquire(t, m, "job", longTTL).Release(t.Context())) // opens the connection that is held up
	admin := server.Client(t)
	token := lastToken(t, admin)
	let := proxy.HoldToServer()
	l := acquire(t, m, "job", longTTL)
	require.NoError(t, l.Release(t.Context()))
	given := token()
	let() // at once: it is looked for only as long as the network can be expected to take
	require.Eventually(t, func() bool { return token() != given }, patience, tick, "acquired for nobody")
	require.Eventually(t, func() bool { return admin.Exists(t.Context(), "cache:lock:{job}").Val() == 0 }, patience, tick)
}

// TestRefusedAttemptHeldUpInTheNetwork: its repetition met another holder, and it arrives when that one has released.
func TestRefusedAttemptHeldUpInTheNetwork(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]func(*testing.T, *lock.RedisLockManager, *redistest.Server, *lock.RedisLock){
		"acquire": func(t *testing.T, m *lock.RedisLockManager, _ *redistest.Server, held *lock.RedisLock) {
			t.Helper()
			_, err := m.Acquire(t.Context(), "job", longTTL)
			require.ErrorIs(t, err, lock.ErrLockNotAcquired)
			require.NoError(t, held.Release(t.Context()))
		},
		"wait": func(t *testing.T, m *lock.RedisLockManager, server *redistest.Server, held *lock.RedisLock) {
			t.Helper()
			done := make(chan error, 1)
			go func() {
				done <- m.WithLock(t.Context(), "job", longTTL, func(context.Context, lock.FencedLock) error { return nil })
			}()
			length := queueLength(t, server)
			require.Eventually(t, func() bool { return length() == 1 }, patience, tick)
			require.NoError(t, held.Release(t.Context()))
			require.NoError(t, <-done)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, holder := setup(t)
			proxy := faultproxy.New(t, server.Addr())
			client := single(t, proxy)
			m := newManager(t, client, lock.WithNodeTimeout(patience))               // for the repetition
			require.NoError(t, acquire(t, m, "other", longTTL).Release(t.Context())) // opens the connection that is held up
			held := acquire(t, holder, "job", longTTL)
			admin := server.Client(t)
			token := lastToken(t, admin)
			let := proxy.HoldToServer()
			lose(t, m, server, held)
			given := token()
			let() // at once: it is looked for only as long as the network can be expected to take
			require.Eventually(t, func() bool { return token() != given }, patience, tick, "acquired for nobody")
			require.Eventually(t, func() bool { return len(traces(t, server)) == 0 }, patience, tick)
		})
	}
}

// single returns a client that has one connection at a time.
func single(t *testing.T, proxy *faultproxy.Proxy) *redis.Client {
	t.Helper()
	client := redis.NewClient(&redis.Options{
		Addr: proxy.Addr(), PoolSize: 1, ContextTimeoutEnabled: true, ReadTimeout: 200 * time.Millisecond,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// lastToken returns the last one that a server has given for "job".
func lastToken(t *testing.T, admin *redis.Client) func() string {
	t.Helper()
	return func() string { return admin.Get(t.Context(), "cache:lock:{job}:fence").Val() }
}
