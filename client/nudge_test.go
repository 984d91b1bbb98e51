//go:build unix

package client

import (
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/config"
	"github.com/compozy/cache/internal/redistest"
)

// nudgeTest is a connection to a server that answers, and one to a server that sends something now and then.
type nudgeTest struct {
	commands, events pollTest

	read  chan error // what the reader of events has got
	looks int        // how often it has looked for what may come; only to be read while it waits
}

// nudgeable makes the connections, and lets a byte come with the given looks. The first is number 1.
func nudgeable(t *testing.T, coming ...int) *nudgeTest {
	t.Helper()
	p := always()
	n := &nudgeTest{
		commands: connect(t, p, "tcp", "127.0.0.1:0"), events: connect(t, p, "tcp", "127.0.0.1:0"),
		read: make(chan error, 1),
	}
	n.commands.echo()
	wait := n.events.ask
	n.events.ask = func(fd uintptr) bool {
		if n.events.budget > 0 {
			n.looks++
			for _, look := range coming {
				if look == n.looks {
					_, _ = n.events.peer.Write([]byte("x"))
					await(fd) // the look is shorter than the way may be
				}
			}
		}
		return wait(fd)
	}
	n.exchange(t)
	// What belongs to a command that was sent is not nudged for; all that follows is.
	_, err := n.events.peer.Write([]byte("x"))
	require.NoError(t, err)
	n.receive()
	require.NoError(t, n.got(t))
	n.exchange(t)
	return n
}

// await returns when there is something to read from a socket.
func await(fd uintptr) {
	for {
		_, _, err := syscall.Recvfrom(int(fd), make([]byte, 1), syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		if !errors.Is(err, syscall.EAGAIN) && !errors.Is(err, syscall.EINTR) {
			return
		}
		runtime.Gosched()
	}
}

// receive reads from the subscription in the background.
func (n *nudgeTest) receive() {
	go func() {
		_, err := io.ReadFull(n.events, make([]byte, 1))
		n.read <- err
	}()
}

// got returns what the reader has ended with.
func (n *nudgeTest) got(t *testing.T) error {
	t.Helper()
	select {
	case err := <-n.read:
		return err
	case <-time.After(patience):
		require.FailNow(t, "still reading")
		return nil
	}
}

// parked returns when the subscription's reader waits.
func (n *nudgeTest) parked(t *testing.T) {
	t.Helper()
	require.Eventually(t, func() bool {
		n.events.nudged.mu.Lock()
		defer n.events.nudged.mu.Unlock()
		return n.events.nudged.waits && !n.events.nudged.given
	}, patience, time.Millisecond)
}

// exchange sends a command that is alone.
func (n *nudgeTest) exchange(t *testing.T) {
	t.Helper()
	for !n.commands.exchange(t) { //nolint:revive // the first after something else is not
	}
}

// skip lets so many nudges pass that are not given.
func (n *nudgeTest) skip(nudges int) {
	n.events.nudged.mu.Lock()
	defer n.events.nudged.mu.Unlock()
	n.events.nudged.skipped += nudges
}

// seen returns how often the reader has looked, once it waits.
func (n *nudgeTest) seen(t *testing.T) int {
	t.Helper()
	n.parked(t)
	n.events.nudged.mu.Lock()
	defer n.events.nudged.mu.Unlock()
	return n.looks
}

func TestReplyNudgesTheSubscription(t *testing.T) {
	t.Parallel()
	n := nudgeable(t, 1)
	n.receive()
	n.parked(t)
	n.exchange(t)
	require.NoError(t, n.got(t), "it came only with the look")
	require.Equal(t, 1, n.looks)
}

func TestNudgesInVainAreGivenUp(t *testing.T) {
	t.Parallel()
	n := nudgeable(t, vainNudges, 2*vainNudges+2)
	n.receive()
	for range vainNudges - 1 {
		n.parked(t)
		n.exchange(t)
	}
	require.Equal(t, vainNudges-1, n.seen(t))
	n.exchange(t)
	require.NoError(t, n.got(t), "not given up yet")

	n.receive()
	for range vainNudges {
		n.parked(t)
		n.exchange(t)
	}
	require.Equal(t, 2*vainNudges, n.seen(t))
	n.skip(nudgePause - 2)
	n.exchange(t)
	require.Equal(t, 2*vainNudges, n.seen(t), "given up")
	n.exchange(t)
	require.Equal(t, 2*vainNudges+1, n.seen(t), "but for one now and then")
	n.skip(nudgePause - 2)
	n.exchange(t)
	require.Equal(t, 2*vainNudges+1, n.seen(t), "which was in vain, too")
	n.exchange(t)
	require.NoError(t, n.got(t))
	n.receive()
	n.parked(t)
	n.exchange(t)
	require.Equal(t, 2*vainNudges+3, n.seen(t), "the last one has brought something")
	require.NoError(t, n.events.Close())
	require.ErrorIs(t, n.got(t), net.ErrClosed)
}

func TestWhoIsNotNudged(t *testing.T) {
	t.Parallel()
	n := nudgeable(t)
	n.receive()
	n.parked(t)
	n.commands.polling.trial.better = asleep
	for range 2 {
		n.commands.exchange(t)
	}
	require.Zero(t, n.seen(t), "where sleeping is better")
	_, err := n.events.peer.Write([]byte("x"))
	require.NoError(t, err)
	require.NoError(t, n.got(t))

	waits := n.events.waits.Load()
	_, err = n.events.Write([]byte("x"))
	require.NoError(t, err)
	n.receive()
	require.Eventually(t, func() bool { return n.events.waits.Load() > waits }, patience, time.Millisecond)
	n.events.nudged.mu.Lock()
	require.False(t, n.events.nudged.waits, "who waits for the reply to a command")
	n.events.nudged.mu.Unlock()
	require.NoError(t, n.events.Close())
	require.ErrorIs(t, n.got(t), net.ErrClosed)
	require.Zero(t, n.looks)
}

// allTheTime calls f again and again, until the test ends.
func allTheTime(t *testing.T, f func()) {
	t.Helper()
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
				f()
				runtime.Gosched() // there may be one processor only
			}
		}
	}()
	t.Cleanup(func() {
		close(stop)
		<-stopped
	})
}

