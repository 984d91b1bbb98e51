package notification

import (
	"errors"
	"net"
	"time"
)

// portion is how many events are read from the journal at once. Events may be so large that fewer have to do: a reply
// that does not arrive in the time the client waits would not do so the next time either.
type portion struct{ size, full int }

func newPortion(full int) portion { return portion{size: full, full: full} }

// failed makes the portion smaller after an error if that may help, and reports whether it did.
func (p *portion) failed(err error) (smaller bool) {
	if !timedOut(err) || p.size == 1 {
		return false
	}
	p.size = max(1, p.size/4)
	return true
}

// arrived makes the portion larger again: slowly, since where events are large each attempt at too many takes long.
func (p *portion) arrived() { p.size = min(p.size+p.size/8+1, p.full) }

func timedOut(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

// smallest is how many events a reply has at least room for: what is known already, and one behind it.
const smallest = 2

// patience is how long a reply that is as small as can be was waited for. It may have an event in it that is too large for
// the time that the client waits, and then it never comes.
type patience struct {
	limit  time.Duration
	at     position // where it begins
	waited time.Duration
}

// after returns the error of an attempt to read so many events, from a place on, that took so long: an unreadableError once
// that has been enough.
func (p *patience) after(err error, from position, count int, took time.Duration) error {
	if p == nil || count > smallest || !timedOut(err) {
		return err
	}
	if p.at != from {
		p.at, p.waited = from, 0
	}
	if p.waited += took; p.waited < p.limit {
		return err
	}
	return unreadableError{err}
}

// unreadableError is that of a part of the journal which does not arrive, however often it is asked for.
type unreadableError struct{ error }

func (e unreadableError) Unwrap() error { return e.error }
