package faultproxy

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// dialLimit is how long the proxy tries to reach the target.
const dialLimit = 5 * time.Second

// TB is what the proxy needs of a test. Every testing.TB is one; a program that
// is not a test can bring its own.
type TB interface {
	// Helper marks the caller as a test helper.
	Helper()
	// Cleanup registers a function to be run at the end.
	Cleanup(f func())
	// Fatalf records a failure and ends the test; it does not return.
	Fatalf(format string, args ...any)
}

// Proxy forwards connections to a target until the test ends.
type Proxy struct {
	target   string
	listener net.Listener
	// ctx ends with the test and with it dialling to the target.
	ctx    context.Context
	cancel context.CancelFunc
	tasks  sync.WaitGroup

	latency  atomic.Int64 // one way, nanoseconds
	accepted atomic.Int64
	requests atomic.Int64

	mu      sync.Mutex // protects what follows
	links   map[*link]struct{}
	refuse  bool
	toDrop  int // replies to be lost
	swallow [directions]bool
	// changed is closed and replaced when swallowing is switched off.
	changed chan struct{}
	closed  bool
}

// direction tells the two halves of a connection apart.
type direction int

const (
	toServer direction = iota
	toClient
	directions
)

// New starts a proxy for target, a host and port, on a free port of the
// loopback interface. When the test ends all connections are cut, and all of
// the proxy's goroutines have returned. The target is dialled anew for each
// connection, so that it need not be up yet.
func New(t TB, target string) *Proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("faultproxy: listen: %v", err)
	}
	p := &Proxy{
		target:   target,
		listener: listener,
		links:    make(map[*link]struct{}),
		changed:  make(chan struct{}),
	}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.tasks.Go(p.accept)
	t.Cleanup(p.close)
	return p
}

// Addr returns host and port for clients to connect to.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// SetLatency delays everything by the given time in each direction; a round
// trip takes twice as long. It applies to what arrives from now on, and order
// is kept. The default is 0, no delay.
func (p *Proxy) SetLatency(oneWay time.Duration) { p.latency.Store(int64(oneWay)) }

// HoldToServer keeps back what clients send from now on over the connections
// that they have, until let is called, which may be called again. What they send
// over new connections overtakes it, as when the kernel delivers late what a
// closed connection has left.
func (p *Proxy) HoldToServer() (let func()) {
	hold := make(chan struct{})
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		l.hold.Store(&hold)
	}
	return sync.OnceFunc(func() { close(hold) })
}

// DialUndelayed is a dialer for clients that ends the latency before it connects.
// What a client has sent on a connection that it gave up is then overtaken by what
// it sends on the next, as when the kernel delivers late what a closed connection
// has left.
func (p *Proxy) DialUndelayed(ctx context.Context, network, addr string) (net.Conn, error) {
	p.SetLatency(0)
	return new(net.Dialer).DialContext(ctx, network, addr)
}

// Cut breaks all live connections at once, on both sides, with what is under
// way in them. New ones are accepted.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		l.cut()
	}
}

// Refuse switches refusal on or off, off by default. While it is on, new
// connections break as soon as they are made, without asking the target; live
// ones are left alone.
func (p *Proxy) Refuse(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refuse = on
}

// SwallowToServer switches swallowing on or off, off by default. While it is
// on, all bytes from clients vanish, those under way included, and connections
// stay open: the server hears nothing, not even that a client has gone.
// Afterwards bytes pass again; what has vanished stays lost.
func (p *Proxy) SwallowToServer(on bool) { p.setSwallow(toServer, on) }

// SwallowToClient is SwallowToServer for the other direction: clients hear
// nothing.
func (p *Proxy) SwallowToClient(on bool) { p.setSwallow(toClient, on) }

func (p *Proxy) setSwallow(d direction, on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.swallow[d] = on
	if !on {
		close(p.changed)
		p.changed = make(chan struct{})
	}
}

// swallowing reports whether bytes of a direction vanish, and returns a channel
// that is closed when that may have changed.
func (p *Proxy) swallowing(d direction) (bool, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.swallow[d], p.changed
}

// DropReplies loses the next n chunks that the server sends to any client: the
// server has done what it was asked to, the client is not told, and its
// connection is cut. With n above 1 the reply to a client's retry is lost too,
// and so on. What a client sends to set up a new connection (HELLO, AUTH,
// SELECT, CLIENT, READONLY) is answered, as the retry would not get through
// otherwise. DropReplies(0) cancels.
func (p *Proxy) DropReplies(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.toDrop = n
}

// takeDrop reports whether a reply is to be lost, and counts it.
func (p *Proxy) takeDrop() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.toDrop <= 0 {
		return false
	}
	p.toDrop--
	return true
}

// Connections returns the number of connections that clients have open.
func (p *Proxy) Connections() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	open := 0
	for l := range p.links {
		if !l.clientGone.Load() {
			open++
		}
	}
	return open
}

// Accepted returns the number of connections that clients have made so far,
// refused ones included.
func (p *Proxy) Accepted() int { return int(p.accepted.Load()) }

// Requests returns the number of pieces in which clients have sent data so far. What a client writes at once is one piece
// if it is not larger than 32 KB, be it a command or a pipeline, so that a client that waits for each reply takes as many
// round trips. The commands that set up a connection are in it.
func (p *Proxy) Requests() int { return int(p.requests.Load()) }

// accept runs until the listener is closed.
func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.accepted.Add(1)
		l := newLink(p, client)
		if !p.add(l) {
			l.cut()
			continue
		}
		p.tasks.Go(func() {
			defer p.remove(l)
			l.run()
		})
	}
}

// add registers a connection unless it is not wanted.
func (p *Proxy) add(l *link) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.refuse {
		return false
	}
	p.links[l] = struct{}{}
	return true
}

func (p *Proxy) remove(l *link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.links, l)
}

// close ends everything and waits for it.
func (p *Proxy) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	_ = p.listener.Close()
	p.cancel()
	p.Cut()
	p.tasks.Wait()
}
