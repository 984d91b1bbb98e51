package lock_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/faultproxy"
	"github.com/compozy/cache/lock"
)

// TestTTLTooShortForTheLink: a caller that can never have the lock in time is the first of those of its process. The next one
// has its turn all the same.
func TestTTLTooShortForTheLink(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ latency, ttl time.Duration }{
		"the lock has ended when it is there": {15 * time.Millisecond, 30 * time.Millisecond},
		"the reply would not be waited for":   {30 * time.Millisecond, 60 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, near := setup(t)
			proxy := faultproxy.New(t, server.Addr())
			far := newManager(t, newClient(t, proxy.Addr()))
			l := acquire(t, near, "job", longTTL)
			ctx, cancel := context.WithCancel(t.Context())
			hopeless := make(chan error, 1)
			go func() {
				_, err := far.AcquireWait(ctx, "job", c.ttl)
				hopeless <- err
			}()
			length := queueLength(t, server)
			require.Eventually(t, func() bool { return length() == 1 }, patience, tick)
			done := make(chan error, 1)
			go func() {
				done <- far.WithLock(ctx, "job", longTTL, func(context.Context, lock.FencedLock) error { return nil })
			}()
			require.Eventually(t, func() bool { return far.GetMetrics().Waiting == 2 }, patience, tick)
			proxy.SetLatency(c.latency)
			require.NoError(t, l.Release(t.Context()))
			select {
			case err := <-done:
				require.NoError(t, err)
			case <-time.After(patience):
				require.FailNow(t, "it was never its turn")
			}
			cancel()
			require.ErrorIs(t, <-hopeless, context.Canceled, "it outlasts what may pass")
		})
	}
}

// TestTTLTooShortForAFreeLock: where Redis has not answered before, there is no reason to wait for a better time.
func TestTTLTooShortForAFreeLock(t *testing.T) {
	t.Parallel()
	server, near := setup(t)
	proxy := faultproxy.New(t, server.Addr())
	far := newManager(t, newClient(t, proxy.Addr()))
	require.NoError(t, acquire(t, near, "job", longTTL).Release(t.Context())) // the server knows the scripts
	require.NoError(t, far.HealthCheck(t.Context()))
	proxy.SetLatency(15 * time.Millisecond)
	_, err := far.AcquireWait(t.Context(), "job", 30*time.Millisecond)
	require.ErrorIs(t, err, lock.ErrRedis)
}
