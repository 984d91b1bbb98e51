package notification

import (
	"errors"
	"net"
	"time"

	"github.com/compozy/cache/internal/redisx"
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

// patience is how often, and how long, a reply was waited for in vain. It may have an event in it that is too large for the
// time that the client waits, and then it never comes, however small it is.
type patience struct {
	limit  time.Duration
	at     position // where it begins
	failed int      // attempts
	small  int      // those of them for the smallest one
	waited time.Duration
}

// size returns how many events to ask for at a place, if there is no reason to ask for fewer.
func (p *patience) size(from position, usual int) int {
	if p.at == from && p.failed > 1 {
		return 1 // others may get larger ones meanwhile
	}
	return usual
}

// after returns the error of an attempt to read so many events, from a place on, that took so long: an unreadableError once
// there were enough.
func (p *patience) after(err error, from position, count int, took time.Duration) error {
	if p == nil || !timedOut(err) || redisx.IsUnsent(err) {
		return err
	}
	if p.at != from {
		*p = patience{limit: p.limit, at: from}
	}
	p.failed++
	if count > smallest {
		return err
	}
	p.small++
	p.waited += took
	if p.small < deadAfter || p.waited < p.limit {
		return err
	}
	return unreadableError{err}
}

// unreadableError is that of a part of the journal which does not arrive, however often it is asked for.
type unreadableError struct{ error }

func (e unreadableError) Unwrap() error { return e.error }
