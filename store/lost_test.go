package store_test

import (
	"context"
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
	"github.com/compozy/cache/store"
)

// writes are all writes, on the key "k". Those that expect a version expect the one that is given.
func writes(ctx context.Context, st *store.State[string]) map[string]func(v store.Version) error {
	return map[string]func(v store.Version) error{
		"put":        func(store.Version) error { _, err := st.Put(ctx, "k", "mine"); return err },
		"fenced put": func(store.Version) error { _, err := st.Put(ctx, "k", "mine", store.WithFence(9)); return err },
		"put if":     func(v store.Version) error { _, err := st.Put(ctx, "k", "mine", store.IfVersion(v)); return err },
		"create":     func(store.Version) error { _, err := st.Create(ctx, "k", "mine"); return err },
		"delete":     func(store.Version) error { return st.Delete(ctx, "k") },
		"fenced delete": func(store.Version) error {
			return st.Delete(ctx, "k", store.WithFence(9))
		},
		"delete if": func(v store.Version) error { return st.Delete(ctx, "k", store.IfVersion(v)) },
		"update": func(store.Version) error {
			_, err := st.Update(ctx, "k", func(v *string) error { *v = "mine"; return nil })
			return err
		},
	}
}

// begin leaves what a write needs: a value, or none.
func begin(t *testing.T, name string, st *store.State[string]) store.Version {
	t.Helper()
	require.NoError(t, st.Delete(t.Context(), "k"))
	if name == "create" {
		return 0
	}
	return put(t, st, "k", "before")
}

// written expects that a write has been done.
func written(t *testing.T, name string, st *store.State[string]) {
	t.Helper()
	item, err := st.Get(t.Context(), "k")
	switch name {
	case "delete", "fenced delete", "delete if":
		assert.ErrorIs(t, err, store.ErrNotFound, name)
	default:
		require.NoError(t, err, name)
		assert.Equal(t, "mine", item.Value, name)
	}
}

// TestOwnWriteIsRecognised: a write whose reply was lost is found to be done, and is not done twice.
func TestOwnWriteIsRecognised(t *testing.T) {
	t.Parallel()
	for name := range writes(t.Context(), nil) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, st, other := lossy(t)
			version := begin(t, name, other)
			var between store.Item[string]
			l.arm(true, func() { between, _ = other.Get(t.Context(), "k") })
			require.NoError(t, writes(t.Context(), st)[name](version))
			assert.EqualValues(t, 2, l.tries.Load())
			written(t, name, other)
			after, _ := other.Get(t.Context(), "k")
			assert.Equal(t, between.Version, after.Version, "written twice")
		})
	}
}

// TestRepliesDropped is the same on a network that loses replies, one or two of them.
func TestRepliesDropped(t *testing.T) {
	t.Parallel()
	server, other := setup[string](t)
	proxy := faultproxy.New(t, server.Addr())
	st := newState[string](t, newStore(t, newClient(t, proxy.Addr())))
	// So that the server knows the scripts: a reply that says it does not may be lost as well, and nobody knows that then.
	for name, write := range writes(t.Context(), other) {
		_ = write(begin(t, name, other))
	}
	require.NoError(t, server.Client(t).FlushDB(t.Context()).Err())
	for range 3 {
		for name, write := range writes(t.Context(), st) {
			version := begin(t, name, other)
			if name == "update" {
				_, err := st.Update(t.Context(), "k", func(v *string) error {
					*v = "mine"
					proxy.DropReplies(2)
					return nil
				})
				require.NoError(t, err)
			} else {
				proxy.DropReplies(2)
				require.NoError(t, write(version), name)
			}
			proxy.DropReplies(0)
			written(t, name, other)
			require.NoError(t, server.Client(t).Del(t.Context(), redisKey("k")).Err())
		}
	}
	put(t, other, "k", "before")
	for range 3 {
		proxy.DropReplies(2)
		assert.Equal(t, "before", get(t, st, "k").Value)
	}
}

