package lock_test

import (
	"context"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/embedded"
	"github.com/compozy/cache/internal/faultproxy"
	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/lock"
)

// TestManyCallersShareRoundTrips: each gets the answer to its own command, also if the connections break.
func TestManyCallersShareRoundTrips(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	proxy := faultproxy.New(t, server.Addr())
	client, trips := newClient(t, proxy.Addr()), newRoundTrips()
	client.AddHook(trips)
	m := newManager(t, client)
	var all sync.WaitGroup
	for caller := range 64 {
		all.Go(func() {
			resource := "job " + strconv.Itoa(caller)
			last := int64(0)
			for range 30 {
				l, err := m.Acquire(context.Background(), resource, longTTL)
				if !assert.NoError(t, err) {
					return
				}
				assert.Equal(t, resource, l.Resource())
				token := concrete(t, l).Token()
				assert.Greater(t, token, last)
				last = token
				_, err = m.Acquire(context.Background(), resource, longTTL)
				assert.ErrorIs(t, err, lock.ErrLockNotAcquired)
				assert.NoError(t, l.Release(context.Background()))
			}
		})
	}
	proxy.Cut()
	all.Wait()
	const asked = 64 * 30 * 3 // to acquire, to be refused, to release
	assert.Less(t, trips.count.Load(), int64(asked/2), "what comes together goes together")
	keys, err := server.Client(t).Keys(t.Context(), "cache:lock:{*}").Result()
	require.NoError(t, err)
	assert.Empty(t, keys)
	metrics := m.GetMetrics()
	assert.Equal(t, int64(64*30), metrics.AcquisitionsTotal)
	assert.Equal(t, int64(64*30), metrics.AcquisitionsRefused)
	assert.Equal(t, int64(64*30), metrics.ReleasesTotal)
	assert.Zero(t, metrics.ReleasesFailed)
	assert.Zero(t, metrics.Held)
}

// hanging makes a client's commands hang, once it is set, until the deadline of their context: a read of go-redis does not
// notice that a context is cancelled.
type hanging struct {
	redistest.Hook

	on atomic.Bool
}

func (h *hanging) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if h.on.Load() {
			return hang(ctx, cmd)
		}
		return next(ctx, cmd)
	}
}

func (h *hanging) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if h.on.Load() {
			return hang(ctx, cmds...)
		}
		return next(ctx, cmds)
	}
}

func hang(ctx context.Context, cmds ...redis.Cmder) error {
	if deadline, ok := ctx.Deadline(); ok {
		<-time.After(time.Until(deadline))
	} else {
		<-ctx.Done()
	}
	for _, cmd := range cmds {
		cmd.SetErr(context.DeadlineExceeded)
	}
	return context.DeadlineExceeded
}

// TestEachCallerHasItsOwnTime: those who share a pipeline to a server that hangs give up one after the other.
func TestEachCallerHasItsOwnTime(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, _ *embedded.Server, client *redis.Client) { //nolint:thelper // a test
		hang := &hanging{}
		client.AddHook(hang)
		m, err := lock.NewRedisLockManager(client)
		require.NoError(t, err)
		defer func() { _ = m.Close(t.Context()) }()
		hang.on.Store(true)
		var all sync.WaitGroup
		call := func(resource string, ttl, timeout time.Duration) {
			all.Go(func() {
				start := time.Now()
				_, err := m.Acquire(t.Context(), resource, ttl)
				assert.ErrorIs(t, err, lock.ErrRedis)
				assert.Equal(t, timeout, time.Since(start), resource)
			})
			synctest.Wait() // it hangs, or waits for a pipeline
		}
		for i := range 8 { // more than pipelines as there may be: those who come now wait for the same one
			call("early "+strconv.Itoa(i), 100*time.Millisecond, 50*time.Millisecond)
		}
		// Half the TTL is the time that a node has, and no more than 2s.
		ttls := []time.Duration{longTTL, 200 * time.Millisecond, 2 * time.Second, 200 * time.Millisecond}
		for i, ttl := range ttls {
			call("job "+strconv.Itoa(i), ttl, min(ttl/2, 2*time.Second))
		}
		all.Wait()
	})
}

