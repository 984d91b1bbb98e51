//go:build unix

package client

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

// canPoll says that a socket can be asked without waiting.
const canPoll = true

// receive asks the socket until there is something, or the budget is used up. It reports whether there was something, or
// an error: if not, syscall.RawConn waits before it calls again.
func (c *polled) receive(fd uintptr) bool {
	var until time.Time
	for {
		n, err := receiveNow(fd, c.buffer)
		switch {
		case err == nil && n > 0:
			c.got = received{n: n}
			return true
		case err == nil:
			c.got = received{err: io.EOF}
			return true
		case errors.Is(err, syscall.EINTR):
		case !errors.Is(err, syscall.EAGAIN):
			c.got = received{err: &net.OpError{
				Op: "read", Net: c.RemoteAddr().Network(), Source: c.LocalAddr(), Addr: c.RemoteAddr(),
				Err: os.NewSyscallError("read", err),
			}}
			return true
		case c.budget == 0:
			c.sleep()
			return false
		case until.IsZero():
			// Not runtime.Gosched: it would wake another thread of ours, to look for work, at this very moment.
			giveWay()
			until = time.Now().Add(c.budget)
		case time.Now().After(until):
			c.budget = 0
			c.sleep()
			return false
		}
	}
}
