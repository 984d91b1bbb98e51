package publisher

import (
	"sync/atomic"
	"time"
)

// expiry knows when a publisher has to renew the time to live of the journal. Doing so with each event would cost Redis a
// sixth of the time that the event takes. So the journal is given a little longer than it has to live, and a renewal is due
// only when that little is used up.
type expiry struct {
	milliseconds int64
	slack        int64        // nanoseconds until a renewal is due
	last         atomic.Int64 // the last renewal
}

// slackShare is the part of its time by which the journal may live longer than asked for.
const slackShare = 60

func newExpiry(ttl time.Duration) expiry {
	slack := ttl / slackShare
	return expiry{milliseconds: (ttl + slack).Milliseconds(), slack: int64(slack)}
}

// due reports whether it has to be renewed with an event that is published now.
func (e *expiry) due(now time.Time) bool {
	// By the clock on the wall, which goes on while the machine sleeps. It may have been set back, too.
	age := now.UnixNano() - e.last.Load()
	return age < 0 || age >= e.slack
}

// renewed notes that it was renewed, not before the time given.
func (e *expiry) renewed(now time.Time) { e.last.Store(now.UnixNano()) }
