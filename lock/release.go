package lock

import (
	"context"
	"errors"
	"time"

	"github.com/compozy/cache/lock/internal/store"
)

// Release gives the lock back, and lets whoever waits for it know, in one round trip. It goes ahead even if ctx has
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
	k := l.keeper
	if !k.calls.begin() {
		return l.closedError("release")
	}
	defer k.calls.end()
	begin := time.Now()
	wasHeld, err := l.beginRelease(begin)
	if err != nil {
		return err
	}
	err = ErrRedis                                // if a hook of the client panics
	defer func() { l.endRelease(wasHeld, err) }() // then it can be released again
	ctx, span := k.trace.start(ctx, "lock.release", l.resource)
	err = l.release(ctx, begin)
	span.released(l, err)
	if wasHeld {
		k.metrics.released(err, begin, l.acquired)
	}
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
		l.stopExpiry()
		l.finish(ErrLockNotHeld)
		l.mu.Unlock()
		if held {
			l.keeper.forget(l)
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

// endRelease records how it went. A holder that finds out only now that the lock was lost is notified like any other.
func (l *RedisLock) endRelease(wasHeld bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case errors.Is(err, ErrRedis):
		l.state = stateUnreleased
	case wasHeld && errors.Is(err, ErrLockNotHeld):
		cause := ErrLockStolen
		if errors.Is(err, ErrLockExpired) {
			cause = ErrLockExpired
		}
		l.state, l.cause = stateLost, cause
		if l.lost != nil {
			close(l.lost)
		}
		l.keeper.metrics.countLoss(cause)
	default:
		l.state = stateReleased
	}
}

// release asks Redis to release the lock.
func (l *RedisLock) release(ctx context.Context, begin time.Time) error {
	ctx, cancel := bounded(context.WithoutCancel(ctx), begin, l.keeper.timeouts.release())
	defer cancel()
	r := l.keeper.store.Release(ctx, l.claim)
	if l.repeated {
		l.keeper.store.Reap(l.claim, store.RepeatedAcquire)
	}
	if r.PassedOn {
		l.keeper.metrics.handOffs.Add(1)
	}
	switch r.Outcome {
	case store.Granted:
		return nil
	case store.Refused:
		return lostError("release", l.resource, ErrLockStolen)
	case store.Absent:
		return lostError("release", l.resource, ErrLockExpired)
	default:
		return &RedisError{Op: "release", Resource: l.resource, Err: r.Err}
	}
}
