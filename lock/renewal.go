package lock

import (
	"container/heap"
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"go.uber.org/zap"
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
	b := &batch{manager: m, start: time.Now()}
	calls := make([]call, 0, len(due))
	timeout := maxNodeTimeout
	for _, l := range due {
		generation, err := l.current("renew")
		if err != nil {
			continue // released or lost in the meantime
		}
		b.items = append(b.items, item{lock: l, generation: generation, open: len(nodes)})
		calls = append(calls, call{keys: []any{l.keys.lock}, args: []any{l.value, l.ttl.Milliseconds()}})
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
			n.pipeline(ctx, extendScript, calls, func(first int, results []result) { b.record(n, first, results) })
			n.renewals.Add(-1)
			b.leave()
			r.freed()
		})
	}
}

// batch is a number of renewals under way to all nodes.
type batch struct {
	manager *RedisLockManager
	start   time.Time // before anything was sent
	cancel  context.CancelFunc

	mu       sync.Mutex // guards what follows
	open     int        // nodes under way
	items    []item
	outcomes []outcome // by item and node
}

// item is the renewal of one lock.
type item struct {
	lock       *RedisLock
	generation uint64
	open       int // nodes that have not answered
	extended   bool
	err        error
}

func (b *batch) leave() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.open--; b.open == 0 {
		b.cancel()
	}
}

// record takes down a node's answers and acts where they decide a lock's fate.
func (b *batch) record(n *node, first int, results []result) {
	for i, res := range results {
		v := vote{outcome: failed, err: res.err}
		if res.err == nil {
			v = extendVote(res.reply)
		}
		b.recordOne(n, first+i, v)
	}
}

func (b *batch) recordOne(n *node, index int, v vote) {
	m := b.manager
	b.mu.Lock()
	it := &b.items[index]
	outcomes := b.outcomes[index*len(m.nodes) : (index+1)*len(m.nodes)]
	outcomes[n.index] = v.outcome
	it.open--
	if v.err != nil {
		it.err = v.err
	}
	t := tallyOutcomes(outcomes)
	decided := !it.extended && t.granted >= m.quorum()
	it.extended = it.extended || decided
	var absent []*node
	switch {
	case decided:
		for i, o := range outcomes {
			if o == missing {
				absent = append(absent, m.nodes[i])
			}
		}
	case it.extended && v.outcome == missing:
		absent = []*node{n}
	}
	last, extended := it.open == 0, it.extended
	l, generation, err := it.lock, it.generation, it.err
	b.mu.Unlock()

	switch {
	case decided:
		if l.extend(b.start, generation) {
			m.metrics.renewals.Add(1)
			m.renewer.schedule(l, b.start.Add(interval(l.ttl)))
		}
	case extended:
	case m.lossBy(t) != nil:
		if l.isGeneration(generation) {
			l.lose(m.lossBy(t))
		}
	case last:
		b.retry(l, generation, err)
	}
	for _, n := range absent {
		m.rejoin(n, l, generation)
	}
}

// retry schedules a renewal that failed. The lock is held as long as its time is not up.
func (b *batch) retry(l *RedisLock, generation uint64, err error) {
	m := b.manager
	if !l.isGeneration(generation) {
		return
	}
	m.metrics.renewalsFailed.Add(1)
	m.set.logger.Warn("lock: renewal failed", zap.String("resource", l.resource), zap.Error(err), zap.Time("until", l.Until()))
	m.renewer.schedule(l, time.Now().Add(min(l.ttl/10, 500*time.Millisecond)))
}

// isGeneration reports whether nothing has happened to the lock since.
func (l *RedisLock) isGeneration(generation uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state == stateHeld && l.generation == generation
}

func tallyOutcomes(outcomes []outcome) tally {
	var t tally
	for _, o := range outcomes {
		switch o {
		case granted:
			t.granted++
		case missing:
			t.missing++
		case refused:
			t.refused++
		case failed:
			t.failed++
		case pending:
		}
	}
	return t
}

// dueHeap orders locks by the time of their next renewal.
type dueHeap []*RedisLock

var _ heap.Interface = (*dueHeap)(nil)

func (h dueHeap) Len() int           { return len(h) }
func (h dueHeap) Less(i, j int) bool { return h[i].due.Before(h[j].due) }
func (h dueHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

// Push implements heap.Interface.
func (h *dueHeap) Push(x any) {
	l, ok := x.(*RedisLock)
	if !ok {
		return
	}
	l.index = len(*h)
	*h = append(*h, l)
}

// Pop implements heap.Interface.
func (h *dueHeap) Pop() any {
	old := *h
	last := len(old) - 1
	l := old[last]
	old[last] = nil
	l.index = -1
	*h = old[:last]
	return l
}
