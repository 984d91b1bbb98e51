package fxtest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/compozy/cache/lock"
)

// Lock is the lock.FencedLock that all methods of a LockManager acquire. It is safe
// for concurrent use.
type Lock struct {
	manager  *LockManager
	resource string
	ttl      time.Duration
	token    int64
	ctx      context.Context // what Context returns
	cancel   context.CancelCauseFunc
	lost     chan struct{}

	// Guarded by manager.mu.
	ended     error       // what Refresh and Release return; nil while held
	abandoned bool        // Release failed: not held any more, but it may be repeated
	until     time.Time   // when the resource becomes free; zero while the lock is held and renewed
	timer     *time.Timer // fires at until; nil before the first stall
}

var _ lock.FencedLock = (*Lock)(nil)

// Resource returns what was given to Acquire.
func (l *Lock) Resource() string { return l.resource }

// Token returns a number larger than that of every earlier lock of the manager.
func (l *Lock) Token() int64 { return l.token }

// IsHeld reports whether the lock is neither released nor lost.
func (l *Lock) IsHeld() bool {
	l.manager.mu.Lock()
	defer l.manager.mu.Unlock()
	return l.current("") == nil
}

// Lost returns a channel that is closed when the lock is lost, not when it is
// released.
func (l *Lock) Lost() <-chan struct{} { return l.lost }

// Context returns a context that ends with the lock. Its cause is
// lock.ErrLockExpired or lock.ErrManagerClosed after a loss and
// lock.ErrLockNotHeld after Release.
func (l *Lock) Context() context.Context { return l.ctx }

// Until returns the time at which the lock counts as lost unless it is renewed before:
// a whole TTL from now, as locks are renewed all the time, or less after Stall. After
// release or loss it stays as it was.
func (l *Lock) Until() time.Time {
	l.manager.mu.Lock()
	defer l.manager.mu.Unlock()
	if l.until.IsZero() {
		return time.Now().Add(l.ttl)
	}
	return l.until
}

// Release makes the resource free, and gives it to the first waiter, whether ctx has ended or not. It returns an
// error matching lock.ErrLockNotHeld if the lock was released before, or lost;
// then it also matches lock.ErrLockExpired or lock.ErrManagerClosed. After Fail
// it returns a *lock.RedisError, and can be repeated.
func (l *Lock) Release(ctx context.Context) error {
	if ctx == nil {
		return &lock.ArgumentError{Argument: "ctx", Reason: "is nil"}
	}
	l.manager.mu.Lock()
	defer l.manager.mu.Unlock()
	free := l.expire()
	switch err := l.current("release"); {
	case l.abandoned && free: // what the earlier try began has happened since
		l.abandoned = false
		return nil
	case err != nil && !l.abandoned:
		return err
	}
	l.end(lock.ErrLockNotHeld)
	if l.manager.failure != nil {
		if !l.abandoned {
			l.abandoned = true
			l.stall() // nobody renews it any more
		}
		return &lock.RedisError{Op: "release", Resource: l.resource, Err: l.manager.failure}
	}
	l.abandoned = false
	l.free()
	return nil
}

// Refresh gives the lock a whole TTL from now on. It returns an error matching
// lock.ErrLockNotHeld as Release does, ctx's own error, or after Fail a
// *lock.RedisError.
func (l *Lock) Refresh(ctx context.Context) error {
	if ctx == nil {
		return &lock.ArgumentError{Argument: "ctx", Reason: "is nil"}
	}
	l.manager.mu.Lock()
	defer l.manager.mu.Unlock()
	err := l.current("refresh")
	switch {
	case err != nil:
		return err
	case ctx.Err() != nil:
		return contextError(ctx, "refresh", l.resource)
	case l.manager.failure != nil:
		return &lock.RedisError{Op: "refresh", Resource: l.resource, Err: l.manager.failure}
	case l.manager.stalled:
		l.stall()
	}
	return nil
}

// The methods below are called with manager.mu held.

// current returns nil while the lock is held, else what op returns.
func (l *Lock) current(op string) error {
	err := l.ended
	if err == nil && l.remaining() <= 0 {
		err = lock.ErrLockExpired // and the timer is about to say so
	}
	if err == nil || errors.Is(err, lock.ErrLockNotHeld) {
		return err
	}
	return fmt.Errorf("%w: %s %q: %w", lock.ErrLockNotHeld, op, l.resource, err)
}

// remaining returns for how long the resource stays taken if nobody renews it.
func (l *Lock) remaining() time.Duration {
	if l.until.IsZero() {
		return l.ttl
	}
	return time.Until(l.until)
}

// expire frees the resource if its time is over, and reports whether it is free.
func (l *Lock) expire() bool {
	if l.manager.held[l.resource] == l && l.remaining() <= 0 {
		l.lose(lock.ErrLockExpired)
	}
	return l.manager.held[l.resource] != l
}

// lose ends the lock, notifies its holder and frees the resource.
func (l *Lock) lose(reason error) {
	if l.ended == nil {
		close(l.lost)
		l.end(reason)
	}
	l.free()
}

// end makes the lock one that is not held any more.
func (l *Lock) end(reason error) {
	if l.until.IsZero() {
		l.until = time.Now().Add(l.ttl) // where Until stays
	}
	l.ended = reason
	l.cancel(reason)
}

// free gives the resource to the first waiter, or lets others acquire it.
func (l *Lock) free() {
	if l.timer != nil {
		l.timer.Stop()
	}
	if l.manager.held[l.resource] == l {
		delete(l.manager.held, l.resource)
		l.manager.handOver(l.resource)
	}
}

// stall lets the TTL run from now on.
func (l *Lock) stall() {
	l.until = time.Now().Add(l.ttl)
	if l.timer != nil {
		l.timer.Reset(l.ttl)
		return
	}
	l.timer = time.AfterFunc(l.ttl, func() {
		l.manager.mu.Lock()
		defer l.manager.mu.Unlock()
		l.expire()
	})
}
