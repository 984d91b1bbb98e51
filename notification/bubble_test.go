package notification_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/embedded"
	"github.com/compozy/cache/notification"
)

// With the heartbeats that everybody has, a dead connection is replaced within ten seconds. In a bubble, they cost
// nothing, and nothing else costs time.
func TestHalfOpenConnectionIsReplacedWithinTenSeconds(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ all, toServer bool }{
		"nothing passes on any connection":           {all: true, toServer: true},
		"the subscriber hears nothing and is heard":  {all: false, toServer: false},
		"the subscriber hears nothing, nor is heard": {all: false, toServer: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				network := inBubble(t)
				n := newSystem(t, clientBy(t, network.Dial))
				outside := newSystem(t, clientBy(t, network.dial))
				s := subscribe(t, n, "k")
				require.NoError(t, outside.Publish(t.Context(), "k", numbered{1}))
				next(t, s)
				for _, quiet := range []time.Duration{time.Minute, time.Second} { // the latter in between two heartbeats
					time.Sleep(quiet) // in a bubble
					require.NoError(t, n.HealthCheck(t.Context()))
					reconnects := n.GetMetrics().Reconnects

					network.fray(test.all, test.toServer)
					start := time.Now()
					require.NoError(t, outside.Publish(t.Context(), "k", numbered{2}))
					m := next(t, s)
					assert.LessOrEqual(t, time.Since(start), 10*time.Second, "by the clock of the bubble")
					assert.True(t, m.Recovered)
					assert.Nil(t, m.Gap)
					assert.Equal(t, reconnects+1, n.GetMetrics().Reconnects)
				}
			})
		})
	}
}

// Alive tells of a dispatcher that is stuck. One that tries to recover, again and again, is not.
func TestRecoveryThatTriesAgainIsNotStuck(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		network := inBubble(t)
		hook := &narrow{}
		hook.limit.Store(-1)
		n := newSystem(t, withHook(clientBy(t, network.Dial), hook.hook()))
		s := subscribe(t, n, "k")
		require.NoError(t, n.Publish(t.Context(), "k", numbered{1}))
		next(t, s)
		hook.limit.Store(0) // less than any part of the journal
		network.cut()
		require.NoError(t, n.Publish(t.Context(), "k", numbered{2}))
		for range 60 {
			time.Sleep(10 * time.Second) // in a bubble
			require.NoError(t, n.Alive())
			require.ErrorIs(t, n.HealthCheck(t.Context()), notification.ErrNotLive)
		}
		hook.limit.Store(-1)
		assert.True(t, next(t, s).Recovered)
		assert.EqualValues(t, 1, n.GetMetrics().Reconnects)
	})
}

// unreadable returns a network on which no part of the journal with a certain event arrives in the time that the client waits.
func unreadable() *partHook {
	return &partHook{read: func(_ context.Context, p part, next func() error) error {
		err := next()
		for _, cmd := range p.cmds {
			if c, ok := cmd.(*redis.Cmd); ok && strings.Contains(fmt.Sprint(c.Val()), `"n":13}`) {
				time.Sleep(3 * time.Second) // in a bubble
				return &net.OpError{Op: "read", Net: "tcp", Err: os.ErrDeadlineExceeded}
			}
		}
		return err
	}}
}

// An event that never arrives keeps those behind it back for about ten seconds.
func TestEventThatNeverArrivesIsAGap(t *testing.T) {
	t.Parallel()
	for name, resumes := range map[string]bool{"after a cut": false, "of one that resumes": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				network := inBubble(t)
				client := withHook(clientBy(t, network.Dial), unreadable())
				n, outside := newSystem(t, client, notification.WithBufferSize(100)), newSystem(t, clientBy(t, network.dial))
				s := subscribe(t, n, "k")
				if !resumes {
					network.cut()
				}
				for i := range 20 {
					require.NoError(t, outside.Publish(t.Context(), "k", numbered{i + 1}))
				}
				if resumes {
					s = n.SubscribeFrom(t.Context(), "k", "")
				}
				start := time.Now()
				for i := range 12 {
					m := next(t, s)
					number, err := numberOf(m)
					require.NoError(t, err)
					assert.Equal(t, i+1, number)
					assert.Nil(t, m.Gap)
				}
				assert.Equal(t, notification.GapUnreadable, told(t, s).Reason)
				assert.Less(t, time.Since(start), time.Minute, "by the clock of the bubble")
				require.NoError(t, outside.Publish(t.Context(), "k", numbered{21}))
				m := next(t, s)
				number, err := numberOf(m)
				require.NoError(t, err)
				assert.Equal(t, 21, number)
				require.NotNil(t, m.Gap)
				assert.Equal(t, notification.GapUnreadable, m.Gap.Reason)
			})
		})
	}
}

// A name stays subscribed for five seconds, or as long as it was set, after the last subscription to it was closed.
func TestNamesLinger(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		opts  []notification.Option
		delay time.Duration
	}{
		"default":  {nil, 5 * time.Second},
		"a minute": {[]notification.Option{notification.WithUnsubscribeDelay(time.Minute)}, time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				n := newSystem(t, clientBy(t, inBubble(t).Dial), test.opts...)
				names := func() int { return n.GetMetrics().ActiveChannels }
				for range 2 { // the second comes back in time
					s := subscribe(t, n, "k")
					require.NoError(t, s.Close())
					time.Sleep(test.delay - time.Second) // in a bubble
					assert.Equal(t, 1, names())
				}
				time.Sleep(2 * time.Second) // in a bubble
				assert.Zero(t, names())
			})
		})
	}
}

// inBubble returns a network with a server for tests in which time costs nothing.
func inBubble(t *testing.T) *fraying {
	t.Helper()
	server := embedded.New()
	t.Cleanup(func() {
		_ = server.Close()
		time.Sleep(time.Minute) // in a bubble: a client may still be trying to dial in the background
	})
	return &fraying{dial: server.Dial}
}

// clientBy returns a client that connects by a function.
func clientBy(t *testing.T, dial func(ctx context.Context, network, addr string) (net.Conn, error)) *redis.Client {
	t.Helper()
	client := redis.NewClient(&redis.Options{
		ContextTimeoutEnabled: true, Dialer: dial,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// fraying makes connections that can become half-open: nobody learns that what passes through them vanishes.
type fraying struct {
	dial func(ctx context.Context, network, addr string) (net.Conn, error)

	mu    sync.Mutex
	conns []*frayed
}

func (f *fraying) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := f.dial(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	c := &frayed{Conn: conn}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.conns = append(f.conns, c)
	return c, nil
}

// fray makes what comes from the server vanish, on the subscribing connection or all there are at present, and what goes
// to the server if told to.
func (f *fraying) fray(all, toServer bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.conns {
		if all || c.subscribes.Load() {
			c.deaf.Store(true)
			c.mute.Store(toServer)
		}
	}
}

// cut breaks the subscribing connections.
func (f *fraying) cut() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.conns {
		if c.subscribes.Load() {
			_ = c.Close()
		}
	}
}

type frayed struct {
	net.Conn
	subscribes, deaf, mute atomic.Bool
}

func (c *frayed) Write(b []byte) (int, error) {
	if bytes.Contains(b, []byte("\r\nsubscribe\r\n")) {
		c.subscribes.Store(true)
	}
	if c.mute.Load() {
		return len(b), nil
	}
	return c.Conn.Write(b)
}

func (c *frayed) Read(b []byte) (int, error) {
	for {
		n, err := c.Conn.Read(b)
		if err != nil || !c.deaf.Load() {
			return n, err
		}
	}
}
