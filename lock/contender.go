package lock

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/compozy/cache/internal/redisx"
	"github.com/compozy/cache/lock/internal/store"
)

const (
	// askAfter is after which time a waiter asks of its own accord, if nothing has happened: a release that it has not
	// heard of costs no more. When one asks the others hear of it and wait for that long again. So one of all asks each
	// time, and if that one is gone another.
	askAfter = 1700 * time.Millisecond
	// stagger is how much later a waiter asks than the one before it, and maxStagger how much later than the first.
	stagger    = 25 * time.Millisecond
	maxStagger = 10 * stagger
	// maxSplitDelay bounds the pause before the next try where several nodes were split between several who ask.
	maxSplitDelay = 50 * time.Millisecond
	// minFailureDelay and maxFailureDelay bound the pause before the next try after Redis has failed.
	minFailureDelay = 5 * time.Millisecond
	maxFailureDelay = 250 * time.Millisecond
)

// contender competes for one resource on behalf of all callers of this process that wait for it. Its goroutine lives as
// long as it has callers.
type contender struct {
	queue    *queue
	resource string
	keys     store.Keys
	callers  []*waiter       // guarded by queue.mu
	ctx      context.Context //nolint:containedctx // ends when the last caller has gone
	retire   context.CancelFunc
	hints    chan store.Hint // the last one, of those that were not read

	// What follows is touched by run only.
	name     string // in Redis' queue
	arrival  int64  // the place there, as Redis gave it; 0 before the first answer of a turn
	ahead    int64  // how many were before it
	answered bool   // Redis has answered before, so its failures pass
	failures int    // in a row
	recheck  bool   // the next question is to keep the others from asking
	split    bool   // the last answer was that several ask at the same time: all of them ask again, whoever else has
}

func newContender(q *queue, resource string) *contender {
	c := &contender{
		queue: q, resource: resource, keys: store.NewKeys(q.set.prefix, resource), hints: make(chan store.Hint, 1),
	}
	c.ctx, c.retire = context.WithCancel(context.Background())
	return c
}

// run is the goroutine.
func (c *contender) run() {
	c.name = c.queue.rename(c, "", false)
	defer func() { c.queue.rename(c, c.name, true) }()
	for w, hears := c.queue.first(c); w != nil; w, hears = c.queue.first(c) {
		// One that does not hear of others' questions keeps nobody from asking: each of many would let all the others know.
		c.recheck = c.recheck && hears
		pause, again := c.try(w)
		if again && !c.idle(pause) {
			break
		}
	}
	if c.arrival != 0 || c.failures > 0 {
		c.queue.store.Leave(c.keys, c.name)
	}
}

// try asks for the lock once. Unless the turn of the caller, or of all, has ended it returns after which pause to ask
// again.
func (c *contender) try(w *waiter) (pause time.Duration, again bool) {
	q := c.queue
	claim := store.Claim{Keys: c.keys, Value: q.value(w.call.owner), TTL: w.ttl}
	sent := time.Now()
	// The call goes on for the other callers when this one's time is up.
	ctx, cancel := bounded(context.WithoutCancel(w.ctx), sent, q.set.timeouts.call(w.ttl))
	defer cancel()
	defer context.AfterFunc(q.closing, cancel)()
	defer context.AfterFunc(c.ctx, cancel)()
	r := q.store.Enqueue(ctx, claim, store.Waiter{Name: c.name, Arrival: c.arrival, Recheck: c.recheck})
	c.split = r.Split
	switch r.Outcome {
	case store.Granted:
		claim.Token, claim.Sure = r.Token, r.Sure
		g := grant{
			claim: claim, call: w.call, resource: c.resource, sent: sent, acquired: time.Now(), repeated: r.Repeated,
		}
		if !q.keeper.inTime(g) {
			return c.failed(errTooLate)
		}
		c.win(w, g)
		return 0, false
	case store.Refused:
		c.answered, c.failures, c.ahead = true, 0, r.Ahead
		if c.arrival == 0 {
			c.arrival = r.Arrival
		}
		if r.Split {
			return rand.N(maxSplitDelay), true
		}
		c.recheck = true
		return c.patience(r.Wait), true
	default:
		return c.failed(r.Err)
	}
}

// win gives the lock to the caller it was acquired for, or back if that one has left.
func (c *contender) win(w *waiter, g grant) {
	q := c.queue
	c.answered, c.failures, c.arrival, c.ahead, c.recheck = true, 0, 0, 0, false
	c.name = q.rename(c, c.name, false) // what comes next is a new turn, at the end of the queue
	if !q.shift(c, w) {
		q.store.Reap(g.claim)
		return
	}
	l, err := q.keeper.keep(g)
	w.turn <- turn{lock: l, err: err}
}

// failed sees to a try that Redis failed.
func (c *contender) failed(err error) (pause time.Duration, again bool) {
	c.failures++
	if c.ctx.Err() == nil && c.queue.closing.Err() == nil && !c.answered {
		c.queue.fail(c, &RedisError{Op: "acquire", Resource: c.resource, Err: err})
		return 0, false
	}
	return redisx.Backoff(c.failures, minFailureDelay, maxFailureDelay), true
}

// patience returns after which pause to ask again, given how long it takes until the lock may be free, 0 if that is
// unknown. Those who came earlier ask earlier.
func (c *contender) patience(left time.Duration) time.Duration {
	pause := askAfter
	if left > 0 {
		pause = min(pause, left)
	}
	return pause + min(time.Duration(c.ahead)*stagger, maxStagger) + rand.N(stagger/5)
}

// hear takes in a hint. One that was not read yet is replaced, unless it says more.
func (c *contender) hear(h store.Hint) {
	for {
		select {
		case c.hints <- h:
			return
		default:
		}
		select {
		case old := <-c.hints:
			if !old.Rechecked {
				h = old
			}
		default:
		}
	}
}

// idle waits for a reason to ask again. It reports false when there is nothing more to do.
func (c *contender) idle(pause time.Duration) bool {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
			return true
		case <-c.ctx.Done():
			return false
		case <-c.queue.closing.Done():
			return false
		case h := <-c.hints:
			if !h.Rechecked {
				c.recheck = false
				return true
			}
			if !c.split {
				timer.Reset(c.patience(h.Left))
			}
		}
	}
}