// TestExhaustedPoolEndsInTime: waiting for a connection counts as waiting for the node, for those as well who use the
// connection by themselves.
func TestExhaustedPoolEndsInTime(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client := redis.NewClient(&redis.Options{
		Addr: server.Addr(), ContextTimeoutEnabled: true, PoolSize: 1, PoolTimeout: time.Hour,
	})
	t.Cleanup(func() { _ = client.Close() })
	m := newManager(t, client)
	for range 3 { // the node is known to be near
		require.NoError(t, acquire(t, m, "job", longTTL).Release(t.Context()))
	}
	only := client.Conn()
	require.NoError(t, only.Ping(t.Context()).Err())
	_, err := m.Acquire(context.Background(), "job", longTTL)
	require.ErrorIs(t, err, lock.ErrRedis)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	_, err = m.Acquire(ctx, "job", longTTL)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.NoError(t, only.Close())
	// The one that was given up may come yet, until it is undone.
	require.NoError(t, acquire(t, m, "another job", longTTL).Release(t.Context()))
}

// TestCloseEndsCallsUnderWay: whoever waits for a server that hangs hears of Close at once, not when the call ends.
func TestCloseEndsCallsUnderWay(t *testing.T) {
	t.Parallel()
	undisturbed(t, 0, func() int64 { // what came late and is there: Close gives it a moment only to be undone
		server := redistest.Start(t)
		client := newClient(t, server.Addr())
		m := newManager(t, client, lock.WithNodeTimeout(time.Hour))
		server.Stop()
		hangs := func() bool { return client.PoolStats().TotalConns > client.PoolStats().IdleConns }
		acquired := make(chan error, 1)
		go func() {
			_, err := m.Acquire(context.Background(), "job", longTTL)
			acquired <- err
		}()
		require.Eventually(t, hangs, patience, tick)
		closed := make(chan error, 1)
		go func() { closed <- m.Close(context.Background()) }()
		require.ErrorIs(t, <-acquired, lock.ErrManagerClosed)
		assert.True(t, hangs())
		server.Continue()
		require.NoError(t, <-closed)
		return server.Client(t).Exists(t.Context(), "cache:lock:{job}").Val()
	})
}

// TestCallerOnItsOwn: a caller that is alone with a quick node makes the call by itself, and cannot leave. Its own deadline
// bounds the call nevertheless, and a cancellation is noticed in 200ms.
func TestCallerOnItsOwn(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		limit func(context.Context) (context.Context, context.CancelFunc)
		took  time.Duration
		err   error
	}{
		"deadline": {func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, 50*time.Millisecond)
		}, 50 * time.Millisecond, context.DeadlineExceeded},
		"cancellation": {func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(ctx)
			time.AfterFunc(50*time.Millisecond, cancel)
			return ctx, cancel
		}, 200 * time.Millisecond, context.Canceled},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T, _ *embedded.Server, client *redis.Client) { //nolint:thelper // a test
				hang := &hanging{}
				client.AddHook(hang)
				m, err := lock.NewRedisLockManager(client)
				require.NoError(t, err)
				defer func() { _ = m.Close(t.Context()) }()
				require.NoError(t, acquire(t, m, "job", longTTL).Release(t.Context()))
				synctest.Wait() // no pipeline is under way any more, and the node is known to be near
				ctx, cancel := test.limit(t.Context())
				defer cancel()
				hang.on.Store(true)
				start := time.Now()
				_, err = m.Acquire(ctx, "job", longTTL)
				require.ErrorIs(t, err, test.err)
				assert.Equal(t, test.took, time.Since(start))
				hang.on.Store(false)
			})
		})
	}
}
