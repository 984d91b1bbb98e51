package client

import (
	"bytes"
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// greetedConn keeps what a server says, without a request, before it closes a connection that
// it does not want: it is in protected mode, or has as many clients as it may have. go-redis
// would find the connection broken when it writes, or take those words for the reply to its
// HELLO and find it broken then, and its error say no more than EOF. So the words are the reply
// to whatever is sent on such a connection. Nothing that is has been executed.
type greetedConn struct {
	net.Conn

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

// Write sends a request. If that fails because the server wants no connection, Read returns
// what it said.
func (c *greetedConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	if err != nil && c.unwanted() {
		return len(b), nil
	}
	return n, err
}

// Read receives an answer, or once the connection is broken what the server said before.
func (c *greetedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.hear(b[:n])
	if n == 0 && err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		if n = copy(b, c.words()); n > 0 {
			return n, nil
		}
	}
	return n, err
}

// hear takes what arrived on the connection.
func (c *greetedConn) hear(b []byte) {
	if c.over.Load() || len(b) == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.said = append(c.said, b[:min(len(b), maxGreeting-len(c.said))]...)
	for _, start := range []string{"-DENIED ", "-ERR max number of clients "} {
		if n := min(len(c.said), len(start)); string(c.said[:n]) == start[:n] {
			return
		}
	}
	c.said = nil
	c.over.Store(true)
}

// words returns the whole greeting, and nothing while the connection may be wanted.
func (c *greetedConn) words() []byte {
	if c.over.Load() {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !bytes.HasSuffix(c.said, []byte("\n")) {
		return nil
	}
	return c.said
}

// unwanted reports whether the server has turned the connection away, where a request could
// not be sent. It reads what has arrived.
func (c *greetedConn) unwanted() bool {
	if c.over.Load() {
		return false
	}
	_ = c.SetReadDeadline(time.Now().Add(greetingTime))
	b := make([]byte, maxGreeting)
	for c.words() == nil {
		n, err := c.Conn.Read(b)
		c.hear(b[:n])
		if err != nil || c.over.Load() {
			break
		}
	}
	return c.words() != nil
}
