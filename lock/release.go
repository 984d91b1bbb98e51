package lock

import (
	"context"
	"errors"
	"time"

	"github.com/go-redsync/redsync/v4"
)

// releaseTries is how often a release is sent when replies get lost.
const releaseTries = 3

// Release gives the lock back, or hands it to whoever waits for it, in one round trip. It goes ahead even if ctx has
// ended, within the node timeout; what ctx carries, such as a trace, is passed on.
//
// It returns an error matching ErrLockNotHeld if the lock was released before, or lost; then it also matches
// ErrLockExpired, ErrLockStolen or ErrManagerClosed. It returns an error matching ErrRedis if Redis failed: the lock is
// not renewed any more, the manager goes on trying in the background, and Release may be called again. A lost reply is
// no failure. Safe for concurrent use.
func (l *RedisLock) Release(ctx context.Context) error {
	if ctx == nil {
		return &ArgumentError{Argument: "ctx", Reason: "is nil"}
	}
	m := l.manager
	if !m.tasks.begin() {
		return l.closedError("release")
	}
	defer m.tasks.end()
	begin := time.Now()
	wasHeld, err := l.beginRelease()
	if err != nil {
		return err
	}
	if l.round != nil {
		l.round.finish()
	}
	err = m.release(ctx, l)
	l.endRelease(err)
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
func (l *RedisLock) beginRelease() (bool, error) {
	l.mu.Lock()
	held := l.state == stateHeld
	switch {
	case held && !time.Now().Before(l.until):
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
func (m *RedisLockManager) release(ctx context.Context, l *RedisLock) error {
	r := m.newRound(ctx, releasing, l.keys, l.value, l.ttl, askRelease)
	err := r.decide(func(mutex *redsync.Mutex) error { return orNoMajority(mutex.UnlockContext(r.context())) })
	if err == nil {
		return nil
	}
	t := count(r.snapshot())
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

// askRelease runs the release script on a node, again if its reply gets lost. go-redis must not do that by itself: if
// an earlier try may have been executed, the absence of the key is its success.
func askRelease(r *round, n *node) vote {
	args := n.releaseArgs(r.value, false)
	var err error
	for try := range releaseTries {
		if try > 0 && !r.pause(retryDelay) {
			break
		}
		var reply int64
		if reply, err = n.number(r, releaseScript, releaseKeys(r.keys), args, true); err != nil {
			continue
		}
		switch {
		case reply > 0 || try > 0:
			if reply == releasedToHeir {
				r.manager.metrics.handOffs.Add(1)
			}
			return vote{outcome: granted}
		case reply < 0:
			return vote{outcome: missing}
		default:
			return vote{outcome: refused}
		}
	}
	return vote{outcome: failed, err: err}
}

// releasedToHeir is the reply of the release script when a waiter has the lock now.
const releasedToHeir = 2

func releaseKeys(k keys) []any { return []any{k.lock, k.fence, k.queue(), k.seen()} }

// releaseArgs returns the arguments of the release script; leave takes a waiter off the queue as well.
func (n *node) releaseArgs(value string, leave bool) []any {
	if leave {
		return []any{value, n.rules, "1"}
	}
	return []any{value, n.rules}
}

// retryDelay is the pause before something that failed is sent again.
const retryDelay = 5 * time.Millisecond

// pause waits and reports whether there is still time, and interest, after it.
func (r *round) pause(d time.Duration) bool {
	timer := time.NewTimer(min(d, r.left()))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-r.quit:
	case <-r.closing:
	}
	return r.ended() == nil
}

// pause waits and reports whether it did: false means that ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