// nudged makes the reader be nudged all the time, whether that brings anything or not.
func (n *nudgeTest) nudged(t *testing.T) {
	t.Helper()
	allTheTime(t, func() {
		n.events.nudged.mu.Lock()
		n.events.nudged.vain = 0
		n.events.nudged.mu.Unlock()
		n.events.nudge()
	})
}

func TestNobodyNoticesNudges(t *testing.T) {
	t.Parallel()
	t.Run("everything comes, in order", func(t *testing.T) {
		t.Parallel()
		n := nudgeable(t)
		n.nudged(t)
		wanted := make(chan byte)
		defer close(wanted)
		go func() {
			for b := range wanted { // so that the reader waits for it
				_, _ = n.events.peer.Write([]byte{b})
			}
		}()
		// On busy processors the byte may be there before the nudge, many times.
		for i, end := 0, time.Now().Add(patience); i < 300 || n.looks == 0 && time.Now().Before(end); i++ {
			wanted <- byte(i)
			var b [1]byte
			_, err := n.events.Read(b[:])
			require.NoError(t, err)
			require.Equal(t, byte(i), b[0])
		}
		require.Positive(t, n.looks)
	})
	t.Run("two may read", func(t *testing.T) {
		t.Parallel()
		n := nudgeable(t)
		other := make(chan error, 1)
		n.nudged(t)
		n.receive()
		go func() {
			_, err := n.events.Read(make([]byte, 1))
			other <- err
		}()
		for range 2 {
			n.parked(t)
			_, err := n.events.peer.Write([]byte("x"))
			require.NoError(t, err)
			select {
			case err = <-other:
			case err = <-n.read:
			case <-time.After(patience):
				require.Fail(t, "nobody has got it")
			}
			require.NoError(t, err)
		}
	})
	t.Run("a deadline stays", func(t *testing.T) {
		t.Parallel()
		for name, set := range map[string]func(net.Conn, time.Time) error{
			"for reading": net.Conn.SetReadDeadline, "for both": net.Conn.SetDeadline,
		} {
			n := nudgeable(t)
			n.nudged(t)
			deadline := time.Now().Add(20 * time.Millisecond)
			require.NoError(t, set(n.events, deadline), name)
			n.receive()
			require.ErrorIs(t, n.got(t), os.ErrDeadlineExceeded, name)
			require.False(t, time.Now().Before(deadline), "%s: too early", name)

			require.NoError(t, set(n.events, time.Time{}), name)
			n.receive()
			n.parked(t)
			require.NoError(t, set(n.events, time.Now().Add(time.Millisecond)), name)
			require.ErrorIs(t, n.got(t), os.ErrDeadlineExceeded, "%s: set while it waits", name)

			require.NoError(t, set(n.events, time.Time{}), name)
			n.receive()
			n.parked(t)
			_, err := n.events.peer.Write([]byte("x"))
			require.NoError(t, err, name)
			require.NoError(t, n.got(t), "%s: none again", name)
		}
	})
	t.Run("an end is the end", func(t *testing.T) {
		t.Parallel()
		n := nudgeable(t)
		n.nudged(t)
		n.receive()
		n.parked(t)
		require.NoError(t, n.events.peer.Close())
		require.Equal(t, io.EOF, n.got(t))
		require.NoError(t, n.events.Close())
		n.receive()
		require.ErrorIs(t, n.got(t), net.ErrClosed)
	})
}

// As above with go-redis' subscriptions to a real server, in plain and over TLS.
func TestNoSubscriptionNoticesNudges(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string][]redistest.Option{"plain": nil, "TLS": {redistest.WithTLS()}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := redistest.Start(t, opts...)
			cfg := config.Default()
			cfg.URL, cfg.TLSConfig = srv.URL(), srv.TLSConfig()
			r := build(t, cfg)
			r.polling.budget = nudgeTime // also on a single processor
			r.Open()
			sub := r.Subscribe(t.Context(), "k")
			t.Cleanup(func() { _ = sub.Close() })
			_, err := sub.Receive(t.Context())
			require.NoError(t, err)
			var given atomic.Int64
			allTheTime(t, func() {
				if l := r.polling.listener.Load(); l != nil {
					l.nudge()
					l.nudged.mu.Lock()
					if l.nudged.given {
						given.Add(1)
					}
					l.nudged.vain = 0
					l.nudged.mu.Unlock()
				}
			})
			for i, end := 0, time.Now().Add(patience); i < 300 || given.Load() == 0 && time.Now().Before(end); i++ {
				go r.Publish(t.Context(), "k", i)                   // while the reader waits
				m, err := sub.ReceiveTimeout(t.Context(), patience) // which does not connect anew
				require.NoError(t, err)
				require.IsType(t, &redis.Message{}, m)
				require.Equal(t, strconv.Itoa(i), m.(*redis.Message).Payload)
			}
			require.Positive(t, given.Load())
		})
	}
}
