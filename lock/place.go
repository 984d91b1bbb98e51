package lock

import (
	"math/rand/v2"
	"time"
)

// sample is one look at a server's clock: local was before it.
type sample struct {
	local  time.Time
	server int64 // microseconds
}

// at returns a local time that is not after the given time of the server. Off goes 1% of what has passed since the
// sample, for clocks of different speed. It reports false without a sample, and if the server's clock was set back.
func (s sample) at(server int64) (time.Time, bool) {
	passed := time.Duration(server-s.server) * time.Microsecond
	if s.server == 0 || passed < 0 {
		return time.Time{}, false
	}
	return s.local.Add(passed - passed/100), true
}

// place is what the wait script needs beyond what a round has.
type place struct {
	name     string
	arrival  int64
	liveness time.Duration
	watching bool
}

// placeReply is what it tells a waiter beyond what a vote has.
type placeReply struct{ arrival, time, ahead, watch int64 }

// watchFirst is the answer to who has just passed on the lock of a holder that had died, and so is awake: it looks after
// the next one before all others.
const watchFirst = 2

// call runs the wait script on a node.
func (p place) call(r *round, n *node) vote {
	k := r.keys
	watching := 0
	if p.watching {
		watching = 1
	}
	reply, repeated, err := n.send(r, newCall(n.scripts.wait, k.list(),
		r.value, r.ttl.Milliseconds(), p.name, p.liveness.Milliseconds(), p.arrival, watching))
	if err != nil {
		return vote{outcome: failed, err: err}
	}
	numbers, err := integers(reply, 6)
	if err != nil {
		return vote{outcome: failed, err: err}
	}
	if numbers[0] > 0 {
		return vote{outcome: granted, token: numbers[0], repeated: repeated}
	}
	wait := time.Duration(numbers[1]) * time.Millisecond
	if wait < 0 {
		wait = maxPollDelay // a foreign key that lasts until somebody removes it, and does not tell
	}
	return vote{
		outcome: refused, wait: wait, repeated: repeated,
		place: placeReply{arrival: numbers[2], time: numbers[3], ahead: numbers[4], watch: numbers[5]},
	}
}

// patience is how long to wait on a single node for a message, given how long the lock lasts unless its holder extends
// it. It is longer the more waiters are ahead, who look too.
func (c *contender) patience(left time.Duration, p placeReply) time.Duration {
	later := time.Duration(p.ahead) * stagger
	if p.watch == watchFirst {
		later = 0
	}
	delay := min(left+rand.N(4*retryDelay)+later, recheck)
	c.regular = time.Now().Add(delay)
	if left > grantTime {
		c.watching = false // the holder has confirmed the lock
	}
	if p.watch != 0 {
		c.watching = true
		delay = min(delay, grantTime+rand.N(4*retryDelay)+later)
	}
	return delay
}

// alarmed returns how long to wait when the lock has been passed on to somebody the given number of places ahead. A
// message takes no waiter beyond the time at which it would have asked anyway, as its place would get lost in the end;
// only who is next, and will not be told so often, saves itself a question.
func (c *contender) alarmed(places int64) time.Duration {
	c.watching = true
	delay := grantTime + rand.N(4*retryDelay) + time.Duration(places-1)*stagger
	if places > 1 {
		delay = min(delay, time.Until(c.regular))
	}
	return delay
}

// grant is how long a lock that a release passes on lasts at first. Several masters cannot pass a lock on, as they may
// have different waiters in their queues: they tell the first one only.
func (m *RedisLockManager) grant() time.Duration {
	if len(m.set.nodes) > 1 {
		return 0
	}
	return grantTime
}
