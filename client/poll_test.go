//go:build unix

package client

import (
	"errors"
	"io"
	"math"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/config"
	"github.com/compozy/cache/internal/redistest"
)

// pollTest is a polled connection to a peer that the test plays itself.
type pollTest struct {
	*polled

	peer  net.Conn
	waits *atomic.Int64 // how often the connection has waited for something to come
}

// connect makes a connection that p polls.
func connect(t *testing.T, p *polling, network, addr string) pollTest {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), network, addr)
	require.NoError(t, err)
	defer func() { _ = l.Close() }()
	accepted := make(chan net.Conn, 1)
	go func() {
		conn, _ := l.Accept()
		accepted <- conn
	}()
	conn, err := new(net.Dialer).DialContext(t.Context(), network, l.Addr().String())
	require.NoError(t, err)
	test := pollTest{peer: <-accepted}
	require.NotNil(t, test.peer)
	var ok bool
	test.polled, ok = p.wrap(conn).(*polled)
	require.True(t, ok, "a plain socket is polled")
	test.waits = new(atomic.Int64)
	test.ask = func(fd uintptr) bool {
		done := test.receive(fd)
		if !done {
			test.waits.Add(1)
		}
		return done
	}
	t.Cleanup(func() {
		_ = test.peer.Close()
		_ = test.Close()
	})
	return test
}

// echo makes the peer answer every byte by itself.
func (p pollTest) echo() { go func() { _, _ = io.Copy(p.peer, p.peer) }() }

// exchange sends a byte and reads the answer. It reports whether that was polled for.
func (p pollTest) exchange(t *testing.T) bool {
	t.Helper()
	_, err := p.Write([]byte("x"))
	require.NoError(t, err)
	var b [1]byte
	_, err = io.ReadFull(p, b[:])
	require.NoError(t, err)
	require.Equal(t, "x", string(b[:]))
	return p.budget > 0
}

// endless is a budget that no test uses up.
const endless = time.Hour

// always polls for every lone command, whatever a trial would say.
func always() *polling {
	p := &polling{budget: endless, now: func() time.Duration { return 0 }, yield: func() {}}
	p.trial.better, p.trial.pause = awake, math.MaxInt
	return p
}

func TestReplyToLoneCommandIsPolledFor(t *testing.T) {
	t.Parallel()
	// Not in t.TempDir, whose path may be too long for a socket.
	dir, err := os.MkdirTemp("", "poll") //nolint:usetesting // see above
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	for network, addr := range map[string]string{"tcp": "127.0.0.1:0", "unix": filepath.Join(dir, "s")} {
		p := always()
		conn := connect(t, p, network, addr)
		conn.echo()
		require.False(t, conn.exchange(t), "%s: who comes first may not be alone", network)
		for range 10 {
			require.True(t, conn.exchange(t), network)
		}
	}
}

func TestRepliesAreNotPolledForAmongOthers(t *testing.T) {
	t.Parallel()
	p := always()
	one, other := connect(t, p, "tcp", "127.0.0.1:0"), connect(t, p, "tcp", "127.0.0.1:0")
	one.echo()
	other.echo()
	for range 10 {
		require.False(t, one.exchange(t))
		require.False(t, other.exchange(t))
	}
	other.exchange(t)
	require.True(t, other.exchange(t), "alone again")
}

func TestPollingLetsOthersRun(t *testing.T) {
	t.Parallel()
	for better, want := range map[way]int{awake: 10, asleep: 0} {
		p := always()
		p.trial.better = better
		var clock time.Duration
		p.now = func() time.Duration {
			clock += yieldTime / 10
			return clock
		}
		yields := 0
		p.yield = func() { yields++ }
		conn := connect(t, p, "tcp", "127.0.0.1:0")
		conn.echo()
		for range 1 + 100 { // the first is not alone
			conn.exchange(t)
		}
		require.Equal(t, want, yields)
	}
}

func TestPollingInVainIsGivenUp(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		polling, sleeping time.Duration // what they take
		want              way
	}{
		"in vain": {polling: 3, sleeping: 2, want: asleep},
		"a gain":  {polling: 1, sleeping: 2, want: awake},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			clock := time.Duration(1)
			p := &polling{budget: endless, now: func() time.Duration { return clock }}
			conn := connect(t, p, "tcp", "127.0.0.1:0")
			conn.echo()
			conn.ask = func(fd uintptr) bool {
				if conn.budget > 0 {
					clock += tc.polling
					return conn.receive(fd)
				}
				done := conn.receive(fd)
				if done { // it may have waited before
					clock += tc.sleeping
				}
				return done
			}
			for range 2*trialSize + 1 {
				conn.exchange(t)
			}
			require.Equal(t, trialPause, p.trial.pause)
			require.Equal(t, tc.want, p.trial.better)
			require.Equal(t, tc.want == awake, conn.exchange(t))
		})
	}
}