// TestUncertain: when the reply was lost and somebody else has written since, nobody knows. The other's write stays, and
// Update does not run its function again.
func TestUncertain(t *testing.T) {
	t.Parallel()
	for name := range writes(t.Context(), nil) {
		for _, executed := range []bool{true, false} {
			t.Run(name+map[bool]string{true: ", reply lost", false: ", request lost"}[executed], func(t *testing.T) {
				t.Parallel()
				l, st, other := lossy(t)
				version := begin(t, name, other)
				var theirs store.Version
				l.arm(executed, func() { theirs = put(t, other, "k", "theirs") })
				require.ErrorIs(t, writes(t.Context(), st)[name](version), store.ErrUncertain)
				item := get(t, other, "k")
				assert.Equal(t, "theirs", item.Value)
				assert.Equal(t, theirs, item.Version)
				assert.EqualValues(t, 2, l.tries.Load())
			})
		}
	}
}

// TestForeignAfterALostReply: what somebody else has put there does not tell whether the write was done before.
func TestForeignAfterALostReply(t *testing.T) {
	t.Parallel()
	for name := range writes(t.Context(), nil) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, other := setup[string](t)
			client, raw := newClient(t, server.Addr()), server.Client(t)
			st := newState[string](t, newStore(t, client))
			put(t, other, "warm", "up")
			require.NoError(t, other.Delete(t.Context(), "warm"))
			version := begin(t, name, other)
			l := &loss{}
			client.AddHook(l)
			l.arm(true, func() { assert.NoError(t, raw.Set(t.Context(), redisKey("k"), "foreign", 0).Err()) })
			err := writes(t.Context(), st)[name](version)
			require.ErrorIs(t, err, store.ErrUncertain)
			require.ErrorIs(t, err, store.ErrCodec)
			assert.Equal(t, "foreign", raw.Get(t.Context(), redisKey("k")).Val())
			err = writes(t.Context(), st)[name](version)
			require.ErrorIs(t, err, store.ErrCodec)
			require.NotErrorIs(t, err, store.ErrUncertain)
		})
	}
}

// TestUnsent: what was never sent is no uncertain write, and is sent when there is a connection.
func TestUnsent(t *testing.T) {
	t.Parallel()
	sentinel := redistest.StartSentinel(t)
	c := redis.NewFailoverClient(&redis.FailoverOptions{
		MasterName: "nobody", SentinelAddrs: sentinel.Addrs(), ContextTimeoutEnabled: true,
	})
	t.Cleanup(func() { _ = c.Close() })
	_, err := newState[string](t, newStore(t, c, store.WithStateTimeout(time.Second))).Put(t.Context(), "k", "v")
	require.ErrorIs(t, err, store.ErrUnavailable)
	require.NotErrorIs(t, err, store.ErrUncertain)

	server := redistest.Start(t)
	for _, fail := range []error{unsentError{}, &net.OpError{Op: "dial", Err: unsentError{}}} {
		var dials atomic.Int64
		options := *newClient(t, server.Addr()).Options()
		options.DialerRetries = 1
		options.Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
			if dials.Add(1) == 1 {
				return nil, fail
			}
			return new(net.Dialer).DialContext(ctx, network, addr)
		}
		options.PushNotificationProcessor = nil
		c := redis.NewClient(&options)
		t.Cleanup(func() { _ = c.Close() })
		put(t, newState[string](t, newStore(t, c)), "k", "v")
	}
}

// unsentError is an error of a dialer, as the client of this module marks them.
type unsentError struct{}

func (unsentError) Error() string { return "the tunnel is down" }
func (unsentError) Unsent() bool  { return true }

// TestCreateThatSomebodyUndid: a repetition that finds nothing cannot know whether its first try has created what
// somebody has deleted since, and does not create it again.
func TestCreateThatSomebodyUndid(t *testing.T) {
	t.Parallel()
	for _, ttl := range []time.Duration{0, 10 * time.Millisecond} {
		l, st, other := lossy(t, store.WithTTL(ttl))
		l.arm(true, func() {
			if ttl == 0 {
				require.NoError(t, other.Delete(t.Context(), "k"))
			} else {
				gone(t, other, "k")
			}
		})
		_, err := st.Create(t.Context(), "k", "mine")
		require.ErrorIs(t, err, store.ErrUncertain)
		_, err = other.Get(t.Context(), "k")
		require.ErrorIs(t, err, store.ErrNotFound)
	}
}

