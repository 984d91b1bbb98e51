package client

import (
	"context"
	"net"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/cache/internal/redisx"
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

// greetOnce keeps go-redis from repeating the HELLO with which it begins to use a
// connection. That cannot help on a connection that failed: the command that needs
// the connection is what gets repeated, on another one.
func greetOnce(cmd redis.Cmder) redis.Cmder {
	if cmd.Name() == "hello" {
		return redisx.Once(cmd)
	}
	return cmd
}
