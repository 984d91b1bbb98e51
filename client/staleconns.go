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
// Therefore one request that got no answer in time makes all connections to the same address
// suspect. A suspect connection is used again only if it has answered a request that was sent
// later. In detail:
//
//   - Each connection has pendingSince, when its first request without an answer yet was sent,
//     and lastAnswered, when its latest answered request was sent.
//   - When a read times out, its pendingSince becomes the address' lastUnanswered.
//   - A connection whose lastAnswered is before lastUnanswered is replaced.
//
// Before go-redis uses a connection of the pool, it looks at its socket through SyscallConn.
// An error there makes it close the connection and take or open another one.
//
// Only a read that had the configured read timeout counts. One with another deadline belongs to
// a context or to a command with a timeout of its own, such as a BLPOP that waits for a second:
// that no answer came is what it waited for.
//
// A health check asks what every server answers at once, so a check without an answer proves as
// much, in less time: see server.unanswered.

// clockStep is how far from the read timeout a deadline may be that was derived from it,
// a moment before it is set.
const clockStep = 10 * time.Millisecond

// errReplace keeps go-redis from using a connection. It does not pass it on.
var errReplace = errors.New("client: the connection is to be replaced")

// peers are the servers at the addresses that a dialer was given.
type peers struct {
	start       time.Time     // times are durations since, which fit an atomic
	readTimeout time.Duration // none if it is not above 0
	// replaceBefore: connections that were opened before are replaced.
	replaceBefore atomic.Int64

	mu sync.Mutex
	at map[string]*peer // by address
}

// peer is what is known of an address. Its times are 0 if there was no such request.
type peer struct {
	// lastUnanswered is when the latest request was sent that got no answer in time.
	lastUnanswered atomic.Int64
	// lastGivenUp is the same, whatever time there was for the answer.
	lastGivenUp atomic.Int64
}

// newPeers returns no peers yet, whose clients have this read timeout.
func newPeers(readTimeout time.Duration) *peers {
	return &peers{start: time.Now(), readTimeout: readTimeout, at: make(map[string]*peer)}
}

// now is never 0.
func (p *peers) now() int64 { return max(1, int64(time.Since(p.start))) }

// watch returns conn, which leads to addr, as a watchedConn that ends with done.
func (p *peers) watch(done context.Context, conn net.Conn, addr string) net.Conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.at[addr] == nil {
		p.at[addr] = new(peer)
	}
	c := &watchedConn{Conn: conn, peers: p, peer: p.at[addr], opened: p.now()}
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
			at.lastUnanswered.Store(max(at.lastUnanswered.Load(), began))
		}
	}
}

// replaceAll keeps the connections that are open now from being used again.
func (p *peers) replaceAll() { p.replaceBefore.Store(p.now()) }

// watchedConn notes when requests are sent, and which were answered.
type watchedConn struct {
	net.Conn
	peers  *peers
	peer   *peer        // its address
	raw    syscall.Conn // Conn, or nil if it is no such
	opened int64
	// greeting is what the server has said, if it does not want the connection.
	greeting greeting
	// usesReadTimeout is set while the deadline for reads is that of the read timeout.
	usesReadTimeout atomic.Bool
	// pendingSince is when the first request was sent that has no answer yet; 0 if there is none.
	pendingSince atomic.Int64
	// lastAnswered is when the latest answered request was sent; at first, when the
	// connection was opened.
	lastAnswered atomic.Int64
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
	if c.pendingSince.Load() == 0 {
		c.pendingSince.Store(c.peers.now())
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
	c.usesReadTimeout.Store(limit > 0 && !t.IsZero() && (time.Until(t)-limit).Abs() <= min(clockStep, limit/10))
	return c.Conn.SetReadDeadline(t)
}

// Read receives an answer, or part of one. What arrives unasked, such as a message of
// a subscription, shows that the connection works but answers no request.
func (c *watchedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.greeting.hear(b[:n])
	if n == 0 && err != nil {
		if n, ok := c.repeated(b, err); ok {
			return n, nil
		}
	}
	if n > 0 {
		if sent := c.pendingSince.Swap(0); sent != 0 {
			c.lastAnswered.Store(sent)
		}
	}
	if err != nil && errors.Is(err, os.ErrDeadlineExceeded) {
		// Of two at the same moment the earlier may win: a connection that answered in
		// between then costs one more time-out.
		sent := c.pendingSince.Load()
		c.peer.lastGivenUp.Store(max(c.peer.lastGivenUp.Load(), sent))
		if c.usesReadTimeout.Load() {
			c.peer.lastUnanswered.Store(max(c.peer.lastUnanswered.Load(), sent))
		}
	}
	return n, err
}

// SyscallConn returns errReplace for a connection that should not be used any more, and
// otherwise lets go-redis look whether the socket is still open. With TLS, or with a
// Dialer that returns something else than a socket, there is nothing to look at.
func (c *watchedConn) SyscallConn() (syscall.RawConn, error) {
	switch {
	case c.lastAnswered.Load() < c.peer.lastUnanswered.Load(), c.opened < c.peers.replaceBefore.Load():
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
