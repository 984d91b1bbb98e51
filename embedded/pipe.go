package embedded

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// maxUnread bounds what one side may have written that the other has not read.
// Redis closes the connection of a subscriber at this point by default; so do we.
const maxUnread = 32 << 20

// maxIdle is what an idle direction of a connection may keep allocated.
const maxIdle = 64 << 10

var errUnread = errors.New("embedded: connection closed because its other end does not read")

// newPipe returns the two ends of a connection in memory. Other than those of
// net.Pipe, its writes do not wait for a reader: a client that sends a pipeline
// of commands reads no answer before it has sent the last, and the server reads
// no command before its answer to the previous one is written, so both would
// wait for ever.
//
// It blocks in sync.Cond only, which a testing/synctest bubble counts as idle.
func newPipe() (near, far *conn) {
	a, b := newStream(), newStream()
	return &conn{in: a, out: b}, &conn{in: b, out: a}
}

// conn is one end of a pipe.
type conn struct {
	in, out *stream
	onClose func() // set before use, or nil
}

var _ net.Conn = (*conn)(nil)

func (c *conn) Read(p []byte) (int, error) { return c.in.read(p) }

// Write does not wait. When the other end leaves too much unread it closes the
// connection.
func (c *conn) Write(p []byte) (int, error) {
	n, err := c.out.write(p)
	if errors.Is(err, errUnread) {
		_ = c.Close()
	}
	return n, err
}

// Close lets the other end read what has been written, then io.EOF. What it
// writes from now on fails.
func (c *conn) Close() error {
	c.in.close(io.ErrClosedPipe)
	c.out.close(io.EOF)
	if c.onClose != nil {
		c.onClose()
	}
	return nil
}

func (c *conn) LocalAddr() net.Addr  { return pipeAddr{} }
func (c *conn) RemoteAddr() net.Addr { return pipeAddr{} }

func (c *conn) SetDeadline(t time.Time) error {
	c.in.setDeadline(t)
	return nil
}

func (c *conn) SetReadDeadline(t time.Time) error { return c.SetDeadline(t) }

// SetWriteDeadline does nothing, because writes never wait.
func (c *conn) SetWriteDeadline(time.Time) error { return nil }

// pipeAddr is the address of both ends.
type pipeAddr struct{}

func (pipeAddr) Network() string { return "pipe" }
func (pipeAddr) String() string  { return "embedded" }

// stream is one direction of a pipe.
type stream struct {
	mu       sync.Mutex // guards what follows
	changed  *sync.Cond // with mu; signals a change of any of it
	buf      []byte
	off      int   // buf[off:] is unread
	closed   error // nil while open; what the reader gets once all is read
	deadline time.Time
	alarm    *time.Timer // wakes a reader at the deadline
}

func newStream() *stream {
	s := &stream{}
	s.changed = sync.NewCond(&s.mu)
	return s
}

func (s *stream) read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case errors.Is(s.closed, io.ErrClosedPipe): // closed by the reader itself
			return 0, s.closed
		case !s.deadline.IsZero() && !time.Now().Before(s.deadline):
			return 0, os.ErrDeadlineExceeded
		case s.off < len(s.buf) || len(p) == 0:
			n := copy(p, s.buf[s.off:])
			s.off += n
			if s.off == len(s.buf) {
				s.reset()
			}
			return n, nil
		case s.closed != nil:
			return 0, s.closed
		}
		s.changed.Wait()
	}
}

func (s *stream) write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed != nil {
		return 0, io.ErrClosedPipe
	}
	if len(s.buf)-s.off+len(p) > maxUnread {
		s.closed = errUnread
		s.reset()
		s.changed.Broadcast()
		return 0, errUnread
	}
	s.buf = append(s.buf, p...)
	s.changed.Broadcast()
	return len(p), nil
}

// reset forgets what is unread and keeps the memory, unless a burst made it
// large. s.mu is held.
func (s *stream) reset() {
	s.buf, s.off = s.buf[:0], 0
	if cap(s.buf) > maxIdle {
		s.buf = nil
	}
}

// close ends the stream; reason is what its reader gets. The reader's own close
// wins over the writer's.
func (s *stream) close(reason error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed == nil || errors.Is(reason, io.ErrClosedPipe) {
		s.closed = reason
	}
	if errors.Is(reason, io.ErrClosedPipe) {
		s.reset()
	}
	if s.alarm != nil {
		s.alarm.Stop()
	}
	s.changed.Broadcast()
}

func (s *stream) setDeadline(t time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deadline = t
	if s.alarm != nil {
		s.alarm.Stop()
	}
	if !t.IsZero() && s.closed == nil {
		// One timer for the life of the stream: a client sets a deadline for
		// every command.
		if s.alarm == nil {
			s.alarm = time.AfterFunc(time.Until(t), s.wake)
		} else {
			s.alarm.Reset(time.Until(t))
		}
	}
	s.changed.Broadcast()
}

func (s *stream) wake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changed.Broadcast()
}
