package lock

import (
	"context"
	"math/rand/v2"
	"time"
)

const (
	// grantTime is how long a lock that was passed on lasts unless its new holder extends it, which it does at once:
	// how much a holder that is dead by then costs the others.
	grantTime = 1500 * time.Millisecond
	// liveness is how long a waiter keeps its place without asking again; it asks every recheck.
	liveness = 20 * time.Second
	recheck  = liveness / 2
	// recheckNodes is the same for several masters, where waiters are only told of a release.
	recheckNodes = time.Second
	// stagger is how much later each waiter looks after a holder than the one ahead of it.
	stagger = 200 * time.Millisecond
	// maxPollDelay bounds the pause between two tries when Redis cannot tell us of a release.
	maxPollDelay = 250 * time.Millisecond
	// allIsWell is the token of the message that nobody need look after the holder any more.
	allIsWell = -1_000_000
	// newsDelay is how long to wait for the other masters after the first has told of a release.
	newsDelay = 10 * time.Millisecond
	// newsPerNode is how many messages of each node may wait for a contender that is busy asking.
	newsPerNode = 4
)

// contender competes for one resource on behalf of all callers of this process that wait for it. Its goroutine lives as
// long as it has callers.
type contender struct {
	manager  *RedisLockManager
	resource string
	keys     keys
	callers  []*waiter       // guarded by waiters.mu
	name     string          // in the queue; guarded by waiters.mu, written by run only
	ctx      context.Context // ends when the last caller has gone
	retire   context.CancelFunc
	news     chan news
	again    chan struct{} // holds one request at most to ask again

	// What follows is touched by run only.
	answered bool  // Redis has answered before, so its failures pass
	queued   bool  // the name may be in the queue of a node
	arrival  int64 // the place in the queue, as Redis gave it
	sample   sample
	failures int
	polls    int
	watching bool      // somebody has got the lock ahead of us and may be dead
	regular  time.Time // when to ask again if nothing happens
}

// news is a message of an inbox: the lock was passed on to the one who is told, or, with token 0, has become free, or,
// with a token below 0, was passed on to somebody ahead: with -1 to the one before, with -2 to the one before that, ...
type news struct {
	node  *node
	value string
	token int64
	time  int64 // the server's clock, microseconds
}

func newContender(m *RedisLockManager, resource string) *contender {
	ctx, retire := context.WithCancel(context.Background())
	return &contender{
		manager: m, resource: resource, keys: newKeys(m.set.prefix, resource),
		ctx: ctx, retire: retire, news: make(chan news, newsPerNode*len(m.set.nodes)), again: make(chan struct{}, 1),
	}
}

// run is the goroutine.
func (c *contender) run() {
	defer c.leaveQueue()
	ws := c.manager.waiters
	for w := ws.first(c); w != nil; w = ws.first(c) {
		select {
		case <-c.manager.closing.Done():
			return // the callers see it too
		default:
		}
		if delay, ok := c.try(w); !ok && !c.idle(delay) {
			return
		}
	}
}

// try asks for the lock once. If that does not succeed it returns how long to wait for a message.
func (c *contender) try(w *waiter) (time.Duration, bool) {
	m := c.manager
	name := c.name
	if name == "" {
		name = m.newValue()
		m.waiters.rename(c, name)
	}
	value := name
	if len(m.set.nodes) > 1 {
		// Each try has its own: a node may be taking the former one back right now.
		value = m.newValue()
	}
	ask := place{name: name, arrival: c.arrival, watching: c.watching}
	if m.inboxesUp() {
		ask.liveness, c.queued = liveness, true
	}
	// It goes on for the other callers when this one's time is up.
	r := m.newRound(context.WithoutCancel(w.ctx), time.Now(), acquiring, c.keys, value, w.ttl, ask.call)
	if c.queued {
		r.name = name
	}
	defer r.done()
	r.endsWith(m.closing)
	r.endsWith(c.ctx)
	a := r.acquire()
	if a.err == nil {
		c.leaveOthers(a)
		c.win(func(w *waiter) (*RedisLock, error) { return m.newLock(a, c.resource, w.ttl) }, r.discard)
		return 0, true
	}
	select {
	case <-c.ctx.Done():
		r.leave()
		return 0, false
	case <-m.closing.Done():
		r.leave()
		return 0, false
	default:
		return c.lost(a, ask.liveness > 0)
	}
}

// win gives the lock to the caller whose turn it is, or back if all have gone.
func (c *contender) win(take func(*waiter) (*RedisLock, error), giveBack func()) {
	m := c.manager
	c.answered = true
	c.queued, c.arrival, c.failures, c.polls, c.watching = false, 0, 0, 0, false
	m.waiters.rename(c, "") // what comes next is a new turn, at the end of the queue
	w := m.waiters.shift(c)
	if w == nil {
		giveBack()
		return
	}
	l, err := take(w)
	if err != nil {
		giveBack()
	}
	w.done <- turn{lock: l, err: err}
}

