package lock

import (
	"time"

	"go.uber.org/zap"

	"github.com/compozy/cache/lock/internal/store"
)

// keeper is what the locks of a manager share: it makes them, and keeps them until they are released or lost.
type keeper struct {
	store    locks
	metrics  *metrics
	log      *zap.Logger
	trace    tracer
	calls    *tasks
	held     *held
	renewer  *renewer
	timeouts timeouts
}

func newKeeper(set settings, s locks, calls *tasks) *keeper {
	k := &keeper{store: s, held: newHeld(), log: set.logger, trace: newTracer(set.tracing), calls: calls, timeouts: set.timeouts}
	k.metrics = newMetrics(set.name)
	k.renewer = newRenewer(s, k.metrics, set.logger, calls, set.timeouts)
	return k
}

// grant is what a holder has got.
type grant struct {
	claim    store.Claim // with the TTL that was asked for, and the token
	call     callSettings
	resource string
	sent     time.Time // before the command was sent: from here the TTL counts
	acquired time.Time // when the reply was there
	repeated bool      // see store.Reply
}

// inTime reports whether a lock that was granted can be relied on still. If not it is taken back.
func (k *keeper) inTime(g grant) bool {
	if remaining(g.until(), time.Now()) > 0 {
		return true
	}
	k.store.Reap(g.claim)
	return false
}

// until is how long the holder may rely on the lock before it is extended for the first time.
func (g grant) until() time.Time { return g.sent.Add(validity(min(g.claim.TTL, store.FirstGrant))) }

// keep makes a lock and starts what keeps it. It returns ErrManagerClosed, and takes the lock back, if it is too late.
func (k *keeper) keep(g grant) (*RedisLock, error) {
	l := &RedisLock{
		keeper: k, resource: g.resource, claim: g.claim, call: g.call, acquired: g.acquired, repeated: g.repeated,
		sure: g.claim.Sure, index: -1,
	}
	if g.call.holdAtLeast > 0 {
		l.claim.KeepUntil = g.acquired.Add(g.call.holdAtLeast)
	}
	if g.call.maxHold > 0 {
		l.end = g.acquired.Add(g.call.maxHold)
	}
	l.until = l.limit(g.until())
	if !k.held.add(l) {
		k.store.Reap(g.claim)
		return nil, ErrManagerClosed
	}
	// From here on others see the lock.
	l.mu.Lock()
	if l.state == stateHeld {
		l.expiry = time.AfterFunc(time.Until(l.until), l.expire)
	}
	l.mu.Unlock()
	k.renewer.begin(l, g.sent)
	return l, nil
}

// forget removes a lock from the books.
func (k *keeper) forget(l *RedisLock) {
	k.renewer.remove(l)
	k.held.remove(l)
}
