package store

import "time"

// FirstGrant is how long a lock lasts at most until it is extended for the first time, and with that how long a key can
// last that a command of unknown fate leaves.
const FirstGrant = 10 * time.Second

// Claim is one acquisition: a value that, as long as it is a lock's, makes somebody its holder.
type Claim struct {
	Keys Keys
	// Value differs from that of all other acquisitions. It contains no blank.
	Value string
	TTL   time.Duration
	// Token is the fencing token, once it is known.
	Token int64
	// Sure is the servers of a quorum that are known to have set the lock, a bit for each. Only the quorum reads it.
	Sure uint64
	// KeepUntil is until when the lock stays taken, by nobody, though it is released before.
	KeepUntil time.Time
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
	// Repaired says that a server has got the lock, or has it again, for as long as a first grant.
	Repaired bool
	// Sure is what is to be added to that of the Claim.
	Sure uint64
	// Repeated says that the command was sent more than once, and an earlier one may be under way still.
	Repeated bool
	// Err is why it failed.
	Err error
}

// State describes a lock.
type State struct {
	Held bool
	// Value is the holder's.
	Value string
	TTL   time.Duration
	Token int64
	// Waiting is the length of the queue.
	Waiting int64
}
