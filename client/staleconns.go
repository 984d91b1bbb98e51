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

// A firewall or NAT that restarts forgets all connections at once: what is sent on
// them vanishes, while new ones work. Each of the connections in the pool would cost a
// command its read timeout and one of its retries, until the pool was through.
//
// Therefore one request without an answer is enough to distrust every idle connection
// to the same server that has not answered a later request. go-redis closes a
// distrusted connection when it is about to use it, and opens a new one: it looks at
// each connection of the pool before use, through SyscallConn.

// Only a read that had the configured read timeout proves anything. One that ended sooner
// or later has a context or a command with a time-out of its own, such as a BLPOP that
// waits for a second: that no answer came is what it waited for.
//
// A health check asks what every server answers at once, so a check without an answer
// proves as much, in whatever time it had: see server.unanswered.

// clockStep is how far from the read timeout a deadline may be that was derived from it,
// a moment before it is set.
const clockStep = 10 * time.Millisecond

// errReplace keeps go-redis from using a connection. It does not pass it on.
var errReplace = errors.New("client: the connection is to be replaced")

// peers are the servers at the addresses that a dialer was given.
type peers struct {
	start       time.Time     // times are durations since, which fit an atomic
	readTimeout time.Duration // none if it is not above 0
	// replaced is when all connections there were became outdated; 0 if none has.
	replaced atomic.Int64

	mu sync.Mutex
	at map[string]*peer // by address
}

// peer is a server. Its times are 0 if there was no such request.
type peer struct {
	// silent is when the latest request was sent that got no answer although it should have.
	silent atomic.Int64
	// lapsed is when the latest request was sent whose answer was given up, for whatever reason.
	lapsed atomic.Int64
}

// newPeers returns no peers yet, whose clients have this read timeout.
func newPeers(readTimeout time.Duration) *peers {
	return &peers{start: time.Now(), readTimeout: readTimeout, at: make(map[string]*peer)}
}

// now is never 0.
func (p *peers) now() int64 { return max(1, int64(time.Since(p.start))) }

// watch returns conn, which leads to addr, as one that takes part in the above and ends
// with done.
func (p *peers) watch(done context.Context, conn net.Conn, addr string) net.Conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.at[addr] == nil {
		p.at[addr] = new(peer)
	}
	c := &watchedConn{Conn: conn, peers: p, peer: p.at[addr], opened: p.now()}
	c.raw, _ = conn.(syscall.Conn)
	c.heard.Store(c.opened)
	c.release = context.AfterFunc(done, func() { _ = conn.Close() })
	return c
}

// distrust keeps connections that have answered no request sent since began from being used
// again. It does so where a request sent since got no answer, or everywhere if any got none.
func (p *peers) distrust(began int64, everywhere bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	lapsed := func(at *peer) bool { return at.lapsed.Load() >= began }
	everywhere = everywhere && slices.ContainsFunc(slices.Collect(maps.Values(p.at)), lapsed)
	for _, at := range p.at {
		if everywhere || lapsed(at) {
			at.silent.Store(max(at.silent.Load(), began))
		}
	}
}

// replaceAll keeps the connections that are open now from being used again.
func (p *peers) replaceAll() { p.replaced.Store(p.now()) }

// watchedConn notes when requests are sent, and which were answered.
type watchedConn struct {
	net.Conn
	peers  *peers
	peer   *peer        // of its address
	raw    syscall.Conn // Conn, or nil if it is no such
	opened int64
	// greeting is what the server has said, if it does not want the connection.
	greeting greeting
	// fair is set while the deadline for reads is that of the read timeout.
	fair atomic.Bool
	// asked is when the first request was sent that has no answer yet; 0 if there is none.
	asked atomic.Int64
	// heard is when the latest answered request was sent; at first, when the
	// connection was opened.
	heard atomic.Int64
	// release forgets done, and returns false if that has ended the connection.
	release func() bool
}

// Close closes the connection. It may be repeated.
func (c *watchedConn) Close() error {
	if !c.release() {
		_ = c.Conn.Close() // a TLS connection would complain that it is closed
		return nil
	}
	return c.Conn.Close()
}

// Write sends a request, or part of one.
func (c *watchedConn) Write(b []byte) (int, error) {
	if c.asked.Load() == 0 {
		c.asked.Store(c.peers.now())
	}
	n, err := c.Conn.Write(b)
	if err != nil && c.unwanted() {
		return len(b), nil // Read returns why
	}
	return n, err
}

// SetReadDeadline is called by go-redis before each reply that it reads.
func (c *watchedConn) SetReadDeadline(t time.Time) error {
	limit := c.peers.readTimeout
	c.fair.Store(limit > 0 && !t.IsZero() && (time.Until(t)-limit).Abs() <= min(clockStep, limit/10))
	return c.Conn.SetReadDeadline(t)
}

// Read receives an answer, or part of one. What arrives unasked, such as a message of
// a subscription, proves the connection as well but says nothing about when.
func (c *watchedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.greeting.hear(b[:n])
	if n == 0 && err != nil {
		if n, ok := c.repeated(b, err); ok {
			return n, nil
		}
	}
	if n > 0 {
		if asked := c.asked.Swap(0); asked != 0 {
			c.heard.Store(asked)
		}
	}
	if err != nil && errors.Is(err, os.ErrDeadlineExceeded) {
		// Of two at the same moment the earlier may win: a connection that answered in
		// between then costs one more time-out.
		asked := c.asked.Load()
		c.peer.lapsed.Store(max(c.peer.lapsed.Load(), asked))
		if c.fair.Load() {
			c.peer.silent.Store(max(c.peer.silent.Load(), asked))
		}
	}
	return n, err
}

// SyscallConn returns errReplace for a connection that should not be used any more, and
// otherwise lets go-redis look whether the socket is still open. With TLS, or with a
// Dialer that returns something else than a socket, there is nothing to look at.
func (c *watchedConn) SyscallConn() (syscall.RawConn, error) {
	switch {
	case c.heard.Load() < c.peer.silent.Load(), c.opened < c.peers.replaced.Load():
		return nil, errReplace
	case c.raw == nil:
		return noSocket{}, nil
	default:
		return c.raw.SyscallConn()
	}
}

// noSocket stands for a socket that nothing is known about.
type noSocket struct{}

var _ syscall.RawConn = noSocket{}

func (noSocket) Control(func(fd uintptr)) error    { return errors.ErrUnsupported }
func (noSocket) Read(func(fd uintptr) bool) error  { return nil }
func (noSocket) Write(func(fd uintptr) bool) error { return errors.ErrUnsupported }
