package client

import (
	"net"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"
)

// maxSkip bounds how many replies are not polled for after polling was in vain: where that is always so, a budget is
// lost in a thousand commands.
const maxSkip = 1024

// polling lets a lone command wait for its reply by asking for it again and again, for a moment, before its goroutine
// sleeps. A Redis on the same machine has answered by then, sooner than a thread that sleeps on an idle processor
// is awake again. (Linux does the same for network cards, as "busy polling".)
//
// It is for commands that come one after the other. Where several are under way somebody always has work to do: nobody
// sleeps, and asking would only be in the way.
type polling struct {
	budget time.Duration
	// last is the connection on which something was sent last. Who finds itself there sends the second time in a row:
	// a pool gives a caller who is alone the same connection each time.
	last atomic.Pointer[polled]
}

// newPolling returns what polls for as long as budget.
func newPolling(budget time.Duration) *polling {
	if runtime.GOMAXPROCS(0) == 1 {
		budget = 0 // a Redis on the same processor could not answer meanwhile
	}
	return &polling{budget: budget}
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
	// alone is set while a reply may be polled for.
	alone atomic.Bool

	// reading guards what follows. Reads are not made concurrently, but a net.Conn allows it.
	reading atomic.Bool
	ask     func(fd uintptr) bool // receive; kept, as making it for each call would allocate
	buffer  []byte
	got     received
	skip    int // so many replies are not polled for
	vain    int // how many were in vain, one after the other
}

// received is what asking brought.
type received struct {
	done bool // false: nothing yet
	n    int
	err  error
}

// Write sends a command, and notes whether it is alone.
func (c *polled) Write(b []byte) (int, error) {
	c.alone.Store(c.polling.last.Swap(c) == c)
	return c.stream.Write(b)
}

// Read receives. It waits in the usual way if polling is in vain.
func (c *polled) Read(b []byte) (int, error) {
	if len(b) > 0 && c.alone.Swap(false) && c.reading.CompareAndSwap(false, true) {
		got := c.poll(b)
		c.reading.Store(false)
		if got.done {
			return got.n, got.err
		}
	}
	n, err := c.stream.Read(b)
	// A subscription's reader waits all the time. What it has got now may be the answer to what was sent meanwhile, and
	// nobody knows when the next message comes.
	c.alone.Store(false)
	return n, err
}

// poll asks for at most the budget.
func (c *polled) poll(b []byte) received {
	if c.skip > 0 {
		c.skip--
		return received{}
	}
	c.buffer, c.got = b, received{}
	// An error means that the connection was closed, or a deadline is over: the usual way says so in the usual words.
	_ = c.raw.Read(c.ask)
	c.buffer = nil
	if c.got.done {
		c.vain = 0
	} else {
		c.skip = min(1<<c.vain, maxSkip)
		c.vain = min(c.vain+1, 30)
	}
	return c.got
}
