package client

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/cache/internal/arguments"
	"github.com/compozy/cache/internal/redisx"
)

// What stands between go-redis, which dials, and the network, from the outside in:
//
//	guardDial      lets nothing pass while the gate is not open; what fails becomes a failedConn,
//	               what a DialHook of the application wraps a hookedConn
//	hideSentinels  keeps passwords out of the errors of a dial that asks sentinels
//	               DialHooks of the application, and go-redis, which asks sentinels
//	opener         bounds what the Dialer and TLSConfig take
//	watchedConn    notes which requests were answered, and ends with the gate
//	greetedConn    keeps why a server wants no connection
//	security       speaks TLS
//	Dialer         the Config's, or that of net
//
// The first two are hooks; dialer makes the others of ours.

// dialFunc is the shape of redis.Options.Dialer.
type dialFunc func(ctx context.Context, network, addr string) (net.Conn, error)

// dialer returns the only way to the network. It fails at once while the gate is
// shut: a dial that waited would hold a goroutine of go-redis until Close, which is
// never called on an application that could not be built.
//
// All connections end with the gate, before Close closes the pools: with Sentinel go-redis'
// Close waits for questions to sentinels, and does not end them by itself.
//
// The default of dial is net's own; without a security there is no TLS. An error is a dialError.
func (g *gate) dialer(dial dialFunc, limit time.Duration, tls *security, peers *peers) dialFunc {
	if dial == nil {
		d := &net.Dialer{KeepAliveConfig: net.KeepAliveConfig{
			// Notices a vanished peer in about 45 s, before most firewalls
			// forget an idle connection.
			Enable: true, Idle: 30 * time.Second, Interval: 5 * time.Second, Count: 3,
		}}
		dial = d.DialContext
	}
	opener := new(opener)
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		if err := g.check(); err != nil {
			return nil, dialError{err}
		}
		if !hasHost(addr) {
			return nil, dialError{errNoHost}
		}
		limit, sentinel := limit, peers.isSentinel(ctx)
		if sentinel {
			if peers.isSilent(addr) {
				return nil, dialError{silence{addr, peers.answerTime}}
			}
			limit = peers.answerTime
		} else {
			peers.unconnected.Store(addr)
		}
		outer := ctx
		ctx, cancel := redisx.WithTimeout(ctx, limit)
		defer cancel()
		defer context.AfterFunc(g.done, cancel)()
		failed := func(err error) error {
			if sentinel && errors.Is(ctx.Err(), context.DeadlineExceeded) && outer.Err() == nil {
				err = peers.silent(addr)
			}
			return dialError{g.blame(err)}
		}
		conn, err := opener.open(ctx, network, func() (net.Conn, error) {
			conn, err := made(dial(ctx, network, addr))
			if err != nil || tls == nil {
				return conn, err
			}
			return tls.handshake(ctx, conn, addr)
		})
		if err != nil {
			return nil, failed(err)
		}
		watched := peers.watch(g.done, conn, addr, sentinel)
		if !sentinel {
			peers.unconnected.Store("")
			note(ctx, watched)
		}
		return watched, nil
	}
}

// guardDial refuses to dial while the gate is not open. The dialer does so as well, but
// with Sentinel go-redis asks the sentinels before it gets there. A dial that fails
// becomes a failedConn, and what a hook of the application has wrapped a hookedConn. Where go-redis sets no limit, as for
// subscriptions, hooks have that of a dial.
func (g *gate) guardDial(next redis.DialHook, limit time.Duration) redis.DialHook {
	opener := new(opener)
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		ctx, cancel := redisx.WithTimeout(ctx, limit)
		defer cancel()
		watched := new(atomic.Pointer[watchedConn])
		ctx = context.WithValue(ctx, watchedKey{}, watched)
		err := g.check()
		var conn net.Conn
		if err == nil {
			conn, err = opener.open(ctx, network, func() (net.Conn, error) { return made(next(ctx, network, addr)) })
		}
		if err != nil {
			if !isDial(err) {
				err = dialError{err} // which a hook returned
			}
			return failedConn{dialError{err}}, nil // the error is in the connection, and go-redis takes the outer layer off
		}
		if inner := watched.Load(); inner != nil && conn != net.Conn(inner) {
			conn = hookedConn{conn, inner}
		}
		return conn, nil
	}
}

// made returns what the application's code has returned for a dial, and an error in place of no connection.
func made(conn net.Conn, err error) (net.Conn, error) {
	if err == nil && arguments.IsNil(conn) {
		err = errors.New("client: the Dialer or a DialHook returned no connection")
	}
	return conn, err
}

// failedConn stands for a connection that could not be opened: everything returns the
// error of the dial.
//
// go-redis writes a line to stderr for each dial that fails within its pool, for as
// long as an outage lasts, and after as many failures as the pool has places it
// starts a goroutine that outlives Close by up to a second. A connection that fails
// at its first use has neither effect, and its error reaches the same callers.
type failedConn struct{ err dialError }

// dialError is a layer around what has kept a connection from being opened: nothing of the caller's was sent on it. initPooledConn
// of go-redis takes the outermost layer off what the first use of a connection returns. No peer's answer is in it, see hideReply.
type dialError struct{ cause error }

func (e dialError) Error() string { return e.cause.Error() }
func (e dialError) Unwrap() error { return e.cause }

// Unsent is for package redisx.
func (dialError) Unsent() bool { return true }

func isDial(err error) bool {
	_, ok := errors.AsType[dialError](err)
	return ok
}

var _ net.Conn = failedConn{}

// SyscallConn keeps it from being used later: go-redis puts it with the idle connections if its caller has gone.
func (failedConn) SyscallConn() (syscall.RawConn, error) { return nil, errReplace }

func (c failedConn) Read([]byte) (int, error)       { return 0, c.err }
func (c failedConn) Write([]byte) (int, error)      { return 0, c.err }
func (failedConn) Close() error                     { return nil }
func (failedConn) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (failedConn) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (failedConn) SetDeadline(time.Time) error      { return nil }
func (failedConn) SetReadDeadline(time.Time) error  { return nil }
func (failedConn) SetWriteDeadline(time.Time) error { return nil }
