package notification

import (
	"sync/atomic"
	"time"
)

// expiry knows when a publisher has to set anew for how long the journal lives. Doing so with each event would
// cost Redis a sixth of the time that the event takes. So the journal is given a little longer than it has to
// live, and set anew only when that little is used up.
type expiry struct {
	milliseconds any   // argument of the scripts that never changes
	slack        int64 // nanoseconds until it has to be set anew
	set          atomic.Int64
}

// slackShare is the part of its time by which the journal may live longer than asked for.
const slackShare = 60

func newExpiry(ttl time.Duration) expiry {
	slack := ttl / slackShare
	return expiry{milliseconds: (ttl + slack).Milliseconds(), slack: int64(slack)}
}

// due reports whether it has to be set anew with an event that is published now.
func (e *expiry) due(now time.Time) bool {
	// By the clock on the wall, which goes on while the machine sleeps. It may have been set back, too.
	age := now.UnixNano() - e.set.Load()
	return age < 0 || age >= e.slack
}

// renewed notes that it was set anew, not before the time given.
func (e *expiry) renewed(now time.Time) { e.set.Store(now.UnixNano()) }
