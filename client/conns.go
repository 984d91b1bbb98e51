package client

import (
	"context"
	"net"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
)

// failedConn stands for a connection that could not be opened: everything returns the
// error of the dial.
//
// go-redis writes a line to stderr for each dial that fails within its pool, for as
// long as an outage lasts, and after as many failures as the pool has places it
// starts a goroutine that outlives Close by up to a second. A connection that fails
// at its first use has neither effect, and its error reaches the same callers.
type failedConn struct{ err dialError }

// dialError is the error of a dial in a wrapping that go-redis takes off.
type dialError struct{ cause error }

func (e dialError) Error() string { return e.cause.Error() }
func (e dialError) Unwrap() error { return e.cause }

var _ net.Conn = failedConn{}

func (c failedConn) Read([]byte) (int, error)       { return 0, c.err }
func (c failedConn) Write([]byte) (int, error)      { return 0, c.err }
func (failedConn) Close() error                     { return nil }
func (failedConn) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (failedConn) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (failedConn) SetDeadline(time.Time) error      { return nil }
func (failedConn) SetReadDeadline(time.Time) error  { return nil }
func (failedConn) SetWriteDeadline(time.Time) error { return nil }

// quietDial makes a dial succeed with a failedConn where next fails.
func quietDial(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := next(ctx, network, addr)
		if err != nil {
			return failedConn{dialError{err}}, nil //nolint:nilerr // it is in the connection
		}
		return conn, nil
	}
}

// gatedConn is a connection that ends when its gate closes.
//
// It ends the commands under way before Close closes the pools: go-redis complains of
// a connection that comes back to a closed pool. With Sentinel the Close of go-redis
// also waits for questions to sentinels, and does not end them by itself.
type gatedConn struct {
	net.Conn
	release func() bool
}

// attach makes conn end with the gate.
func (g *gate) attach(conn net.Conn) net.Conn {
	t := &gatedConn{conn, context.AfterFunc(g.done, func() { _ = conn.Close() })}
	if raw, ok := conn.(syscall.Conn); ok {
		// Through it go-redis sees whether an idle connection is still open.
		return struct {
			*gatedConn
			syscall.Conn
		}{t, raw}
	}
	return t
}

// Close closes the connection. It may be repeated.
func (t *gatedConn) Close() error {
	if !t.release() {
		_ = t.Conn.Close() // the gate is closing it, perhaps just now
		return nil
	}
	return t.Conn.Close()
}
