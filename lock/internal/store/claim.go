package store

import "time"

// FirstGrant is how long a lock lasts at most until it is extended for the first time, and with that how long a key can
// last that a command of unknown fate leaves.
const FirstGrant = 10 * time.Second

// Claim is one acquisition: as long as its value is a lock's, somebody is the holder. NewClaim makes it.
type Claim struct {
	Keys Keys
	// Value differs from that of all other acquisitions, see Tries for what a lock contains.
	Value string
	TTL   time.Duration
	// Tries has an entry for each server. All copies of a claim share them.
	Tries []Tries
	// Token is the fencing token, once it is known.
	Token int64
	// KeepUntil is until when the lock stays taken, by nobody, though it is released before.
	KeepUntil time.Time
}

// NewClaim returns a claim on a number of servers. The value contains no blank and no "#".
func NewClaim(k Keys, value string, ttl time.Duration, servers int) Claim {
	return Claim{Keys: k, Value: value, TTL: ttl, Tries: make([]Tries, servers)}
}

// Waiter is one who waits for a lock.
type Waiter struct {
	// Name identifies the waiter: the channel of its inbox, a colon, and what tells it from others there.
	Name string
	// Arrival is what the first reply said, 0 before.
	Arrival int64
	// Recheck lets the other waiters know that this one asks.
	Recheck bool
}

// Outcome is what an attempt came to.
type Outcome uint8

const (
	// Pending means that there is no answer yet.
	Pending Outcome = iota
	// Granted means that it was done.
	Granted
	// Absent means that the key is gone.
	Absent
	// Refused means that somebody else holds the lock.
	Refused
	// Failed means that nobody knows whether it was, or will be, done.
	Failed
	// Unset means that a server of a quorum was not asked to extend a lock, as it is not known to have it.
	Unset
)

// Reply says what became of a Claim.
type Reply struct {
	Outcome Outcome
	// Token is the fencing token of a lock that was granted.
	Token int64
	// Wait is, after a refusal, how long it takes until the lock may be free, 0 if that is unknown.
	Wait time.Duration
	// Ahead and Arrival are for those who wait: how many are before them, and when this one came.
	Ahead, Arrival int64
	// PassedOn says that a waiter is to have the lock that was released.
	PassedOn bool
	// Split says that others have refused, but that there may be no holder: several ask at the same time.
	Split bool
	// Err is why it failed.
	Err error
}

// State describes a lock.
type State struct {
	Held bool
	// Value is that of the holder's claim.
	Value string
	TTL   time.Duration
	Token int64
	// Waiting is the length of the queue.
	Waiting int64
}
