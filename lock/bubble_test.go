package lock_test

import (
	"context"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/embedded"
	"github.com/compozy/cache/lock"
)

// inBubble runs a test in which time costs nothing, on an in-memory server whose keys expire.
func inBubble(t *testing.T, test func(t *testing.T, server *embedded.Server, client *redis.Client)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		server := embedded.New()
		defer func() {
			_ = server.Close()
			time.Sleep(time.Minute) // in a bubble: a client may still be trying to dial in the background
		}()
		client := redis.NewClient(&redis.Options{
			ContextTimeoutEnabled:    true,
			Dialer:                   server.Dial,
			MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		})
		defer func() { _ = client.Close() }()
		test(t, server, client)
	})
}

func TestAnHourOfRenewals(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, _ *embedded.Server, client *redis.Client) { //nolint:thelper // a test
		m, err := lock.NewRedisLockManager(client)
		require.NoError(t, err)
		defer func() { _ = m.Close(t.Context()) }()
		const ttl = 30 * time.Second
		l := acquire(t, m, "job", ttl)
		time.Sleep(time.Hour) // in a bubble: it costs milliseconds
		assert.True(t, l.IsHeld())
		assert.InDelta(t, 3600/9.5, m.GetMetrics().RenewalsTotal, 10, "one every third of the TTL, less some jitter")
		require.NoError(t, m.Alive())
		require.NoError(t, l.Release(t.Context()))
		renewals := m.GetMetrics().RenewalsTotal
		time.Sleep(time.Hour) // in a bubble
		assert.Equal(t, renewals, m.GetMetrics().RenewalsTotal, "a released lock is not renewed")
	})
}

// hangingConn is a connection on which nothing is sent, and no reply comes, while hung is set.
type hangingConn struct {
	net.Conn

	hung *atomic.Bool
}

// Write implements net.Conn.
func (c *hangingConn) Write(b []byte) (int, error) {
	if c.hung.Load() {
		return len(b), nil
	}
	return c.Conn.Write(b)
}

func TestLossIsToldExactlyInTime(t *testing.T) {
	t.Parallel()
	for harm, inflict := range map[string]func(*embedded.Server, *atomic.Bool) error{
		"gone":  func(server *embedded.Server, _ *atomic.Bool) error { return server.Close() },
		"hangs": func(_ *embedded.Server, hung *atomic.Bool) error { hung.Store(true); return nil },
	} {
		for ttl, told := range map[time.Duration]time.Duration{
			// TTL less 1%, 2ms and a tenth, which is at least 1ms and at most 500ms.
			10 * time.Millisecond: 6900 * time.Microsecond,
			time.Second:           888 * time.Millisecond,
			10 * time.Second:      9398 * time.Millisecond,
			time.Minute:           9398 * time.Millisecond, // as long as it was not renewed
		} {
			t.Run(harm+" "+ttl.String(), func(t *testing.T) {
				t.Parallel()
				inBubble(t, func(t *testing.T, server *embedded.Server, client *redis.Client) { //nolint:thelper // a test
					var hung atomic.Bool
					dial := client.Options().Dialer
					client.Options().Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
						c, err := dial(ctx, network, addr)
						return &hangingConn{Conn: c, hung: &hung}, err
					}
					m, err := lock.NewRedisLockManager(client, lock.WithNodeTimeout(time.Hour))
					require.NoError(t, err)
					defer func() { _ = m.Close(t.Context()) }()
					start := time.Now()
					l := acquire(t, m, "job", ttl)
					require.NoError(t, inflict(server, &hung))
					assert.Equal(t, told, l.Until().Sub(start))
					<-l.Lost()
					assert.Equal(t, told, time.Since(start))
					assert.False(t, l.IsHeld())
					require.ErrorIs(t, context.Cause(l.Context()), lock.ErrLockExpired)
					require.ErrorIs(t, l.Refresh(t.Context()), lock.ErrLockExpired)
				})
			})
		}
	}
}

// TestLossByOthersIsToldByTheNextRenewal: long before the time is up.
func TestLossByOthersIsToldByTheNextRenewal(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, _ *embedded.Server, client *redis.Client) { //nolint:thelper // a test
		m, err := lock.NewRedisLockManager(client)
		require.NoError(t, err)
		defer func() { _ = m.Close(t.Context()) }()
		for cause, harm := range map[error]func() error{
			lock.ErrLockExpired: func() error { return client.Del(t.Context(), "cache:lock:{job}").Err() },
			lock.ErrLockStolen:  func() error { return client.Set(t.Context(), "cache:lock:{job}", "thief", 0).Err() },
		} {
			start := time.Now()
			l := acquire(t, m, "job", time.Minute)
			require.NoError(t, harm())
			<-l.Lost()
			assert.LessOrEqual(t, time.Since(start), 20*time.Second)
			require.ErrorIs(t, context.Cause(l.Context()), cause)
			require.NoError(t, client.Del(t.Context(), "cache:lock:{job}").Err())
		}
	})
}

// TestWaitersSurviveALostMessage: whoever is not told finds out by the holder's expiry.
func TestWaitersSurviveALostMessage(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, _ *embedded.Server, client *redis.Client) { //nolint:thelper // a test
		m, err := lock.NewRedisLockManager(client)
		require.NoError(t, err)
		defer func() { _ = m.Close(t.Context()) }()
		start := time.Now()
		require.NoError(t, client.Set(t.Context(), "cache:lock:{job}", "somebody", 5*time.Second).Err())
		l, err := m.AcquireWait(t.Context(), "job", longTTL)
		require.NoError(t, err)
		assert.WithinDuration(t, start.Add(5*time.Second), time.Now(), 200*time.Millisecond)

		start = time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err = m.AcquireWait(ctx, "job", longTTL)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		assert.Equal(t, time.Minute, time.Since(start))
		require.NoError(t, l.Release(t.Context()))
	})
}
