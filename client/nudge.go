package client

import (
	"errors"
	"os"
	"sync"
	"time"
)

const (
	// nudgeTime is for how long a subscription that was nudged asks for its message before it sleeps again.
	nudgeTime = 50 * time.Microsecond
	// vainNudges in a row, and a subscription is left in peace, but for every one in nudgePause.
	vainNudges = 4
	nudgePause = trialPause
)

// nudge is what wakes the reader of a subscription when the reply to a command of the same process has come.
//
// Redis sends a reply, and right after that, on another connection, the message if the command was a publish. For that a
// thread of ours sleeps, which Linux wakes on the processor that Redis runs on, and who has waited for the message goes on
// there: with its next command it competes with Redis, and often the other processor is idle meanwhile. If the goroutine
// that has the reply nudges the reader, that runs next on this goroutine's processor, as soon as it waits for the
// message, say. (On two processors a tenth less from publish to receive.)
//
// It interrupts the wait by a deadline that is over, the only way to wake who waits for a connection. The guarded state
// sees to it that nobody notices.
type nudge struct {
	mu       sync.Mutex // guards what follows
	waits    bool       // the reader sleeps, or is about to
	given    bool       // the deadline is ours
	looks    bool       // the reader was nudged, and has not found anything yet
	deadline time.Time  // what the connection's user wants it to be
	vain     int        // nudges in a row that brought nothing
	skipped  int        // that were not given since
}

// nudge wakes the reader if it waits for what nobody has asked for, and if that is worth it.
func (c *polled) nudge() {
	n := &c.nudged
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.waits || n.given {
		return
	}
	if n.vain >= vainNudges {
		if n.skipped++; n.skipped < nudgePause {
			return
		}
		n.skipped = 0
	}
	longAgo := time.Unix(1, 0)
	n.given = c.stream.SetReadDeadline(longAgo) == nil
}

// sleep notes that the reader is about to, if it waits for what nobody has asked for.
func (c *polled) sleep() {
	if !c.unasked {
		return
	}
	c.polling.listener.Store(c) // first, so that who waits is found
	n := &c.nudged
	n.mu.Lock()
	defer n.mu.Unlock()
	n.waits = true
	if n.looks {
		n.looks = false
		n.vain++
	}
}

// awoken reports whether the reader was interrupted by a nudge, given what its wait has ended with.
func (c *polled) awoken(err error) bool {
	n := &c.nudged
	n.mu.Lock()
	defer n.mu.Unlock()
	n.waits = false
	if n.looks {
		n.looks = false
		n.vain = 0
	}
	if !n.given {
		return false
	}
	n.given = false
	restored := c.stream.SetReadDeadline(n.deadline)
	n.looks = restored == nil && errors.Is(err, os.ErrDeadlineExceeded)
	return n.looks
}

// SetReadDeadline implements net.Conn.
func (c *polled) SetReadDeadline(t time.Time) error {
	return c.setDeadline(t, c.stream.SetReadDeadline)
}

// SetDeadline implements net.Conn.
func (c *polled) SetDeadline(t time.Time) error { return c.setDeadline(t, c.stream.SetDeadline) }

func (c *polled) setDeadline(t time.Time, set func(time.Time) error) error {
	c.nudged.mu.Lock()
	defer c.nudged.mu.Unlock()
	c.nudged.deadline, c.nudged.given = t, false // ours is replaced
	return set(t)
}
