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

	mu      sync.Mutex // guards what follows, and the plans of all locks
	heap    dueHeap
	started bool
	sleeps  time.Time // until when the goroutine means to sleep; zero before it runs
}

func newRenewer(m means) *renewer { return &renewer{means: m, wake: make(chan struct{}, 1)} }

// next is when to renew a lock that was extended to last for ttl from then: two tries may fail, with a time-out even, before
// the third is too late. Jitter keeps locks that were renewed together, as after a pause, from staying in step.
func next(sent time.Time, ttl time.Duration) time.Time {
	return sent.Add(ttl/3 - rand.N(ttl/30+1))
}

// plan is when a lock is due. It is guarded by renewer.mu.
type plan struct {
	renewal time.Time     // when to extend the lock; zero if that is not planned
	sent    time.Time     // when the last renewal was sent, whose outcome decides when the next one is
	usual   time.Time     // when the one after the last that has succeeded is due
	mending time.Time     // when to see to servers that do not have it for as long as the others; zero likewise
	pause   time.Duration // how long to wait before the next mending, 0 if the last one found nothing to do
	index   int           // place in the renewer's heap, -1 if in none
}

// due returns the earlier of the two.
func (p *plan) due() time.Time {
	if p.renewal.IsZero() || !p.mending.IsZero() && p.mending.Before(p.renewal) {
		return p.mending
	}
	return p.renewal
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
	r.watch(l)
}

// schedule arranges for the first renewal of a lock.
func (r *renewer) schedule(l *RedisLock, due time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	l.plan.renewal = due
	r.enter(l)
}

// succeeded arranges for the renewal after one that has succeeded, if the lock is to be renewed further.
func (r *renewer) succeeded(x extension, further bool) {
	l := x.lock
	r.mu.Lock()
	defer r.mu.Unlock()
	usual := next(x.sent, x.claim.TTL)
	if usual.After(l.plan.usual) {
		l.plan.usual = usual
	}
	if x.sent.Before(l.plan.sent) {
		return // a later one is under way, as this one had counted as failed
	}
	switch {
	case further:
		l.plan.renewal = usual
	case l.plan.renewal.IsZero():
		return
	default: // it had counted as failed, and is not to be repeated
		l.plan.renewal = time.Time{}
	}
	r.enter(l)
}

// failed arranges for the repetition of a renewal: at once, unless an earlier one has succeeded meanwhile, which leaves time.
func (r *renewer) failed(x extension) {
	l := x.lock
	r.mu.Lock()
	defer r.mu.Unlock()
	if x.sent.Before(l.plan.sent) {
		return
	}
	due := x.sent.Add(min(l.claim.TTL/10, 500*time.Millisecond)) // which is over, if the renewal took longer
	if due.Before(l.plan.usual) {
		due = l.plan.usual
	}
	l.plan.renewal = due
	r.enter(l)
}

// watch arranges for a mending of a lock that was granted or extended, unless all servers are known to have it for as long
// as its holder relies on it, or another round comes first. That is as soon as the first renewal comes, whether or not the
// lock is renewed otherwise, and then less and less often, as a server may be down for long.
func (r *renewer) watch(l *RedisLock) {
	if l.claim.Lasts(l.Until()) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	due := time.Now().Add(max(l.plan.pause, minPause(l.claim.TTL)))
	if planned := l.plan.due(); planned.IsZero() || due.Before(planned) {
		l.plan.mending = due
		r.enter(l)
	}
}

// minPause is how long to wait for the first mending.
func minPause(ttl time.Duration) time.Duration { return min(ttl, store.FirstGrant) / 3 }

// enter gives a lock its place by what is planned, unless it has ended, as remove may have been called already. The caller
// holds mu.
func (r *renewer) enter(l *RedisLock) {
	switch {
	case r.calls.Closed(), l.hasEnded():
		return
	case l.plan.due().IsZero():
		if l.plan.index >= 0 {
			heap.Remove(&r.heap, l.plan.index)
		}
		return
	case l.plan.index >= 0:
		heap.Fix(&r.heap, l.plan.index)
	default:
		heap.Push(&r.heap, l)
	}
	if !r.started {
		r.started = r.calls.Spawn(r.run)
		return
	}
	r.sleepUntil(l.plan.due())
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
	if l.plan.index >= 0 {
		heap.Remove(&r.heap, l.plan.index)
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
		case <-r.calls.Closing().Done():
			return
		}
		renewals, mendings, pause := r.takeDue()
		r.renew(renewals)
		r.mend(mendings)
		timer.Reset(pause)
	}
}

