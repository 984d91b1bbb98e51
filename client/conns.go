package client

import (
	"context"
	"errors"
	"maps"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// A firewall or NAT that restarts forgets all connections at once: what is sent on them
// vanishes, while new connections work. Each connection in the pool would cost a command its
// read timeout and one of its retries, until none of the old ones was left.
//
// Others reset a connection that they have forgotten, when something is sent on it; and what a server closes while it is idle
// shows only then with TLS.
//
// Therefore one request that got no answer, in time or before the end of its connection, makes all connections to the same address
// suspect: one of them is used again only if it has answered a request that was sent later.
// Before go-redis uses a connection of the pool, it looks at its socket through SyscallConn.
// An error there makes it close the connection and take or open another one. With two
// connections to an address, A and B, and a read timeout of 3 s:
//
//	1 s  A is opened               lastAnswered of A is 1
//	2 s  B is opened               lastAnswered of B is 2
//	5 s  A sends a request         pendingSince of A is 5; its reply gets lost
//	6 s  B sends another           and is answered: lastAnswered of B is 6
//	8 s  the read on A times out   lastUnanswered of the address is 5; go-redis closes A
//	9 s  B is taken from the pool  and used, as 6 is not before 5; with the 2 it would be replaced
//
// Only a read that had the configured read timeout counts, or of a sentinel its answerTime. One with another deadline belongs to
// a context or to a command with a timeout of its own, such as a BLPOP that waits for a second:
// it says nothing about the connection. A health check asks what every server answers at
// once, so a check without an answer proves as much, in less time: see server.unanswered.

// peers are the servers at the addresses that a dialer was given.
type peers struct {
	start         time.Time     // times are durations since, which fit an atomic
	readTimeout   time.Duration // none if it is not above 0
	answerTime    time.Duration // of sentinels; 0 if there are none
	replaceBefore atomic.Int64  // connections that were opened before are replaced
	unconnected   atomic.Value  // the address, no sentinel's, that was dialled last, or "" once there is a connection

	mu     sync.Mutex
	at     map[string]*peer          // by address
	asking map[*watchedConn]struct{} // the connections to sentinels
}

// peer says of an address when the latest requests without an answer were sent; 0 means none.
type peer struct {
	lastUnanswered atomic.Int64 // no answer within the read timeout, or that of a health check
	lastGivenUp    atomic.Int64 // no answer before any deadline
	silentAt       atomic.Int64 // when a sentinel was last noted as silent
}

func newPeers(readTimeout, answerTime time.Duration) *peers {
	return &peers{
		start: time.Now(), readTimeout: readTimeout, answerTime: answerTime,
		at: make(map[string]*peer), asking: make(map[*watchedConn]struct{}),
	}
}

// now is never 0.
func (p *peers) now() int64 { return max(1, int64(time.Since(p.start))) }

// peer returns what is known of an address.
func (p *peers) peer(addr string) *peer {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.at[addr] == nil {
		p.at[addr] = new(peer)
	}
	return p.at[addr]
}

// watch returns conn, which leads to addr, as a watchedConn that ends with done.
func (p *peers) watch(done context.Context, conn net.Conn, addr string, sentinel bool) *watchedConn {
	c := &watchedConn{
		Conn: &greetedConn{Conn: conn}, peers: p, peer: p.peer(addr), addr: addr, sentinel: sentinel, opened: p.now(), done: done,
	}
	if sentinel {
		p.mu.Lock()
		p.asking[c] = struct{}{}
		p.mu.Unlock()
	}
	c.raw, _ = conn.(syscall.Conn)
	c.lastAnswered.Store(c.opened)
	c.release = context.AfterFunc(done, func() { _ = conn.Close() })
	return c
}

// distrust makes connections suspect that have answered no request sent since began: those to
// the addresses where a request sent since got no answer, or all of them if there is such one.
func (p *peers) distrust(began int64, everywhere bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	unanswered := func(at *peer) bool { return at.lastGivenUp.Load() >= began }
	everywhere = everywhere && slices.ContainsFunc(slices.Collect(maps.Values(p.at)), unanswered)
	for _, at := range p.at {
		if everywhere || unanswered(at) {
			storeMax(&at.lastUnanswered, began)
		}
	}
}

// storeMax is not exact: of two at the same moment the earlier may win, and a connection that
// answered in between then costs one more time-out.
func storeMax(last *atomic.Int64, sent int64) { last.Store(max(last.Load(), sent)) }

// replaceAll keeps the connections that are open now from being used again.
func (p *peers) replaceAll() { p.replaceBefore.Store(p.now()) }

// watchedConn notes when requests are sent, and which were answered.
type watchedConn struct {
	net.Conn
	peers  *peers
	peer   *peer        // its address
	addr   string       // the same
	raw    syscall.Conn // the socket, or nil if there is none to look at
	opened int64
	// sentinel says that each answer is due within the answerTime.
	sentinel bool
	done     context.Context //nolint:containedctx // ends the connection
	release  func() bool     // forgets done, and returns false if that has ended the connection
	// usesReadTimeout is set while the deadline for reads is that of the read timeout.
	usesReadTimeout atomic.Bool
	// pendingSince is when the first request was sent that has no answer yet, or 0, and
	// lastAnswered when the latest one was that has: at first, when the connection was opened.
	pendingSince, lastAnswered atomic.Int64
}

// Close closes the connection. It may be repeated.
func (c *watchedConn) Close() error {
	if c.sentinel {
		c.peers.mu.Lock()
		delete(c.peers.asking, c)
		c.peers.mu.Unlock()
	}
	if !c.release() {
		_ = c.Conn.Close() // a TLS connection would complain that it is closed
		return nil
	}
	return c.Conn.Close()
}

// Write sends a request, or part of one.
func (c *watchedConn) Write(b []byte) (int, error) {
	if c.pendingSince.Load() == 0 {
		c.pendingSince.Store(c.peers.now())
	}
	if due := c.due(); !due.IsZero() {
		_ = c.Conn.SetReadDeadline(due) // that of a subscription is being read already
	}
	return c.Conn.Write(b)
}

// due is when a sentinel's answer is due, or zero.
func (c *watchedConn) due() time.Time {
	sent := c.pendingSince.Load()
	if !c.sentinel || sent == 0 {
		return time.Time{}
	}
	return c.peers.start.Add(time.Duration(sent) + c.peers.answerTime)
}

// SetReadDeadline is called by go-redis before each reply that it reads.
func (c *watchedConn) SetReadDeadline(t time.Time) error {
	limit := c.peers.readTimeout
	// The deadline was derived from the time-out a moment ago.
	c.usesReadTimeout.Store(limit > 0 && !t.IsZero() && (time.Until(t)-limit).Abs() <= min(10*time.Millisecond, limit/10))
	if due := c.due(); !due.IsZero() && (t.IsZero() || due.Before(t)) {
		t = due
	}
	return c.Conn.SetReadDeadline(t)
}

// Read receives an answer, or part of one. What arrives unasked, such as a message of
// a subscription, shows that the connection works but answers no request.
func (c *watchedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 {
		if sent := c.pendingSince.Swap(0); sent != 0 {
			c.lastAnswered.Store(sent)
		}
	}
	sent := c.pendingSince.Load()
	switch {
	case err == nil:
	case errors.Is(err, os.ErrDeadlineExceeded):
		storeMax(&c.peer.lastGivenUp, sent)
		due := c.due()
		silent := !due.IsZero() && !time.Now().Before(due)
		if silent {
			err = c.peers.silent(c.addr)
		}
		if silent || c.usesReadTimeout.Load() {
			storeMax(&c.peer.lastUnanswered, sent)
		}
	case sent != 0 && !errors.Is(err, net.ErrClosed): // which is us
		storeMax(&c.peer.lastUnanswered, sent)
	}
	return n, err
}

// SyscallConn returns errReplace for a connection that should not be used any more, and
// otherwise lets go-redis look whether the socket is still open. With TLS, or with a
// Dialer that returns something else than a socket, there is nothing to look at.
func (c *watchedConn) SyscallConn() (syscall.RawConn, error) {
	switch {
	case c.isSuspect():
		return nil, errReplace // which go-redis does not pass on
	case c.raw == nil:
		return noSocket{}, nil
	default:
		return c.raw.SyscallConn()
	}
}

// isSuspect reports whether the connection should not be used any more.
func (c *watchedConn) isSuspect() bool {
	return c.lastAnswered.Load() < c.peer.lastUnanswered.Load() || c.opened < c.peers.replaceBefore.Load()
}

// hookedConn is a connection that a DialHook of the application has made around a watchedConn.
type hookedConn struct {
	net.Conn

	watched *watchedConn
}

// SyscallConn does what that of the watchedConn does, without its socket: the hook may buffer, or encrypt, and what waits there
// would then not be for go-redis. A connection of the hook that lets others look at its socket shows that one.
func (c hookedConn) SyscallConn() (syscall.RawConn, error) {
	if c.watched.isSuspect() {
		return nil, errReplace
	}
	if own, ok := c.Conn.(syscall.Conn); ok {
		if raw, err := own.SyscallConn(); err == nil {
			return raw, nil
		}
	}
	return noSocket{}, nil
}

// Close closes the connection. What the hook would say at its end, such as TLS, cannot be said when the client has been closed.
func (c hookedConn) Close() error {
	err := c.Conn.Close()
	if closed := c.watched.done.Err() != nil; closed {
		err = nil
	}
	return err
}

// watchedKey finds, in the context of a dial through hooks, where to note the watchedConn that it leads to.
type watchedKey struct{}

func note(ctx context.Context, c *watchedConn) {
	if watched, ok := ctx.Value(watchedKey{}).(*atomic.Pointer[watchedConn]); ok {
		watched.Store(c)
	}
}

var errReplace = errors.New("client: the connection is to be replaced")

// noSocket stands for a socket that nothing is known about.
type noSocket struct{}

var _ syscall.RawConn = noSocket{}

func (noSocket) Control(func(fd uintptr)) error    { return errors.ErrUnsupported }
func (noSocket) Read(func(fd uintptr) bool) error  { return nil }
func (noSocket) Write(func(fd uintptr) bool) error { return errors.ErrUnsupported }
