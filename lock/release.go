package lock

import (
	"context"
	"errors"
	"time"

	"github.com/go-redsync/redsync/v4"
)

// Release gives the lock back, or hands it to whoever waits for it, in one round trip. It goes ahead even if ctx has
// ended, within the node timeout; what ctx carries, such as a trace, is passed on.
//
// It returns an error matching ErrLockNotHeld if the lock was released before, or lost; then it also matches
// ErrLockExpired, ErrLockStolen or ErrManagerClosed. It returns an error matching ErrRedis if Redis failed: the lock is
// not renewed any more, the manager goes on trying in the background, and Release may be called again. A lost reply is
// no failure. Safe for concurrent use.
func (l *RedisLock) Release(ctx context.Context) error {
	if l.none() {
		return ErrLockNotHeld
	}
	if ctx == nil {
		return &ArgumentError{Argument: "ctx", Reason: "is nil"}
	}
	m := l.manager
	if !m.tasks.begin() {
		return l.closedError("release")
	}
	defer m.tasks.end()
	begin := time.Now()
	wasHeld, err := l.beginRelease(begin)
	if err != nil {
		return err
	}
	if l.round != nil {
		l.round.finish()
	}
	err = ErrRedis                       // if a hook of the client panics
	defer func() { l.endRelease(err) }() // then it can be released again
	err = m.release(ctx, begin, l)
	if l.repeated {
		l.cleanUp() // an attempt that was held up would acquire the lock once more, for nobody
	}
	m.metrics.released(err, begin, l.acquired)
	if !wasHeld && errors.Is(err, ErrLockNotHeld) {
		return nil // an earlier try, or the manager in the background, had already succeeded
	}
	return err
}

// closedError is the answer when the manager has been closed. It had released or lost the lock.
func (l *RedisLock) closedError(op string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state == stateLost {
		return lostError(op, l.resource, l.cause)
	}
	return lostError(op, l.resource, ErrManagerClosed)
}

// beginRelease takes the lock out of its holder's hands. It reports whether the lock was held.
func (l *RedisLock) beginRelease(now time.Time) (bool, error) {
	l.mu.Lock()
	held := l.state == stateHeld
	switch {
	case held && remaining(l.until, now) <= 0:
		l.mu.Unlock()
		l.lose(ErrLockExpired) // the timer is late
		return false, lostError("release", l.resource, ErrLockExpired)
	case held, l.state == stateUnreleased:
		l.state = stateReleasing
		l.generation++
		l.end(ErrLockNotHeld)
		l.mu.Unlock()
		if held {
			l.manager.forget(l)
		}
		return held, nil
	case l.state == stateLost:
		defer l.mu.Unlock()
		return false, lostError("release", l.resource, l.cause)
	default:
		l.mu.Unlock()
		return false, ErrLockNotHeld
	}
}

// endRelease records how it went.
func (l *RedisLock) endRelease(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case errors.Is(err, ErrRedis):
		l.state = stateUnreleased
	case errors.Is(err, ErrLockNotHeld):
		l.state, l.cause = stateLost, ErrLockStolen
		if errors.Is(err, ErrLockExpired) {
			l.cause = ErrLockExpired
		}
	default:
		l.state = stateReleased
	}
}

// release asks the nodes to release a lock and waits for the majority.
func (m *RedisLockManager) release(ctx context.Context, begin time.Time, l *RedisLock) error {
	r := m.newRound(context.WithoutCancel(ctx), begin, releasing, l.keys, l.value, l.ttl, askRelease)
	defer r.done()
	err := r.decide(func(mutex *redsync.Mutex) error { return orNoMajority(mutex.UnlockContext(r.context())) })
	if err == nil {
		if l.round != nil {
			r.finishRelease(l.round)
		}
		return nil
	}
	t := r.tally()
	switch {
	case t.failed > 0 && t.granted+t.failed >= m.quorum():
		r.sweep()
		return &RedisError{Op: "release", Resource: l.resource, Err: t.err()}
	case t.refused > t.missing:
		return lostError("release", l.resource, ErrLockStolen)
	default:
		return lostError("release", l.resource, ErrLockExpired)
	}
}

// orNoMajority translates the results of redsync's calls. Its errors are dropped, as the round has more to say.
func orNoMajority(ok bool, _ error) error {
	if !ok {
		return errNoMajority
	}
	return nil
}

// sweep leaves the nodes that failed to release to the janitor.
func (r *round) sweep() {
	for i, v := range r.snapshot() {
		if v.outcome == failed || v.outcome == pending {
			r.manager.janitor.add(debris{
				node: r.manager.nodes[i], keys: r.keys, value: r.value, until: time.Now().Add(cleanupTime(r.ttl)),
			})
		}
	}
}

// askRelease runs the release script on a node.
func askRelease(r *round, n *node) vote {
	reply, repeated, err := n.number(r, n.releaseCall(r.keys, r.value, false))
	switch {
	case err != nil:
		return vote{outcome: failed, err: err}
	case reply == releasedToHeir:
		r.manager.metrics.handOffs.Add(1)
		return vote{outcome: granted}
	case reply > 0 || repeated: // if an earlier try may have been executed, the absence of the key is its success
		return vote{outcome: granted}
	case reply < 0:
		return vote{outcome: missing}
	default:
		return vote{outcome: refused}
	}
}

// releasedToHeir is the reply of the release script when a waiter has the lock now.
const releasedToHeir = 2

// releaseCall asks the release script; leave takes a waiter off the queue as well.
func (n *node) releaseCall(k keys, value string, leave bool) call {
	if leave {
		return newCall(n.scripts.release, k.list(), value, "1")
	}
	return newCall(n.scripts.release, k.list(), value)
}
