package lock

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

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
	// splitDelay bounds the pause before the next try where several nodes were split between several who ask. It doubles with
	// each time in a row. After maxSplits it seems that there is a holder, whose lock is missing on a node: that grants.
	splitDelay = 50 * time.Millisecond
	maxSplits  = 5
	// minFailureDelay and maxFailureDelay bound the pause before the next try after Redis has failed.
	minFailureDelay = 5 * time.Millisecond
	maxFailureDelay = 250 * time.Millisecond
)

// contender competes for one resource on behalf of all callers of this process that wait for it. Its goroutine lives as
// long as it has callers.
type contender struct {
	keeper   *keeper
	inbox    *inbox
	resource string
	ctx      context.Context //nolint:containedctx // ends when the last caller has gone
	retire   context.CancelFunc
	hints    chan store.Hint // the last one, of those that were not read

	mu      sync.Mutex // guards callers, and the end of ctx
	callers []*waiter

	// What follows is touched by run only.
	name     string // in Redis' queue
	arrival  int64  // the place there, as Redis gave it; 0 before the first answer of a turn
	ahead    int64  // how many were before it
	answered bool   // Redis has answered before, so its failures pass
	failures int    // in a row
	recheck  bool   // the next question is to keep the others from asking
	split    bool   // the last answer was that several ask at the same time: all of them ask again, whoever else has
	splits   int    // how often it was, in a row
}

// newContender makes a contender for its first caller.
func newContender(k *keeper, b *inbox, w *waiter) *contender {
	c := &contender{keeper: k, inbox: b, resource: w.resource, hints: make(chan store.Hint, 1), callers: []*waiter{w}}
	c.ctx, c.retire = context.WithCancel(context.Background())
	return c
}

// join appends a caller. It reports false if the contender ends.
func (c *contender) join(w *waiter) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ctx.Err() != nil {
		return false
	}
	c.callers = append(c.callers, w)
	return true
}

// leave removes a caller. It reports false if that was done before: its turn has come, or it has left.
func (c *contender) leave(w *waiter) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := slices.Index(c.callers, w)
	if i < 0 {
		return false
	}
	c.callers = slices.Delete(c.callers, i, i+1)
	if len(c.callers) == 0 {
		c.retire()
	}
	return true
}

// first returns the caller whose turn is next, nil if there is none.
func (c *contender) first() *waiter {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.callers) == 0 {
		return nil
	}
	return c.callers[0]
}

// rotate makes a caller the last one, unless it has left.
func (c *contender) rotate(w *waiter) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if i := slices.Index(c.callers, w); i >= 0 {
		c.callers = append(slices.Delete(c.callers, i, i+1), w)
	}
}

// patience returns how long a call may take: as long as the most patient caller waits for one. It is made for all of them,
// and a first one whose TTL is short must not end it.
func (c *contender) patience() (longest time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, w := range c.callers {
		longest = max(longest, c.keeper.timeouts.call(w.ttl))
	}
	return longest
}

// fail ends the waiting of all callers.
func (c *contender) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, w := range c.callers {
		w.turn <- turn{err: err}
	}
	c.callers = nil
	c.retire()
}

// run is the goroutine.
func (c *contender) run() {
	c.name = c.inbox.enter(c)
	through := false
	defer func() {
		c.inbox.drop(c.name)
		if !through { // a hook of the client has ended the goroutine
			c.fail(&RedisError{Op: "acquire", Resource: c.resource, Err: redisx.ErrExited})
		}
		if !through || c.arrival != 0 || c.failures > 0 {
			c.keeper.store.Leave(store.NewKeys(c.keeper.prefix, c.resource), c.name)
		}
	}()
	for w := c.first(); w != nil; w = c.first() {
		// One that does not hear of others' questions keeps nobody from asking: each of many would let all the others know.
		c.recheck = c.recheck && c.inbox.isOpen()
		pause, again := c.try(w)
		if again && !c.idle(pause) {
			break
		}
	}
	through = true
}

