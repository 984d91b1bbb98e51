package client

import (
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// yieldTime is for how long a goroutine that polls may keep others from running on its processor, about.
const yieldTime = time.Millisecond

// polling lets a lone command wait for its reply by asking for it again and again, for a moment, before its goroutine
// sleeps. A Redis on the same machine has answered by then, sooner than a thread that sleeps on an idle processor
// is awake again. (Linux does the same for network cards, as "busy polling".) Where that is no gain, as the server is far
// away or all processors are busy, trial finds out.
//
// It is for commands that come one after the other. Where several are under way somebody always has work to do: nobody
// sleeps, and asking would only be in the way.
type polling struct {
	budget time.Duration
	now    func() time.Duration // a clock that nobody sets
	yield  func()               // lets other goroutines run
	// last is the connection on which something was sent last. Who finds itself there sends the second time in a row:
	// a pool gives a caller who is alone the same connection each time.
	last atomic.Pointer[polled]
	// listener is the connection whose reader was the last to wait for what nobody has asked for: a subscription, or until
	// that waits again one whose reply is so large that it comes in parts.
	listener atomic.Pointer[polled]
	trial    trial
}

// newPolling returns what polls for as long as budget.
func newPolling(budget time.Duration) *polling {
	if runtime.GOMAXPROCS(0) == 1 {
		budget = 0 // a Redis on the same processor could not answer meanwhile
	}
	start := time.Now()
	return &polling{budget: budget, now: func() time.Duration { return time.Since(start) }, yield: runtime.Gosched}
}

// wrap makes the replies on a connection be polled for. Only a plain socket can be asked without waiting; any other
// connection is returned as it is.
func (p *polling) wrap(conn net.Conn) net.Conn {
	if !canPoll || p.budget <= 0 {
		return conn
	}
	var s stream
	switch c := conn.(type) { // not an interface: a Read that somebody wrote must be called
	case *net.TCPConn:
		s = c
	case *net.UnixConn:
		s = c
	default:
		return conn
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return conn // closed already
	}
	c := &polled{stream: s, raw: raw, polling: p}
	c.ask = c.receive
	return c
}

// stream is a connection of the operating system.
type stream interface {
	net.Conn
	syscall.Conn
}

// polled is a connection whose replies are polled for.
type polled struct {
	stream

	raw     syscall.RawConn
	polling *polling
	// way is how to wait for the reply to what was written, and sent is when that was, if the trial wants to know.
	way  atomic.Uint32
	sent atomic.Int64

	nudged nudge

	// reading guards what follows. Reads are not made concurrently, but a net.Conn allows it.
	reading sync.Mutex
	ask     func(fd uintptr) bool // receive; kept, as making it for each call would allocate
	budget  time.Duration         // to ask for; 0 is once
	buffer  []byte
	got     received
	unasked bool          // nobody has asked for what is read
	yielded time.Duration // when other goroutines were let run last
}

// received is what asking brought.
type received struct {
	n   int
	err error
}

// Write sends a command, and decides how to wait for its reply.
func (c *polled) Write(b []byte) (int, error) {
	chosen := among
	if c.polling.last.Swap(c) == c {
		var measured bool
		if chosen, measured = c.polling.trial.next(); measured {
			c.sent.Store(int64(c.polling.now()))
		} else {
			c.sent.Store(0)
		}
	}
	c.way.Store(uint32(chosen))
	return c.stream.Write(b)
}

// Read receives. It waits in the usual way if polling is in vain.
func (c *polled) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return c.stream.Read(b)
	}
	c.reading.Lock()
	defer c.reading.Unlock()
	chosen := way(c.way.Swap(uint32(unasked)))
	got := c.read(b, chosen)
	if chosen == unasked {
		// A subscription's reader waits all the time. What it has got now may be the answer to what was sent meanwhile,
		// and nobody knows when the next message comes.
		c.way.Store(uint32(unasked))
		return got.n, got.err
	}
	if sent := time.Duration(c.sent.Load()); chosen != among && sent != 0 && got.err == nil {
		c.polling.trial.took(chosen, c.polling.now()-sent)
	}
	if chosen != awake {
		return got.n, got.err
	}
	if listener := c.polling.listener.Load(); listener != nil {
		listener.nudge()
	}
	// Who always finds its reply by polling would keep its processor until Go takes it away, after 10 ms.
	if now := c.polling.now(); now-c.yielded >= yieldTime {
		c.yielded = now
		c.polling.yield()
	}
	return got.n, got.err
}

// read receives in the chosen way, but never as a net.Conn does, which prepares Go's scheduler for a call that blocks; see
// receiveNow.
func (c *polled) read(b []byte, chosen way) received {
	c.buffer, c.budget, c.unasked = b, 0, chosen == unasked
	if chosen == awake {
		c.budget = c.polling.budget
	}
	err := c.raw.Read(c.ask)
	for c.unasked && c.awoken(err) {
		c.budget = min(nudgeTime, c.polling.budget)
		err = c.raw.Read(c.ask)
	}
	c.buffer = nil
	if err != nil {
		// The connection was closed, or a deadline is over: the usual way says so in the usual words.
		n, err := c.stream.Read(b)
		return received{n, err}
	}
	return c.got
}