func TestOneReadIsPolledForEachCommand(t *testing.T) {
	t.Parallel()
	conn := connect(t, always(), "tcp", "127.0.0.1:0")
	conn.echo()
	conn.exchange(t)
	conn.exchange(t)
	before := conn.waits.Load()
	done := make(chan error, 1)
	go func() { // what nobody asked for, as to a subscriber
		_, err := conn.Read(make([]byte, 1))
		done <- err
	}()
	require.Eventually(t, func() bool { return conn.waits.Load() > before }, patience, time.Millisecond)
	_, err := conn.Write([]byte("x")) // while it waits
	require.NoError(t, err)
	require.NoError(t, <-done)
	require.Equal(t, uint32(unasked), conn.way.Load(), "the next read would poll for what nobody has asked for")
}

func TestEveryWaySeesTheEnd(t *testing.T) {
	t.Parallel()
	for name, chosen := range map[string]way{"awake": awake, "asleep": asleep} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testEnd(t, chosen)
		})
	}
}

func testEnd(t *testing.T, chosen way) {
	t.Helper()
	newConn := func(t *testing.T) pollTest {
		t.Helper()
		p := always()
		p.trial.better = chosen
		conn := connect(t, p, "tcp", "127.0.0.1:0")
		for range 2 {
			_, err := conn.Write([]byte("x"))
			require.NoError(t, err)
		}
		require.Equal(t, uint32(chosen), conn.way.Load())
		return conn
	}
	read := func(conn pollTest) error {
		_, err := conn.Read(make([]byte, 1))
		return err
	}
	t.Run("closed by the peer", func(t *testing.T) {
		t.Parallel()
		conn := newConn(t)
		_, err := io.ReadFull(conn.peer, make([]byte, 2)) // or closing would reset
		require.NoError(t, err)
		require.NoError(t, conn.peer.Close())
		require.Equal(t, io.EOF, read(conn))
		require.True(t, chosen == asleep || conn.waits.Load() == 0)
	})
	t.Run("reset by the peer", func(t *testing.T) {
		t.Parallel()
		conn := newConn(t)
		tcp, ok := conn.peer.(*net.TCPConn)
		require.True(t, ok)
		require.NoError(t, tcp.SetLinger(0))
		require.NoError(t, tcp.Close())
		err := read(conn)
		require.ErrorIs(t, err, syscall.ECONNRESET)
		var op *net.OpError
		require.ErrorAs(t, err, &op, "as any connection says it")
		require.Equal(t, "read", op.Op)
		require.Equal(t, conn.RemoteAddr(), op.Addr)
		require.True(t, chosen == asleep || conn.waits.Load() == 0)
	})
	t.Run("closed before", func(t *testing.T) {
		t.Parallel()
		conn := newConn(t)
		require.NoError(t, conn.Close())
		require.ErrorIs(t, read(conn), net.ErrClosed)
	})
	t.Run("deadline over", func(t *testing.T) {
		t.Parallel()
		conn := newConn(t)
		require.NoError(t, conn.SetReadDeadline(time.Now().Add(-time.Second)))
		require.ErrorIs(t, read(conn), os.ErrDeadlineExceeded)
	})
	t.Run("closed meanwhile", func(t *testing.T) {
		t.Parallel()
		conn := newConn(t)
		conn.polling.budget = 10 * time.Millisecond
		done := make(chan error, 1)
		go func() { done <- read(conn) }()
		require.Eventually(t, func() bool { return conn.way.Load() == uint32(unasked) }, patience, time.Millisecond)
		require.NoError(t, conn.Close())
		require.ErrorIs(t, <-done, net.ErrClosed)
	})
	t.Run("deadline meanwhile", func(t *testing.T) {
		t.Parallel()
		conn := newConn(t)
		conn.polling.budget = time.Millisecond
		require.NoError(t, conn.SetReadDeadline(time.Now().Add(2*time.Millisecond)))
		require.ErrorIs(t, read(conn), os.ErrDeadlineExceeded)
	})
}

func TestWhatIsNotPolled(t *testing.T) {
	t.Parallel()
	pipe, peer := net.Pipe()
	t.Cleanup(func() { require.NoError(t, errors.Join(pipe.Close(), peer.Close())) })
	require.Same(t, pipe, always().wrap(pipe), "not a socket")

	conn := connect(t, always(), "tcp", "127.0.0.1:0")
	other := struct{ stream }{conn.stream}
	require.Equal(t, net.Conn(other), always().wrap(other), "a Read that somebody wrote")
	tcp, ok := conn.stream.(*net.TCPConn)
	require.True(t, ok)
	require.Same(t, tcp, (&polling{}).wrap(tcp), "switched off")
}

func TestCommandsArePolledFor(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string][]redistest.Option{"plain": nil, "TLS": {redistest.WithTLS()}} {
		srv := redistest.Start(t, opts...)
		cfg := config.Default()
		cfg.URL, cfg.TLSConfig = srv.URL(), srv.TLSConfig()
		cfg.MinIdleConns = 0 // nobody else sends anything
		r := build(t, cfg)
		r.polling.budget = time.Second
		r.polling.trial.better, r.polling.trial.pause = awake, math.MaxInt
		r.Open()
		polled := func() bool {
			require.NoError(t, r.Set(t.Context(), "k", "v", 0).Err())
			last := r.polling.last.Load()
			return last != nil && last.budget > 0
		}
		eventually(t, polled, name)

		cfg.BusyPoll = -1
		r = ready(t, cfg)
		for range 100 {
			require.False(t, polled(), "%s: switched off", name)
		}
	}
}
