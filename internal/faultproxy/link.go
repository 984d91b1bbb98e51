package faultproxy

import (
	"bytes"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const (
	chunkSize = 32 << 10
	// shortWait is up to where a delay must be more exact than Go's timers are: a process that is idle otherwise
	// waits for them in whole milliseconds, which makes 2.2 ms of a link of 1 ms. A cut waits for so long as well.
	shortWait = 2 * time.Millisecond
)

// link is one client's connection and the one made for it to the target.
type link struct {
	proxy  *Proxy
	client net.Conn

	mu     sync.Mutex // protects server against a cut while it is dialled
	server net.Conn

	once       sync.Once
	done       chan struct{} // closed by cut
	clientGone atomic.Bool
	// handshake says that what the client sent last sets up the connection.
	handshake atomic.Bool
	// hold is what keeps back the client's bytes, until it is closed; nil for nothing.
	hold atomic.Pointer[chan struct{}]
}

func newLink(p *Proxy, client net.Conn) *link {
	return &link{proxy: p, client: client, done: make(chan struct{})}
}

// run forwards in both directions until both have ended or the link is cut.
func (l *link) run() {
	// However this ends, nothing stays open.
	defer l.cut()
	dialer := net.Dialer{Timeout: dialLimit}
	server, err := dialer.DialContext(l.proxy.ctx, "tcp", l.proxy.target)
	if err != nil || !l.attach(server) {
		return
	}
	requests, replies := newQueue(), newQueue()
	var tasks sync.WaitGroup
	tasks.Go(func() { l.read(l.client, toServer, requests) })
	tasks.Go(func() { l.write(server, toServer, requests) })
	tasks.Go(func() { l.read(server, toClient, replies) })
	tasks.Go(func() { l.write(l.client, toClient, replies) })
	tasks.Wait()
	l.finish()
}

// attach takes over the connection to the server, unless the link has been cut
// while it was dialled.
func (l *link) attach(server net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.done:
		abort(server)
		return false
	default:
		l.server = server
		return true
	}
}

// cut breaks both connections and ends all of the link's goroutines.
func (l *link) cut() { l.end(abort) }

// finish closes both connections in the orderly way after both directions have
// ended: what was written last may still be in the kernel's hands.
func (l *link) finish() { l.end(func(c net.Conn) { _ = c.Close() }) }

// end closes both connections as told, unless that has happened already.
func (l *link) end(closing func(net.Conn)) {
	l.once.Do(func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		close(l.done)
		l.clientGone.Store(true)
		closing(l.client)
		if l.server != nil {
			closing(l.server)
		}
	})
}

// abort closes a connection with a reset: unlike an orderly close it does not
// wait for, or deliver, what has been written.
func abort(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = c.Close()
}

// read puts what arrives into the queue, each chunk with what it is to wait for
// before it leaves. Reading never waits for that: this is what keeps latency
// from limiting throughput.
func (l *link) read(from net.Conn, d direction, q *queue) {
	buffer := make([]byte, chunkSize)
	for {
		n, err := from.Read(buffer)
		due, held := time.Now().Add(time.Duration(l.proxy.latency.Load())), l.held(d)
		if n > 0 {
			data := bytes.Clone(buffer[:n])
			switch {
			case d == toServer:
				l.proxy.requests.Add(1)
				l.handshake.Store(isHandshake(data))
			case !l.handshake.Load() && l.proxy.takeDrop():
				l.cut()
				return
			}
			if !q.put(chunk{data: data, due: due, held: held}, l.done) {
				return
			}
		}
		if err != nil {
			if d == toServer {
				l.clientGone.Store(true)
			}
			q.put(chunk{due: due, held: held}, l.done) // the end travels like data
			return
		}
	}
}

// held returns what keeps back the bytes of a direction that arrive now.
func (l *link) held(d direction) <-chan struct{} {
	if hold := l.hold.Load(); d == toServer && hold != nil {
		return *hold
	}
	return nil
}

// write takes chunks out of the queue when they are due.
func (l *link) write(to net.Conn, d direction, q *queue) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		next, ok := q.take(l.done)
		if !ok {
			return
		}
		if next.held != nil {
			select {
			case <-next.held:
			case <-l.done:
				return
			}
		}
		if wait := time.Until(next.due); wait > 0 && wait <= shortWait {
			sleepUntil(next.due)
		} else if wait > shortWait {
			timer.Reset(wait)
			select {
			case <-timer.C:
			case <-l.done:
				return
			}
		}
		swallow, changed := l.proxy.swallowing(d)
		if next.data == nil {
			if l.mayEnd(d, swallow, changed) {
				l.passEnd(to)
			}
			return
		}
		if swallow {
			continue
		}
		if _, err := to.Write(next.data); err != nil {
			l.cut()
			return
		}
	}
}

// mayEnd waits until the end of a direction may be passed on: while bytes are
// swallowed the other side must not even learn that there will be none. It
// returns false if the link is cut instead.
func (l *link) mayEnd(d direction, swallow bool, changed <-chan struct{}) bool {
	for swallow {
		select {
		case <-changed:
			swallow, changed = l.proxy.swallowing(d)
		case <-l.done:
			return false
		}
	}
	return true
}

// passEnd passes on that nothing more will come. The other direction stays open.
func (l *link) passEnd(to net.Conn) {
	if tcp, ok := to.(*net.TCPConn); ok && tcp.CloseWrite() == nil {
		return
	}
	l.cut()
}

// isHandshake reports whether a chunk of requests begins with a command that
// clients send on a new connection only.
func isHandshake(data []byte) bool {
	// "*2\r\n$5\r\nHELLO\r\n…": the name is the third line.
	lines := bytes.SplitN(data, []byte("\r\n"), 4)
	if len(lines) < 4 || !bytes.HasPrefix(data, []byte("*")) {
		return false
	}
	for _, name := range []string{"hello", "auth", "select", "client", "readonly"} {
		if bytes.EqualFold(lines[2], []byte(name)) {
			return true
		}
	}
	return false
}
