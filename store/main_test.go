package store_test

import (
	"context"
	"io"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/store"
)

func TestMain(m *testing.M) {
	if addr := os.Getenv(processEnv); addr != "" {
		runProcess(addr)
		return
	}
	redistest.VerifyTestMain(m)
}

const (
	// patience is how long a test waits for what should take milliseconds, on a busy machine.
	patience = 20 * time.Second
	// tick is how often it looks.
	tick = 5 * time.Millisecond
	// name is that of the States of tests.
	name = "things"
)

// newClient returns a client as package client configures it: contexts are heeded.
func newClient(t testing.TB, addr string) *redis.Client {
	t.Helper()
	c := redis.NewClient(&redis.Options{
		Addr: addr, ContextTimeoutEnabled: true, ReadTimeout: patience,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// newStore returns a Store that is closed when the test ends. It waits for Redis for longer than a busy machine takes.
func newStore(t testing.TB, client redis.UniversalClient, opts ...store.Option) *store.Store {
	t.Helper()
	s, err := store.New(client, append([]store.Option{store.WithStateTimeout(patience)}, opts...)...)
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		require.NoError(t, s.Close(ctx))
	})
	return s
}

// newState returns a State with the usual name.
func newState[V any](t testing.TB, s *store.Store, opts ...store.Option) *store.State[V] {
	t.Helper()
	st, err := store.NewState[V](s, name, opts...)
	require.NoError(t, err)
	return st
}

// setup returns a server, and a State on it.
func setup[V any](t testing.TB, opts ...store.Option) (*redistest.Server, *store.State[V]) {
	t.Helper()
	server := redistest.Start(t)
	return server, newState[V](t, newStore(t, newClient(t, server.Addr())), opts...)
}

// redisKey is the key of a value in Redis.
func redisKey(key string) string { return "cache:v:" + name + ":{" + key + "}" }

// get returns the value of a key that must have one.
func get[V any](t testing.TB, st *store.State[V], key string) store.Item[V] {
	t.Helper()
	item, err := st.Get(t.Context(), key)
	require.NoError(t, err)
	return item
}

// put writes a value.
func put[V any](t testing.TB, st *store.State[V], key string, v V, opts ...store.Option) store.Version {
	t.Helper()
	version, err := st.Put(t.Context(), key, v, opts...)
	require.NoError(t, err)
	return version
}

// gone waits until a value has expired.
func gone[V any](t testing.TB, st *store.State[V], key string) {
	t.Helper()
	require.Eventually(t, func() bool {
		_, err := st.Get(t.Context(), key)
		return err != nil
	}, patience, tick)
	_, err := st.Get(t.Context(), key)
	require.ErrorIs(t, err, store.ErrNotFound)
}

// loss is a hook that makes the next script fail as a broken connection does.
type loss struct {
	redistest.Hook

	armed    atomic.Bool
	executed bool   // the server has run the script, only the reply is lost
	between  func() // called before anybody hears of the loss, may be nil
	tries    atomic.Int64
}

// arm makes the next script fail.
func (l *loss) arm(executed bool, between func()) {
	l.executed, l.between = executed, between
	l.tries.Store(0)
	l.armed.Store(true)
}

func (l *loss) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if !strings.HasPrefix(cmd.Name(), "eval") {
			return next(ctx, cmd)
		}
		l.tries.Add(1)
		if !l.armed.CompareAndSwap(true, false) {
			return next(ctx, cmd)
		}
		if l.executed {
			if err := next(ctx, cmd); err != nil {
				return err
			}
		}
		if l.between != nil {
			l.between()
		}
		return io.ErrUnexpectedEOF
	}
}

// lossy returns a State whose client has a hook that loses, and another State of the same name that does not. All scripts
// are known to the server, so that each call has one script.
func lossy(t testing.TB, opts ...store.Option) (l *loss, st, other *store.State[string]) {
	t.Helper()
	server, other := setup[string](t, opts...)
	client := newClient(t, server.Addr())
	st = newState[string](t, newStore(t, client), opts...)
	ctx := t.Context()
	warm := newState[string](t, newStore(t, newClient(t, server.Addr()))) // whose values do not end between two calls
	put(t, warm, "warm", "up")
	require.NoError(t, warm.Touch(ctx, "warm", time.Minute))
	require.NoError(t, warm.Delete(ctx, "warm"))
	l = &loss{}
	client.AddHook(l)
	return l, st, other
}