// try asks for the lock once. Unless the turn of the caller, or of all, has ended it returns after which pause to ask
// again.
func (c *contender) try(w *waiter) (pause time.Duration, again bool) {
	k := c.keeper
	a := k.attempt(w.request, time.Now())
	// The call goes on for the other callers when this one's time is up.
	ctx, cancel := bounded(context.WithoutCancel(w.ctx), a.sent, c.patience())
	defer cancel()
	defer context.AfterFunc(k.calls.Closing(), cancel)()
	defer context.AfterFunc(c.ctx, cancel)()
	var r store.Reply
	if err := redisx.Catch(func() error {
		r = k.store.Enqueue(ctx, a.claim, store.Waiter{Name: c.name, Arrival: c.arrival, Recheck: c.recheck})
		return nil
	}); err != nil {
		return c.panicked(w, err)
	}
	c.split = r.Split && c.splits < maxSplits
	switch {
	case r.Outcome == store.Granted && k.granted(&a, r):
		c.win(w, a)
		return 0, false
	case r.Outcome == store.Granted:
		return c.late(w)
	case r.Outcome == store.Refused:
		c.answered, c.failures, c.ahead = true, 0, r.Ahead
		if c.arrival == 0 {
			c.arrival = r.Arrival
		}
		if c.split {
			c.splits++
			return rand.N(splitDelay << (c.splits - 1)), true
		}
		if !r.Split {
			c.splits = 0
		}
		c.recheck = true
		return c.delay(r.Wait), true
	default:
		return c.failed(r.Err)
	}
}

// win gives the lock to the caller it was acquired for, or back if that one has left.
func (c *contender) win(w *waiter, a attempt) {
	c.answered, c.failures, c.arrival, c.ahead, c.recheck, c.splits = true, 0, 0, 0, false, 0
	c.inbox.drop(c.name)
	c.name = c.inbox.enter(c) // what comes next is a new turn, at the end of the queue
	if !c.leave(w) {
		c.keeper.store.Reap(a.claim, store.Unwanted)
		return
	}
	l, err := c.keeper.keep(a)
	w.turn <- turn{lock: l, err: err}
}

// late sees to a lock that came too late to be used. If the TTL of its caller is too short for the way to Redis, that of the
// next one may not be.
func (c *contender) late(w *waiter) (pause time.Duration, again bool) {
	if c.answered {
		c.rotate(w)
	} else if c.leave(w) {
		w.turn <- turn{err: &RedisError{Op: "acquire", Resource: c.resource, Err: errTooLate}}
	}
	c.failures++
	return c.backoff(), true
}

// panicked sees to a try in which a hook of the client has panicked: the caller that it was for raises it.
func (c *contender) panicked(w *waiter, err error) (pause time.Duration, again bool) {
	if c.leave(w) {
		w.turn <- turn{err: err}
	} else {
		c.keeper.log.Error("lock: a hook of the client has panicked", zap.String("resource", c.resource), zap.Error(err))
	}
	c.failures++
	return c.backoff(), true
}

// failed sees to a try that Redis failed.
func (c *contender) failed(err error) (pause time.Duration, again bool) {
	c.failures++
	if c.ctx.Err() == nil && !c.keeper.calls.Closed() && !c.answered {
		c.fail(&RedisError{Op: "acquire", Resource: c.resource, Err: err})
		return 0, false
	}
	return c.backoff(), true
}

// backoff returns after which pause to ask again after as many failures.
func (c *contender) backoff() time.Duration {
	return redisx.Backoff(c.failures, minFailureDelay, maxFailureDelay)
}

// delay returns after which pause to ask again, given how long it takes until the lock may be free, 0 if that is
// unknown. Those who came earlier ask earlier.
func (c *contender) delay(left time.Duration) time.Duration {
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
		case <-c.keeper.calls.Closing().Done():
			return false
		case h := <-c.hints:
			if !h.Rechecked {
				c.recheck, c.splits = false, 0
				return true
			}
			if !c.split {
				timer.Reset(c.delay(h.Left))
			}
		}
	}
}
