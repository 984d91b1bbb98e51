package lock

import (
	"context"
	"errors"
	"time"

	"github.com/compozy/cache/internal/redisx"
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
	if err := l.begin(ctx, "release"); err != nil {
		return err
	}
	k := l.keeper
	defer k.calls.End()
	begin := time.Now()
	wasHeld, err := l.beginRelease(begin)
	if err != nil {
		return err
	}
	err = ErrRedis                                // if a hook of the client panics
	defer func() { l.endRelease(wasHeld, err) }() // then it can be released again
	ctx, span := k.trace.start(ctx, "lock.release", l.resource, l.origin)
	err = l.release(ctx, begin)
	switch {
	case err == nil:
		span.finish("released", l, nil)
	case errors.Is(err, ErrLockNotHeld):
		span.finish("lost", l, err)
	default:
		span.finish("error", l, err)
	}
	if wasHeld {
		k.metrics.released(err)
		l.call.class.held(begin.Sub(l.acquired))
	}
	if !wasHeld && errors.Is(err, ErrLockNotHeld) {
		return nil // an earlier try, or the manager in the background, had already succeeded
	}
	return err
}

// begin checks and counts a call. The end of calls has to follow. When the manager has been closed it had released the
// lock, or the lock had ended before.
func (l *RedisLock) begin(ctx context.Context, op string) error {
	switch {
	case l.none():
		return ErrLockNotHeld
	case ctx == nil:
		return &ArgumentError{Argument: "ctx", Reason: "is nil"}
	case l.keeper.calls.Begin():
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state == stateLost {
		return l.notHeld(op)
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
		l.leave(stateReleasing, ErrLockNotHeld)
		l.mu.Unlock()
		if held {
			l.keeper.forget(l)
		}
		return held, nil
	default:
		defer l.mu.Unlock()
		return false, l.notHeld("release")
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
		l.call.class.lost(cause) // first: who hears of the loss may look; Release counts how long it was held
		l.state, l.cause = stateLost, cause
		if l.lost != nil {
			close(l.lost)
		}
	default:
		l.state = stateReleased
	}
}

// release asks Redis to release the lock.
func (l *RedisLock) release(ctx context.Context, begin time.Time) error {
	ctx, cancel := bounded(context.WithoutCancel(ctx), begin, l.keeper.timeouts.release())
	defer cancel()
	r := l.keeper.store.Release(ctx, l.claim)
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

// opRefresh is what errors call a refresh.
const opRefresh = "refresh"

// Refresh makes the lock last for its full TTL from now, in one round trip. It is not needed while renewal is on.
//
// It returns an error matching ErrLockNotHeld if the lock was released or lost, also matching ErrLockExpired,
// ErrLockStolen or ErrManagerClosed after a loss; the error of ctx if that ended first; or one matching ErrRedis, after
// which the lock is as it was before. Safe for concurrent use.
func (l *RedisLock) Refresh(ctx context.Context) error {
	if err := l.begin(ctx, opRefresh); err != nil {
		return err
	}
	defer l.keeper.calls.End()
	err := l.refresh(ctx)
	l.keeper.metrics.refreshes.Add(1)
	if err != nil {
		l.keeper.metrics.refreshesFailed.Add(1)
	}
	return err
}

func (l *RedisLock) refresh(ctx context.Context) error {
	now := time.Now()
	x, err := l.extension(opRefresh, now)
	if err != nil {
		return err
	}
	if ctx.Err() != nil {
		return contextError(ctx, opRefresh, l.resource)
	}
	inner, cancel := bounded(ctx, now, l.keeper.timeouts.call(l.claim.TTL))
	defer cancel()
	r := l.keeper.store.Refresh(inner, x.claim)
	if r.Outcome == store.Failed {
		l.keeper.renewer.watch(l) // a server may have said that it does not have the lock
	}
	switch {
	case r.Outcome == store.Failed && redisx.Ended(ctx):
		return contextError(ctx, opRefresh, l.resource)
	case r.Outcome == store.Failed:
		return &RedisError{Op: opRefresh, Resource: l.resource, Err: r.Err}
	case r.Outcome != store.Granted:
		l.lose(lossBy(r.Outcome))
	case l.extend(x):
		l.keeper.renewer.watch(l)
		return nil
	}
	l.mu.Lock() // it has ended, now or meanwhile
	defer l.mu.Unlock()
	return l.notHeld("refresh")
}

// lossBy returns why a lock is lost after such a reply to an extension.
func lossBy(o store.Outcome) error {
	if o == store.Refused {
		return ErrLockStolen
	}
	return ErrLockExpired
}