// TestLostRequest: what was certainly not done is done by the repetition, and what nobody can tell is not.
func TestLostRequest(t *testing.T) {
	t.Parallel()
	for name := range writes(t.Context(), nil) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, st, other := lossy(t)
			version := begin(t, name, other)
			l.arm(false, nil)
			err := writes(t.Context(), st)[name](version)
			switch name {
			case "put if", "delete if", "update":
				require.NoError(t, err)
				written(t, name, other)
			case "create":
				require.ErrorIs(t, err, store.ErrUncertain)
				_, err = other.Get(t.Context(), "k")
				require.ErrorIs(t, err, store.ErrNotFound)
			default:
				require.ErrorIs(t, err, store.ErrUncertain)
				assert.Equal(t, "before", get(t, other, "k").Value)
			}
		})
	}
}

// TestTouchIsNotRepeated: a second one could come after a write that has no TTL.
func TestTouchIsNotRepeated(t *testing.T) {
	t.Parallel()
	l, st, other := lossy(t)
	put(t, other, "k", "a")
	l.arm(false, nil)
	require.ErrorIs(t, st.Touch(t.Context(), "k", 10*time.Millisecond), store.ErrUncertain)
	l.arm(true, func() { put(t, other, "k", "b") })
	require.ErrorIs(t, st.Touch(t.Context(), "k", 10*time.Millisecond), store.ErrUncertain)
	<-time.After(20 * time.Millisecond)
	assert.Equal(t, "b", get(t, other, "k").Value)
}

// late is a State whose connections hold up what is sent to the server, and deliver it when that was repeated already.
func late(t *testing.T) (server *redistest.Server, proxy *faultproxy.Proxy, st, other *store.State[string]) {
	t.Helper()
	server, other = setup[string](t)
	proxy = faultproxy.New(t, server.Addr())
	client := redis.NewClient(&redis.Options{
		Addr: proxy.Addr(), ContextTimeoutEnabled: true, ReadTimeout: 200 * time.Millisecond, // then it is sent again
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
	t.Cleanup(func() { _ = client.Close() })
	st = newState[string](t, newStore(t, client))
	require.Eventually(t, func() bool { // opens a connection; the scripts are known afterwards
		_, err := st.Put(t.Context(), "warm", "up")
		return err == nil && st.Delete(t.Context(), "warm") == nil
	}, patience, tick)
	return server, proxy, st, other
}

// TestLateFirstAttempts: a try that arrives when its repetition was answered long ago, and others have written since,
// overwrites nothing of theirs.
func TestLateFirstAttempts(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"put if", "delete if", "update"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, proxy, st, other := late(t)
			version := begin(t, name, other)
			var let func()
			if name == "update" {
				_, err := st.Update(t.Context(), "k", func(v *string) error {
					*v, let = "mine", proxy.HoldToServer()
					return nil
				})
				require.NoError(t, err)
			} else {
				let = proxy.HoldToServer()
				require.NoError(t, writes(t.Context(), st)[name](version))
			}
			written(t, name, other)
			theirs := put(t, other, "k", "theirs")
			before := server.Commands(t)["evalsha"]
			let()
			require.Eventually(t, func() bool { return server.Commands(t)["evalsha"] > before }, patience, tick)
			item := get(t, other, "k")
			assert.Equal(t, "theirs", item.Value)
			assert.Equal(t, theirs, item.Version)
		})
	}
}

// TestLateFirstAttemptsThatNobodyKnowsOf: a try without a version may still arrive, which its caller is told.
func TestLateFirstAttemptsThatNobodyKnowsOf(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"put", "create", "delete"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, proxy, st, other := late(t)
			version := begin(t, name, other)
			let := proxy.HoldToServer()
			require.ErrorIs(t, writes(t.Context(), st)[name](version), store.ErrUncertain)
			let()
			require.Eventually(t, func() bool {
				item, err := other.Get(t.Context(), "k")
				if name == "delete" {
					return err != nil
				}
				return err == nil && item.Value == "mine"
			}, patience, tick)
		})
	}
}
