package client

import (
	"bytes"
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// A server that does not want a connection says why and closes it, without waiting for a
// request: it is in protected mode, or has as many clients as it may have. go-redis writes
// first, and may then find the connection broken, or takes those words for the reply to its
// HELLO, sends another command and finds the connection broken then. Either way its error
// would say no more than EOF or "broken pipe". So the words are kept, and are the reply to
// whatever is sent on such a connection. Nothing that is has been executed.

// greetingTime is how long such words are looked for once the connection is known to be broken:
// they have arrived before that was known.
const greetingTime = 100 * time.Millisecond

// maxGreeting is how much is kept of them; Redis' longest have some 900 bytes.
const maxGreeting = 2048

// greeting is what a server says before it closes a connection that it does not want.
type greeting struct {
	// over is set once the first reply is known to be something else.
	over atomic.Bool

	mu   sync.Mutex // protects said
	said []byte     // so far; complete with a line break at its end
}

// isUnwanted reports whether said is how Redis begins to turn a connection away, or the
// beginning of that.
func isUnwanted(said []byte) bool {
	for _, start := range []string{"-DENIED ", "-ERR max number of clients "} {
		n := min(len(said), len(start))
		if string(said[:n]) == start[:n] {
			return true
		}
	}
	return false
}

// hear takes what arrived on the connection.
func (g *greeting) hear(b []byte) {
	if g.over.Load() || len(b) == 0 {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.said = append(g.said, b[:min(len(b), maxGreeting-len(g.said))]...)
	if !isUnwanted(g.said) {
		g.said = nil
		g.over.Store(true)
	}
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

// repeated returns the greeting in place of what could not be read as err says: the
// connection is at its end.
func (c *watchedConn) repeated(b []byte, err error) (int, bool) {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return 0, false
	}
	n := copy(b, c.greeting.words())
	return n, n > 0
}
