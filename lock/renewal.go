package lock

import (
	"container/heap"
	"context"
	"math/rand/v2"
	"sync"
	"time"
)

const (
	// renewalsPerNode is how many pipelines of renewals may be under way to a node. More than one, so that a
	// connection on which nothing moves does not hold up all locks.
	renewalsPerNode = 4
	// aliveMargin is how late the renewer may be before Alive says so.
	aliveMargin = 10 * time.Second
)

// renewer extends all held locks of a manager. One goroutine waits for the earliest due time and sends what is due to
// each node in pipelines; the answers come back on short-lived goroutines, one per node, so that a node which hangs
// holds up nothing else.
type renewer struct {
	manager *RedisLockManager
	wake    chan struct{} // holds one wake-up at most
	ctx     context.Context
	cancel  context.CancelFunc

	mu      sync.Mutex // guards what follows, and due and index of all locks
	heap    dueHeap
	started bool
	stopped bool
	sleeps  time.Time // until when the goroutine means to sleep; zero if there is nothing due
	awaited time.Time // for which due time it was woken last
	blocked bool      // it waits for a node that is free
}

func newRenewer(m *RedisLockManager) *renewer {
	r := &renewer{manager: m, wake: make(chan struct{}, 1)}
	r.ctx, r.cancel = context.WithCancel(m.ctx)
	return r
}

// interval is how often a lock is renewed: two tries may fail before the third is too late.
func interval(ttl time.Duration) time.Duration { return ttl / 3 }

// firstDue is when to renew a lock first whose validity counts from start. Jitter keeps locks that were taken at the
// same time from coming back in step for ever.
func (r *renewer) firstDue(ttl time.Duration, start time.Time) time.Time {
	return start.Add(interval(ttl) - rand.N(ttl/30+1))
}

// schedule arranges for a renewal.
func (r *renewer) schedule(l *RedisLock, due time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stopped || l.index >= 0 || !r.manager.set.renewal {
		return
	}
	l.due = due
	heap.Push(&r.heap, l)
	if !r.started {
		r.started = r.manager.tasks.spawn(r.run)
		return
	}
	// Waking the goroutine costs about as much as a call to Redis on the same machine, so only if it would sleep too
	// long. Should the lock it sleeps for be gone by then, it goes on sleeping.
	if due.Before(r.sleeps) {
		r.sleeps, r.awaited = due, due
		r.poke()
	}
}

// remove forgets a lock.
func (r *renewer) remove(l *RedisLock) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if l.index >= 0 {
		heap.Remove(&r.heap, l.index)
	}
}

// stop ends the goroutine and gives up the renewals under way.
func (r *renewer) stop() {
	r.cancel()
	r.mu.Lock()
	r.stopped = true
	r.mu.Unlock()
	r.poke()
}

func (r *renewer) poke() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// freed tells that a node has become free. It wakes the goroutine only if that waits for one: otherwise it would take
// what is due a little earlier, in more and smaller pipelines.
func (r *renewer) freed() {
	r.mu.Lock()
	blocked := r.blocked
	r.mu.Unlock()
	if blocked {
		r.poke()
	}
}

// run is the goroutine.
func (r *renewer) run() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-r.wake:
		}
		due, nodes, next, stopped := r.takeDue()
		if stopped {
			return
		}
		if len(due) > 0 {
			r.renew(due, nodes)
		}
		timer.Reset(next)
	}
}

// free returns the nodes that are not busy with renewals.
func (r *renewer) free() []*node {
	free := make([]*node, 0, len(r.manager.nodes))
	for _, n := range r.manager.nodes {
		if n.renewals.Load() < renewalsPerNode {
			free = append(free, n)
		}
	}
	return free
}

// takeDue returns the locks to renew now and the nodes to send that to, no locks if too few nodes are free, and for how
// long to sleep then.
func (r *renewer) takeDue() (due []*RedisLock, nodes []*node, next time.Duration, stopped bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	next = time.Hour
	now := time.Now()
	nodes = r.free()
	if r.blocked = len(nodes) < r.manager.quorum(); r.blocked {
		next = aliveMargin / 2 // whoever returns first wakes us
	} else {
		for len(r.heap) > 0 {
			l := r.heap[0]
			// What is nearly due goes along.
			if wait := l.due.Sub(now); wait > min(l.ttl/30, 20*time.Millisecond) {
				next = wait
				break
			}
			heap.Pop(&r.heap)
			due = append(due, l)
		}
		// The lock it was woken for may be gone already, where locks are held for a moment only. Who sleeps until that
		// would have been due need not be woken for the next one.
		if r.awaited.After(now) {
			next = min(next, r.awaited.Sub(now))
		}
	}
	r.sleeps = now.Add(next)
	return due, nodes, next, r.stopped
}

// late returns how late the goroutine is, if it is.
func (r *renewer) late() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.started || r.stopped || r.sleeps.IsZero() {
		return 0
	}
	return max(time.Since(r.sleeps)-aliveMargin, 0)
}

// renew sends the renewals of locks to nodes and returns without waiting.
func (r *renewer) renew(due []*RedisLock, nodes []*node) {
	m := r.manager
	b := &renewals{manager: m, start: time.Now()}
	calls := make([]call, 0, len(due))
	timeout := maxNodeTimeout
	for _, l := range due {
		generation, err := l.current("renew")
		if err != nil {
			continue // released or lost in the meantime
		}
		b.items = append(b.items, item{lock: l, generation: generation, open: len(nodes)})
		calls = append(calls, m.nodes[0].extendCall(l.keys, l.value, l.ttl))
		timeout = min(timeout, m.set.timeout(l.ttl))
	}
	if len(b.items) == 0 {
		return
	}
	b.outcomes = make([]outcome, len(b.items)*len(m.nodes))
	ctx, cancel := context.WithTimeout(r.ctx, timeout)
	b.cancel, b.open = cancel, len(nodes)
	for _, n := range nodes {
		n.renewals.Add(1)
		m.tasks.spawn(func() {
			n.pipeline(ctx, calls, func(index int, r result) { b.record(n, index, extendVote(r.number())) })
			n.renewals.Add(-1)
			b.leave()
			r.freed()
		})
	}
}