// leaveOthers takes the name off the queues of the masters that have not granted the lock.
func (c *contender) leaveOthers(a attempt) {
	if len(c.manager.nodes) == 1 || !c.queued {
		return
	}
	for i, v := range a.round.snapshot() {
		if v.outcome != granted {
			c.leave(c.manager.nodes[i])
		}
	}
}

// lost finds out how long to wait after a try that did not succeed; queued says whether it asked for a place, as we can be
// told of a release.
func (c *contender) lost(a attempt, queued bool) (time.Duration, bool) {
	m := c.manager
	votes := a.round.snapshot()
	t := count(votes)
	// With answers of a majority Redis works: they were split, if they are not all refusals.
	if t.refused == 0 || t.granted+t.refused < m.quorum() {
		return c.failed(t, a.err)
	}
	c.answered, c.failures = true, 0
	for _, v := range votes {
		if v.outcome != refused {
			continue
		}
		if c.arrival == 0 || v.place.arrival < c.arrival {
			c.arrival = v.place.arrival
		}
		c.sample = sample{local: a.start, server: v.place.time}
	}
	if len(m.nodes) == 1 && votes[0].repeated {
		// An earlier attempt may be under way still, so the janitor takes the value off this node.
		m.waiters.rename(c, m.newValue())
		return retryDelay, false
	}
	if !queued {
		if m.openInboxes(c.ctx.Done()) {
			return 0, false // queue at once
		}
		c.polls++ // Redis cannot tell us, so we have to ask
		return min(t.wait, retryDelay<<min(c.polls, 10), maxPollDelay) + rand.N(retryDelay), false
	}
	if len(m.set.nodes) > 1 {
		if t.granted > 0 { // split between several contenders
			return retryDelay + rand.N(10*retryDelay), false
		}
		return min(t.wait+rand.N(10*retryDelay), recheckNodes), false
	}
	return c.patience(t.wait, votes[0].place), false
}

// failed sees to a try that Redis failed.
func (c *contender) failed(t tally, err error) (time.Duration, bool) {
	if t.errs != nil {
		err = t.err()
	}
	if !c.answered {
		c.manager.waiters.fail(c, &RedisError{Op: "acquire", Resource: c.resource, Err: err})
		return 0, false
	}
	if len(c.manager.nodes) == 1 {
		// The janitor takes the value off this node, so it must not be used again. The arrival keeps the place.
		c.manager.waiters.rename(c, c.manager.newValue())
	}
	c.failures++
	return min(retryDelay<<min(c.failures, 10), maxPollDelay) + rand.N(retryDelay), false
}

// idle waits for a reason to try again. It reports false when there is nothing more to do.
func (c *contender) idle(d time.Duration) bool {
	m := c.manager
	timer := time.NewTimer(d)
	defer timer.Stop()
	told := make(map[*node]bool, len(m.set.nodes))
	for {
		select {
		case <-timer.C:
			return true
		case <-c.again:
			return true
		case <-c.ctx.Done():
			return false
		case <-m.closing.Done():
			return false
		case msg := <-c.news:
			if msg.value != c.name {
				continue // of an earlier turn
			}
			if msg.token > 0 {
				c.inherit(msg)
				return true
			}
			if msg.token == allIsWell {
				c.watching = false
				timer.Reset(time.Until(c.regular))
				continue
			}
			if msg.token < 0 {
				timer.Reset(c.alarmed(-msg.token))
				continue
			}
			if told[msg.node] = true; len(told) >= m.quorum() {
				return true
			}
			timer.Reset(newsDelay)
		}
	}
}

// inherit takes a lock that was passed on to us. It lasts for a short time only, so the first thing that happens to it
// is its renewal. Where that time cannot be told, or there is no renewal, nothing is done here: the next try finds the
// lock in our name and confirms it.
func (c *contender) inherit(msg news) {
	m := c.manager
	start, ok := c.sample.at(msg.time)
	until := start.Add(validity(grantTime))
	now := time.Now()
	if !ok || start.After(now) || !now.Before(until.Add(-grantTime/3)) || !m.set.renewal {
		return
	}
	value := c.name
	c.win(func(w *waiter) (*RedisLock, error) {
		return m.adopt(grantOf{keys: c.keys, value: value, token: msg.token, until: until, acquired: now, due: now}, c.resource, w.ttl)
	}, func() {
		m.janitor.add(debris{node: msg.node, keys: c.keys, value: value, until: until})
	})
}

// leaveQueue removes what this contender has in Redis.
func (c *contender) leaveQueue() {
	if !c.queued || c.name == "" {
		return
	}
	for _, n := range c.manager.nodes {
		c.leave(n)
	}
}

func (c *contender) leave(n *node) {
	c.manager.janitor.add(debris{
		node: n, keys: c.keys, value: c.name, queued: true, until: time.Now().Add(cleanupTime(liveness)),
	})
}