// takeDue returns the locks to renew now, and those to mend, and for how long to sleep then.
func (r *renewer) takeDue() (renewals, mendings []*RedisLock, pause time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	pause = time.Hour
	for len(r.heap) > 0 {
		l := r.heap[0]
		due := l.plan.due()
		if wait := due.Sub(now); wait > min(l.claim.TTL/30, maxTogether) {
			pause = wait
			break
		}
		heap.Pop(&r.heap)
		r.adjust(l)
		l.plan.mending = time.Time{}
		if due.Equal(l.plan.renewal) {
			l.plan.renewal = time.Time{}
			renewals = append(renewals, l)
			continue
		}
		mendings = append(mendings, l)
		if !l.plan.renewal.IsZero() {
			heap.Push(&r.heap, l)
		}
	}
	r.sleeps = now.Add(pause)
	return renewals, mendings, pause
}

// adjust makes the next pause longer, from the first to a third of the TTL, as long as there is a server to mend. The caller
// holds mu.
func (r *renewer) adjust(l *RedisLock) {
	if l.claim.Lasts(l.Until()) {
		l.plan.pause = 0
		return
	}
	l.plan.pause = min(max(2*l.plan.pause, minPause(l.claim.TTL)), l.claim.TTL/3)
}

// late returns how late the goroutine is, if it is.
func (r *renewer) late() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.started || r.calls.Closed() || r.sleeps.IsZero() {
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
	timeouts := store.Timeouts{Open: maxNodeTimeout, Opening: maxNodeTimeout}
	for _, l := range due {
		x, err := l.extension("renew", now)
		if err != nil { // released or lost in the meantime, or its time is up though the timer does not know: see remaining
			l.expire()
			continue
		}
		r.sent(l, now)
		extensions, claims = append(extensions, x), append(claims, x.claim)
		timeouts = timeouts.Or(r.timeouts.renewal(l.claim.TTL))
	}
	r.store.Renew(claims, timeouts, func(i int, reply store.Reply) { r.renewed(extensions[i], reply) })
}

// sent takes note of a renewal.
func (r *renewer) sent(l *RedisLock, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	l.plan.sent = now
}

// renewed sees to a reply about a lock.
func (r *renewer) renewed(x extension, reply store.Reply) {
	l := x.lock
	switch {
	case reply.Outcome == store.Granted:
		if !l.extend(x) {
			return
		}
		r.metrics.renewals.Add(1)
		r.failing.Over(r.log, "lock: renewals succeed again")
		r.succeeded(x, l.call.renewal && (x.end.IsZero() || l.Until().Before(x.end)))
		r.watch(l)
	case l.hasEnded():
	case reply.Outcome == store.Failed: // the lock is held as long as its time is not up
		r.metrics.renewals.Add(1)
		r.metrics.renewalsFailed.Add(1)
		r.failing.Log(r.log, zap.WarnLevel, "lock: renewal failed",
			zap.String("resource", l.resource), zap.Error(reply.Err), zap.Time("until", l.Until()))
		r.failed(x) // of several servers enough may answer after all: then it has succeeded, too
	default:
		l.lose(lossBy(reply.Outcome))
	}
}

// mend has the store see to servers that do not have locks for as long as their holders rely on them. That moves no lock's
// end: what it does counts with the next renewal or Refresh.
func (r *renewer) mend(due []*RedisLock) {
	for _, l := range due {
		x, err := l.extension("mend", time.Now())
		if err != nil {
			l.expire()
			continue
		}
		r.store.Mend(x.claim, l.Until())
		r.watch(l)
	}
}

// dueHeap orders locks by the time at which they are due.
type dueHeap []*RedisLock

func (h dueHeap) Len() int           { return len(h) }
func (h dueHeap) Less(i, j int) bool { return h[i].plan.due().Before(h[j].plan.due()) }
func (h dueHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].plan.index, h[j].plan.index = i, j
}

// Push implements heap.Interface.
func (h *dueHeap) Push(x any) {
	l, ok := x.(*RedisLock)
	if !ok {
		return
	}
	l.plan.index = len(*h)
	*h = append(*h, l)
}

// Pop implements heap.Interface.
func (h *dueHeap) Pop() any {
	old := *h
	last := len(old) - 1
	l := old[last]
	old[last] = nil
	l.plan.index = -1
	*h = old[:last]
	return l
}
