package client

import (
	"errors"
	"net"
	"os"
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

// longestPatience bounds the time from which on a missing answer means something. What
// gives up sooner, because the context of its caller ended, proves nothing.
const longestPatience = 500 * time.Millisecond

// errReplace keeps go-redis from using a connection. It does not pass it on.
var errReplace = errors.New("client: the connection is to be replaced")

// peers are the servers at the addresses that a dialer was given.
type peers struct {
	start    time.Time // times are durations since, which fit an atomic
	patience time.Duration
	// replaced is when all connections there were became outdated; 0 if none has.
	replaced atomic.Int64

	mu     sync.Mutex // protects byAddr
	byAddr map[string]*peer
}

// peer is one of them.
type peer struct {
	*peers
	// silent is when the latest request was sent that got no answer; 0 if all did.
	silent atomic.Int64
}

// newPeers derives the patience from the read timeout. Half of it is used, because
// go-redis measures that with a clock that ticks in steps.
func newPeers(readTimeout time.Duration) *peers {
	p := &peers{start: time.Now(), patience: longestPatience, byAddr: make(map[string]*peer)}
	if readTimeout > 0 {
		p.patience = min(readTimeout/2, longestPatience)
	}
	return p
}

// now is never 0.
func (p *peers) now() int64 { return max(1, int64(time.Since(p.start))) }

// watch returns a connection to addr that takes part in the above.
func (p *peers) watch(conn net.Conn, addr string) net.Conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.byAddr[addr] == nil {
		p.byAddr[addr] = &peer{peers: p}
	}
	w := &watchedConn{Conn: conn, peer: p.byAddr[addr], opened: p.now()}
	w.raw, _ = conn.(syscall.Conn)
	w.heard.Store(w.opened)
	return w
}

// replaceAll keeps the connections that are open now from being used again.
func (p *peers) replaceAll() { p.replaced.Store(p.now()) }

// wentSilent notes that a request sent at the given time was not answered.
func (p *peer) wentSilent(at int64) {
	for {
		known := p.silent.Load()
		if known >= at || p.silent.CompareAndSwap(known, at) {
			return
		}
	}
}

// watchedConn notes when requests are sent, and which were answered.
type watchedConn struct {
	net.Conn
	peer   *peer
	raw    syscall.Conn // Conn, or nil if it is no such
	opened int64
	// asked is when the first request was sent that has no answer yet; 0 if there is none.
	asked atomic.Int64
	// heard is when the latest answered request was sent; at first, when the
	// connection was opened.
	heard atomic.Int64
}

// Write sends a request, or part of one.
func (c *watchedConn) Write(b []byte) (int, error) {
	if c.asked.Load() == 0 {
		c.asked.Store(c.peer.now())
	}
	n, err := c.Conn.Write(b)
	c.check(err)
	return n, err
}

// Read receives an answer, or part of one. What arrives unasked, such as a message of
// a subscription, proves the connection as well but says nothing about when.
func (c *watchedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 {
		if asked := c.asked.Swap(0); asked != 0 {
			c.heard.Store(asked)
		}
	}
	c.check(err)
	return n, err
}

// check notes a request that was given up after a fair time.
func (c *watchedConn) check(err error) {
	if err == nil || !errors.Is(err, os.ErrDeadlineExceeded) {
		return
	}
	asked := c.asked.Load()
	if asked != 0 && c.peer.now()-asked >= int64(c.peer.patience) {
		c.peer.wentSilent(asked)
	}
}

// SyscallConn returns errReplace for a connection that should not be used any more, and
// otherwise lets go-redis look whether the socket is still open. With TLS, or with a
// Dialer that returns something else than a socket, there is nothing to look at.
func (c *watchedConn) SyscallConn() (syscall.RawConn, error) {
	switch {
	case c.heard.Load() < c.peer.silent.Load(), c.opened < c.peer.replaced.Load():
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
