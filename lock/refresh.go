package lock

import (
	"context"
	"time"

	"github.com/compozy/cache/lock/internal/store"
)

// Refresh makes the lock last for its full TTL from now, in one round trip. It is not needed while renewal is on.
//
// It returns an error matching ErrLockNotHeld if the lock was released or lost, also matching ErrLockExpired,
// ErrLockStolen or ErrManagerClosed after a loss; the error of ctx if that ended first; or one matching ErrRedis, after
// which the lock is as it was before. Safe for concurrent use.
func (l *RedisLock) Refresh(ctx context.Context) error {
	if l.none() {
		return ErrLockNotHeld
	}
	if ctx == nil {
		return &ArgumentError{Argument: "ctx", Reason: "is nil"}
	}
	k := l.keeper
	if !k.calls.begin() {
		return l.closedError("refresh")
	}
	defer k.calls.end()
	err := l.refresh(ctx)
	k.metrics.refreshed(err)
	return err
}

func (l *RedisLock) refresh(ctx context.Context) error {
	now := time.Now()
	x, err := l.extension("refresh", now)
	if err != nil {
		return err
	}
	if ctx.Err() != nil {
		return contextError(ctx, "refresh", l.resource)
	}
	inner, cancel := bounded(ctx, now, l.keeper.timeouts.call(l.claim.TTL))
	defer cancel()
	r := l.keeper.store.Refresh(inner, x.claim)
	switch {
	case r.Outcome == store.Granted && l.extend(x):
		return nil
	case r.Outcome == store.Granted:
		return l.ended("refresh") // meanwhile
	case r.Outcome != store.Failed:
		l.lose(lossBy(r.Outcome))
		return l.ended("refresh")
	case ended(ctx):
		return contextError(ctx, "refresh", l.resource)
	default:
		return &RedisError{Op: "refresh", Resource: l.resource, Err: r.Err}
	}
}

// ended returns why the lock is not held any more.
func (l *RedisLock) ended(op string) error {
	if _, err := l.extension(op, time.Now()); err != nil {
		return err
	}
	return ErrLockNotHeld
}

// lossBy returns why a lock is lost after such a reply to an extension.
func lossBy(o store.Outcome) error {
	if o == store.Refused {
		return ErrLockStolen
	}
	return ErrLockExpired
}
