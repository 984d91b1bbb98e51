package lock

import (
	"container/heap"
	"math/rand/v2"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/compozy/cache/internal/redisx"
	"github.com/compozy/cache/lock/internal/store"
)

const (
	// aliveMargin is how late the renewer may be before Alive says so.
	aliveMargin = 10 * time.Second
	// maxTogether is how much earlier than due a renewal may be sent to share a round trip.
	maxTogether = 20 * time.Millisecond
)

// renewer extends all held locks of a manager. One goroutine waits for the earliest due time and hands what is due to the
// store, which answers later, from other goroutines: a server that hangs holds up nothing here.
type renewer struct {
	means

	failing redisx.Repeated
	wake    chan struct{} // holds one wake-up at most

	mu      sync.Mutex // guards what follows, and due and index of all locks
	heap    dueHeap
	started bool
	sleeps  time.Time // until when the goroutine means to sleep; zero before it runs
}

func newRenewer(m means) *renewer { return &renewer{means: m, wake: make(chan struct{}, 1)} }

// next is when to renew a lock that was extended to last for ttl from then: two tries may fail before the third is too
// late. Jitter keeps locks that were renewed together, as after a pause, from staying in step.
func next(sent time.Time, ttl time.Duration) time.Time {
	return sent.Add(ttl/3 - rand.N(ttl/30+1))
}

// begin arranges for the first renewal of a lock. A lock without renewal still has one if it was not granted for its
// full TTL.
func (r *renewer) begin(l *RedisLock, sent time.Time) {
	granted := min(l.claim.TTL, store.FirstGrant)
	switch {
	case l.call.renewal:
		r.schedule(l, next(sent, granted))
	case granted < l.claim.TTL:
		r.schedule(l, sent)
	}
}

// schedule arranges for a renewal, unless an earlier one is planned.
func (r *renewer) schedule(l *RedisLock, due time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.calls.closed(), l.index >= 0 && !due.Before(l.due):
		return
	case l.index >= 0:
		l.due = due
		heap.Fix(&r.heap, l.index)
	default:
		l.due = due
		heap.Push(&r.heap, l)
	}
	if !r.started {
		r.started = r.calls.spawn(r.run)
		return
	}
	r.sleepUntil(due)
}

// sleepUntil wakes the goroutine if it would sleep longer, as that costs about as much as a call to Redis on the same
// machine. Should the lock it is woken for be gone by then, it finds nothing due. The caller holds mu.
func (r *renewer) sleepUntil(due time.Time) {
	if !due.Before(r.sleeps) {
		return
	}
	r.sleeps = due
	select {
	case r.wake <- struct{}{}:
	default:
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

// run is the goroutine.
func (r *renewer) run() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-r.wake:
		case <-r.calls.closing.Done():
			return
		}
		due, pause := r.takeDue()
		r.renew(due)
		timer.Reset(pause)
	}
}

// takeDue returns the locks to renew now, and for how long to sleep then.
func (r *renewer) takeDue() (due []*RedisLock, pause time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	pause = time.Hour
	for len(r.heap) > 0 {
		l := r.heap[0]
		if wait := l.due.Sub(now); wait > min(l.claim.TTL/30, maxTogether) {
			pause = wait
			break
		}
		heap.Pop(&r.heap)
		due = append(due, l)
	}
	r.sleeps = now.Add(pause)
	return due, pause
}

// late returns how late the goroutine is, if it is.
func (r *renewer) late() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.started || r.calls.closed() || r.sleeps.IsZero() {
		return 0
	}
	return max(time.Since(r.sleeps)-aliveMargin, 0)
}

// renew has the store extend locks, and returns at once.
func (r *renewer) renew(due []*RedisLock) {
	if len(due) == 0 {
		return
	}
	now := time.Now()
	extensions := make([]extension, 0, len(due))
	claims := make([]store.Claim, 0, len(due))
	timeout := maxNodeTimeout
	for _, l := range due {
		x, err := l.extension("renew", now)
		if err != nil { // released or lost in the meantime, or its time is up though the timer does not know: see remaining
			l.expire()
			continue
		}
		extensions, claims = append(extensions, x), append(claims, x.claim)
		timeout = min(timeout, r.timeouts.call(l.claim.TTL))
	}
	r.store.Renew(claims, timeout, func(i int, reply store.Reply) { r.renewed(extensions[i], reply) })
}

// renewed sees to the reply about a lock.
func (r *renewer) renewed(x extension, reply store.Reply) {
	l := x.lock
	switch {
	case reply.Outcome == store.Granted:
		if !l.extend(x) {
			return
		}
		r.metrics.renewals.Add(1)
		r.failing.Over(r.log, "lock: renewals succeed again")
		r.repair(l, reply)
		if !l.call.renewal || !l.end.IsZero() && !l.Until().Before(l.end) {
			return
		}
		r.schedule(l, next(x.sent, x.claim.TTL))
	case reply.Repair != nil:
		r.repair(l, reply)
	case l.hasEnded():
	case reply.Outcome == store.Failed: // the lock is held as long as its time is not up
		r.metrics.renewals.Add(1)
		r.metrics.renewalsFailed.Add(1)
		r.failing.Log(r.log, zap.WarnLevel, "lock: renewal failed",
			zap.String("resource", l.resource), zap.Error(reply.Err), zap.Time("until", l.Until()))
		r.schedule(l, time.Now().Add(min(l.claim.TTL/10, 500*time.Millisecond)))
	default:
		l.lose(lossBy(reply.Outcome))
	}
}

// repair gives a lock that is held to servers that do not have it, or are not known to. They do not count for it before they
// are asked to extend it, which is as soon as after a first grant, whether or not it is renewed otherwise.
func (r *renewer) repair(l *RedisLock, reply store.Reply) {
	if reply.Repair == nil || l.hasEnded() {
		return
	}
	reply.Repair(func() {
		if l.hasEnded() {
			r.store.Reap(l.claim, store.Lost) // it was released meanwhile
			return
		}
		r.schedule(l, next(time.Now(), min(l.claim.TTL, store.FirstGrant)))
	})
}

// dueHeap orders locks by the time of their next renewal.
type dueHeap []*RedisLock

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
