package client

import (
	"bytes"
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
// suspect: one of them is used again only if it has answered a request that was sent later.
// Before go-redis uses a connection of the pool, it looks at its socket through SyscallConn.
// An error there makes it close the connection and take or open another one.
//
// Only a read that had the configured read timeout counts. One with another deadline belongs to
// a context or to a command with a timeout of its own, such as a BLPOP that waits for a second:
// that no answer came is what it waited for. A health check asks what every server answers at
// once, so a check without an answer proves as much, in less time: see server.unanswered.

// peers are the servers at the addresses that a dialer was given.
type peers struct {
	start         time.Time     // times are durations since, which fit an atomic
	readTimeout   time.Duration // none if it is not above 0
	replaceBefore atomic.Int64  // connections that were opened before are replaced

	mu sync.Mutex
	at map[string]*peer // by address
}

// peer is when the latest request to an address was sent that got no answer, or 0.
type peer struct {
	lastUnanswered atomic.Int64 // within the read timeout, or that of a health check
	lastGivenUp    atomic.Int64 // within whatever time there was
}

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
			raise(&at.lastUnanswered, began)
		}
	}
}

// raise is not exact: of two at the same moment the earlier may win, and a connection that
// answered in between then costs one more time-out.
func raise(last *atomic.Int64, sent int64) { last.Store(max(last.Load(), sent)) }

// replaceAll keeps the connections that are open now from being used again.
func (p *peers) replaceAll() { p.replaceBefore.Store(p.now()) }

// watchedConn notes when requests are sent, and which were answered.
type watchedConn struct {
	net.Conn
	peers    *peers
	peer     *peer        // its address
	raw      syscall.Conn // Conn, or nil if it is no such
	opened   int64
	greeting greeting
	release  func() bool // forgets done, and returns false if that has ended the connection
	// usesReadTimeout is set while the deadline for reads is that of the read timeout.
	usesReadTimeout atomic.Bool
	// pendingSince is when the first request was sent that has no answer yet, or 0, and
	// lastAnswered when the latest one was that has: at first, when the connection was opened.
	pendingSince, lastAnswered atomic.Int64
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
	// The deadline was derived from the time-out a moment ago.
	c.usesReadTimeout.Store(limit > 0 && !t.IsZero() && (time.Until(t)-limit).Abs() <= min(10*time.Millisecond, limit/10))
	return c.Conn.SetReadDeadline(t)
}

// Read receives an answer, or part of one. What arrives unasked, such as a message of
// a subscription, shows that the connection works but answers no request.
func (c *watchedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.greeting.hear(b[:n])
	late := err != nil && errors.Is(err, os.ErrDeadlineExceeded)
	if n == 0 && err != nil && !late {
		if n = copy(b, c.greeting.words()); n > 0 {
			return n, nil
		}
	}
	if n > 0 {
		if sent := c.pendingSince.Swap(0); sent != 0 {
			c.lastAnswered.Store(sent)
		}
	}
	if late {
		sent := c.pendingSince.Load()
		raise(&c.peer.lastGivenUp, sent)
		if c.usesReadTimeout.Load() {
			raise(&c.peer.lastUnanswered, sent)
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
		return nil, errReplace // which go-redis does not pass on
	case c.raw == nil:
		return noSocket{}, nil
	default:
		return c.raw.SyscallConn()
	}
}

var errReplace = errors.New("client: the connection is to be replaced")

// noSocket stands for a socket that nothing is known about.
type noSocket struct{}

var _ syscall.RawConn = noSocket{}

func (noSocket) Control(func(fd uintptr)) error    { return errors.ErrUnsupported }
func (noSocket) Read(func(fd uintptr) bool) error  { return nil }
func (noSocket) Write(func(fd uintptr) bool) error { return errors.ErrUnsupported }

// greeting is what a server says, without a request, before it closes a connection that it
// does not want: it is in protected mode, or has as many clients as it may have. go-redis would
// find the connection broken when it writes, or take those words for the reply to its HELLO and
// find it broken then, and its error say no more than EOF. So the words are kept, and are the
// reply to whatever is sent on such a connection. Nothing that is has been executed.
type greeting struct {
	over atomic.Bool // the first reply is known to be something else

	mu   sync.Mutex // protects said
	said []byte     // so far; complete with a line break at its end
}

const (
	// maxGreeting is how much is kept; Redis' longest words have some 900 bytes.
	maxGreeting = 2048
	// greetingTime is how long the words are looked for once the connection is known to be
	// broken: they have arrived before that was known.
	greetingTime = 100 * time.Millisecond
)

// hear takes what arrived on the connection.
func (g *greeting) hear(b []byte) {
	if g.over.Load() || len(b) == 0 {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.said = append(g.said, b[:min(len(b), maxGreeting-len(g.said))]...)
	for _, start := range []string{"-DENIED ", "-ERR max number of clients "} {
		if n := min(len(g.said), len(start)); string(g.said[:n]) == start[:n] {
			return
		}
	}
	g.said = nil
	g.over.Store(true)
}

// words returns the whole greeting, and nothing while the connection may be wanted.
func (g *greeting) words() []byte {
	if g.over.Load() {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if !bytes.HasSuffix(g.said, []byte("\n")) {
		return nil
	}
	return g.said
}

// unwanted reports whether the server has turned the connection away, where a request could
// not be sent. It reads what has arrived.
func (c *watchedConn) unwanted() bool {
	if c.greeting.over.Load() {
		return false
	}
	_ = c.Conn.SetReadDeadline(time.Now().Add(greetingTime))
	b := make([]byte, maxGreeting)
	for c.greeting.words() == nil {
		n, err := c.Conn.Read(b)
		c.greeting.hear(b[:n])
		if err != nil || c.greeting.over.Load() {
			break
		}
	}
	return c.greeting.words() != nil
}
