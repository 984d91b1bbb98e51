package lock

import (
	"context"
	"crypto/rand"
	"maps"
	"net/url"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/compozy/cache/internal/tasks"
	"github.com/compozy/cache/lock/internal/store"
)

// means is what making locks and renewing them takes.
type means struct {
	store    locks
	metrics  *metrics
	log      *zap.Logger
	calls    *tasks.Tasks // of users, and what follows from them
	timeouts timeouts
}

// keeper is what the locks of a manager share: it makes them, and keeps them until they are released or lost.
type keeper struct {
	means

	trace   tracer
	renewer *renewer
	prefix  string
	id      string // distinguishes the values of processes
	nodes   int    // how many servers a lock lives on

	mu   sync.Mutex // guards held
	held map[*RedisLock]struct{}
}

func newKeeper(set settings, s locks) *keeper {
	m := means{store: s, metrics: newMetrics(set.name), log: set.logger, calls: tasks.New(), timeouts: set.timeouts}
	return &keeper{
		means: m, trace: newTracer(set.tracing), renewer: newRenewer(m), prefix: set.prefix, id: rand.Text()[:16],
		nodes: len(set.nodes), held: make(map[*RedisLock]struct{}),
	}
}

// begin counts a call, unless its context has ended or the manager is closed. The end of calls has to follow.
func (k *keeper) begin(ctx context.Context, op, resource string) error {
	if ctx.Err() != nil {
		return contextError(ctx, op, resource)
	}
	if !k.calls.Begin() {
		return ErrManagerClosed
	}
	return nil
}

// attempt is one to acquire a lock, and once that was granted what its holder has got.
type attempt struct {
	request

	claim    store.Claim // with the TTL that was asked for
	sent     time.Time   // before the command was sent: from here the TTL counts
	acquired time.Time   // when the reply was there
}

func (k *keeper) attempt(r request, sent time.Time) attempt {
	claim := store.NewClaim(store.NewKeys(k.prefix, r.resource), k.newValue(r.call.owner), r.ttl, k.nodes)
	return attempt{request: r, claim: claim, sent: sent}
}

// newValue returns what distinguishes one acquisition from all others, anywhere: the manager, a random part, and the
// owner, see ownerOf.
func (k *keeper) newValue(owner string) string {
	value := k.id + ":" + rand.Text()
	if owner != "" {
		value += ":" + url.QueryEscape(owner)
	}
	return value
}

// granted notes what was granted, and reports whether that can be relied on still. If not it is taken back.
func (k *keeper) granted(a *attempt, r store.Reply) bool {
	a.claim.Token, a.acquired = r.Token, time.Now()
	if remaining(a.until(), a.acquired) > 0 {
		return true
	}
	k.store.Reap(a.claim, store.Unwanted)
	return false
}

// until is how long the holder may rely on the lock before it is extended for the first time.
func (a *attempt) until() time.Time { return a.sent.Add(validity(min(a.claim.TTL, store.FirstGrant))) }

// keep makes a lock and starts what keeps it. It returns ErrManagerClosed, and takes the lock back, if it is too late.
func (k *keeper) keep(a attempt) (*RedisLock, error) {
	l := &RedisLock{
		keeper: k, resource: a.resource, claim: a.claim, call: a.call, acquired: a.acquired, plan: plan{index: -1},
	}
	if a.call.holdAtLeast > 0 {
		l.claim.KeepUntil = a.acquired.Add(a.call.holdAtLeast)
	}
	l.end = l.endFrom(a.sent)
	l.until = limit(a.until(), l.end)
	if !k.add(l) {
		k.store.Reap(a.claim, store.Unwanted)
		return nil, ErrManagerClosed
	}
	// From here on others see the lock.
	l.mu.Lock()
	if l.state == stateHeld {
		l.expiry = time.AfterFunc(time.Until(l.until), l.expire)
	}
	l.mu.Unlock()
	k.renewer.begin(l, a.sent)
	return l, nil
}

// add enters a lock. It reports false when the manager is closing: all reads what is held after that has begun.
func (k *keeper) add(l *RedisLock) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.calls.Closed() {
		return false
	}
	k.held[l] = struct{}{}
	return true
}

// all returns the locks that have not ended.
func (k *keeper) all() []*RedisLock {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Collect(maps.Keys(k.held))
}

// count returns how many locks have not ended.
func (k *keeper) count() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.held)
}

// forget removes a lock from the books.
func (k *keeper) forget(l *RedisLock) {
	k.renewer.remove(l)
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.held, l)
}

// bounded returns a context for a call that began then: it ends with ctx, and after the timeout. At the deadline of ctx it
// ends by itself, as that of another package may be late.
func bounded(ctx context.Context, begin time.Time, timeout time.Duration) (context.Context, context.CancelFunc) {
	end := begin.Add(timeout)
	if deadline, ok := ctx.Deadline(); ok && deadline.Before(end) {
		return context.WithDeadline(undated{ctx}, deadline)
	}
	return context.WithDeadline(ctx, end)
}

// undated is a context whose deadline is somebody else's matter.
type undated struct{ context.Context } //nolint:containedctx // it is one

// Deadline implements context.Context.
func (undated) Deadline() (time.Time, bool) { return time.Time{}, false }
