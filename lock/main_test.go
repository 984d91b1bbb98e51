package lock_test

import (
	"context"
	"os"
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

func TestMain(m *testing.M) {
	if task := os.Getenv(holderEnv); task != "" {
		holdInProcess(task)
		return
	}
	redistest.VerifyTestMain(m)
}

const (
	// patience is how long a test waits for what should take milliseconds, on a busy machine.
	patience = 20 * time.Second
	// tick is how often it looks.
	tick = 5 * time.Millisecond
	// longTTL is for locks that should not expire while a test runs.
	longTTL = 30 * time.Second
)

// newClient returns a client as package client configures it: contexts are heeded.
func newClient(t testing.TB, addr string) *redis.Client {
	t.Helper()
	c := redis.NewClient(&redis.Options{Addr: addr, ContextTimeoutEnabled: true})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// newPatientClient returns a client that waits for a server for longer than any test does, unless it is told otherwise.
func newPatientClient(t testing.TB, addr string) *redis.Client {
	t.Helper()
	c := redis.NewClient(&redis.Options{Addr: addr, ContextTimeoutEnabled: true, ReadTimeout: 3 * patience})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// newManager returns a manager that is closed when the test ends.
func newManager(t testing.TB, client redis.UniversalClient, opts ...lock.Option) *lock.RedisLockManager {
	t.Helper()
	m, err := lock.NewRedisLockManager(client, opts...)
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		_ = m.Close(ctx)
	})
	return m
}

// newUnhurriedManager returns a manager that sends each command once and waits for the reply, for tests that count what
// replies tell. Callers make no calls by themselves, for which they would have 200ms, where a client does not heed contexts.
func newUnhurriedManager(t testing.TB, server *redistest.Server, opts ...lock.Option) *lock.RedisLockManager {
	t.Helper()
	c := redis.NewClient(&redis.Options{Addr: server.Addr(), ReadTimeout: patience})
	t.Cleanup(func() { _ = c.Close() })
	return newManager(t, c, append(opts, lock.WithNodeTimeout(patience))...)
}

// acquire returns a lock that must be free.
func acquire(t testing.TB, m *lock.RedisLockManager, resource string, ttl time.Duration) *lock.RedisLock {
	t.Helper()
	l, err := m.Acquire(t.Context(), resource, ttl)
	require.NoError(t, err)
	return concrete(t, l)
}

func concrete(t testing.TB, l lock.Lock) *lock.RedisLock {
	t.Helper()
	r, ok := l.(*lock.RedisLock)
	require.True(t, ok)
	return r
}

// setup returns a server and a manager on it.
func setup(t testing.TB, opts ...lock.Option) (*redistest.Server, *lock.RedisLockManager) {
	t.Helper()
	server := redistest.Start(t)
	return server, newManager(t, newClient(t, server.Addr()), opts...)
}

// wait returns when the channel is closed.
func wait(t testing.TB, ch <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-ch:
	case <-time.After(patience):
		require.FailNow(t, "waited in vain", what)
	}
}

// undisturbed checks what a measurement counts on servers of its own. On a machine that is too busy a call takes so long
// that it is sent again, and is cleaned up after for some time. Then only a measurement from the beginning can tell.
func undisturbed[T any](t testing.TB, want T, measure func() T) {
	t.Helper()
	var got T
	for range 3 {
		if got = measure(); assert.ObjectsAreEqual(want, got) {
			return
		}
		t.Logf("measured %v", got)
	}
	assert.Equal(t, want, got)
}

// redisClient is newClient for use outside of a test's own goroutine; the caller closes it.
func redisClient(s *redistest.Server) *redis.Client { return redis.NewClient(s.Options()) }

// scriptHook is a hook that calls see for each command or pipeline that begins with a script.
type scriptHook struct {
	redistest.Hook

	see func()
}

func (h scriptHook) command(cmd redis.Cmder) {
	if strings.HasPrefix(cmd.Name(), "eval") {
		h.see()
	}
}

func (h scriptHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		h.command(cmd)
		return next(ctx, cmd)
	}
}

func (h scriptHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		h.command(cmds[0])
		return next(ctx, cmds)
	}
}

// roundTrips counts those that run scripts.
type roundTrips struct {
	scriptHook

	count atomic.Int64
}

func newRoundTrips() *roundTrips {
	r := new(roundTrips)
	r.see = func() { r.count.Add(1) }
	return r
}
