package client

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/cache/internal/arguments"
)

// dialFunc is the shape of redis.Options.Dialer.
type dialFunc func(ctx context.Context, network, addr string) (net.Conn, error)

// dialer returns the only way to the network. It fails at once while the gate is
// shut: a dial that waited would hold a goroutine of go-redis until Close, which is
// never called on an application that could not be built.
//
// All connections end with the gate, before Close closes the pools: go-redis complains of
// a connection that comes back to a closed pool. With Sentinel its Close also waits for
// questions to sentinels, and does not end them by itself.
//
// It leads to servers, whose connections it has watched.
func (g *gate) dialer(dial dialFunc, e *endpoint, servers *peers) dialFunc {
	if dial == nil {
		d := &net.Dialer{KeepAliveConfig: net.KeepAliveConfig{
			// Notices a vanished peer in about 45 s, before most firewalls
			// forget an idle connection.
			Enable: true, Idle: 30 * time.Second, Interval: 5 * time.Second, Count: 3,
		}}
		dial = d.DialContext
	}
	e.provided.replaces(servers)
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		if err := g.check(); err != nil {
			return nil, err
		}
		ctx, cancel := context.WithTimeout(ctx, e.options.DialTimeout)
		defer cancel()
		defer context.AfterFunc(g.done, cancel)()
		conn, err := dial(ctx, network, addr)
		if err != nil {
			return nil, g.blame(err)
		}
		if arguments.IsNil(conn) {
			return nil, errNoConnection
		}
		if e.tls != nil {
			secure, err := e.tls.handshake(ctx, conn, addr)
			if err != nil {
				_ = conn.Close()
				return nil, g.blame(err)
			}
			conn = secure
		}
		return servers.watch(g.done, conn, addr), nil
	}
}

// errNoConnection is the error of a Config's Dialer that returns neither a connection nor
// an error.
var errNoConnection = errors.New("client: Dialer returned no connection")

// failedConn stands for a connection that could not be opened: everything returns the
// error of the dial.
//
// go-redis writes a line to stderr for each dial that fails within its pool, for as
// long as an outage lasts, and after as many failures as the pool has places it
// starts a goroutine that outlives Close by up to a second. A connection that fails
// at its first use has neither effect, and its error reaches the same callers.
type failedConn struct{ err dialError }

// dialError wraps the error of a dial. initPooledConn of go-redis takes the wrapping off: it
// returns errors.Unwrap of what the first use of a connection returns, and callers would lose
// a layer of the error itself without it.
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

// guardDial refuses to dial while the gate is not open. The dialer does so as well, but
// with Sentinel go-redis asks the sentinels before it gets there. A dial that fails
// becomes a failedConn.
func (g *gate) guardDial(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (conn net.Conn, err error) {
		if err = g.check(); err == nil {
			conn, err = next(ctx, network, addr)
		}
		if err != nil {
			return failedConn{dialError{err}}, nil //nolint:nilerr // it is in the connection
		}
		return conn, nil
	}
}
