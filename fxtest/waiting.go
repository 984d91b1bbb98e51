package fxtest

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/compozy/cache/lock"
)

// waiter is a call of AcquireWait that has to wait.
type waiter struct {
	ctx  context.Context
	ttl  time.Duration
	turn chan struct{} // closed when lock or err is set

	// Guarded by the manager's mu. Both are nil while it waits, and after the end of ctx.
	lock *Lock
	err  error
}

// AcquireWait waits until it gets the lock or ctx ends. Callers that wait for the
// same resource get it in the order in which they came, as soon as it is free, and
// before any Acquire. The lock, a *Lock, is that of Acquire.
//
// The error is one of: a *lock.ArgumentError, ctx's own error, lock.ErrManagerClosed
// (also if Close is called during the wait), and after Fail a *lock.RedisError, unless
// the call waits already. A caller that gives up leaves nothing behind.
func (m *LockManager) AcquireWait(ctx context.Context, resource string, ttl time.Duration) (lock.FencedLock, error) {
	l, err := m.wait(ctx, resource, ttl)
	if err != nil {
		return nil, err
	}
	return l, nil
}

func (m *LockManager) wait(ctx context.Context, resource string, ttl time.Duration) (*Lock, error) {
	if err := check(ctx, resource, ttl); err != nil {
		return nil, err
	}
	w, err := m.join(ctx, resource, ttl)
	if err != nil {
		return nil, err
	}
	select {
	case <-w.turn:
	case <-ctx.Done():
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.leave(resource, w)
	switch {
	case w.lock != nil: // even if ctx ended at the same time
		return w.lock, nil
	case w.err != nil:
		return nil, w.err
	}
	return nil, contextError(ctx, "acquire", resource)
}

// join returns a waiter that has the lock already, or stands in the queue.
func (m *LockManager) join(ctx context.Context, resource string, ttl time.Duration) (*waiter, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.ready(ctx, resource); err != nil {
		return nil, err
	}
	w := &waiter{ctx: ctx, ttl: ttl, turn: make(chan struct{})}
	m.queues[resource] = append(m.queues[resource], w)
	if m.holder(resource) == nil {
		m.handOver(resource)
	}
	return w, nil
}

// WithLock waits for the lock as AcquireWait does, runs fn, and releases the lock, also
// if fn panics. The context of fn descends from ctx and ends with the lock: after a loss
// its cause, see context.Cause, is lock.ErrLockExpired or lock.ErrManagerClosed.
//
// It returns what AcquireWait does if there is no lock, without having run fn;
// otherwise the error of fn, joined with the cause if the lock was lost before fn
// returned. A release that fails because of Fail is no error, as fn has run under the
// lock: the resource becomes free with Fail(nil) or the end of the TTL. A nil fn is
// refused with a *lock.ArgumentError.
func (m *LockManager) WithLock(
	ctx context.Context, resource string, ttl time.Duration, fn func(ctx context.Context, l lock.FencedLock) error,
) (err error) {
	if fn == nil {
		return &lock.ArgumentError{Argument: "fn", Reason: "is nil"}
	}
	l, err := m.wait(ctx, resource, ttl)
	if err != nil {
		return err
	}
	inner, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	detach := context.AfterFunc(l.ctx, func() { cancel(context.Cause(l.ctx)) })
	defer detach()
	defer func() {
		released := l.Release(ctx)
		if errors.Is(released, lock.ErrLockExpired) || errors.Is(released, lock.ErrManagerClosed) {
			err = errors.Join(err, released)
		}
	}()
	return fn(inner, l)
}

// Waiting returns how many callers wait for the resource now. With it a test that runs
// in no bubble knows that a caller has taken its place in the queue.
func (m *LockManager) Waiting(resource string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.queues[resource])
}

// The methods below are called with mu held.

// handOver gives the resource, if it is free, to the first waiter whose context has not
// ended. While Redis fails nobody gets it.
func (m *LockManager) handOver(resource string) {
	for m.failure == nil && m.held[resource] == nil && len(m.queues[resource]) > 0 {
		w := m.queues[resource][0]
		m.leave(resource, w)
		if w.ctx.Err() != nil {
			continue // it is about to return that
		}
		w.lock = m.grant(resource, w.ttl)
		close(w.turn)
	}
}

// leave takes a waiter out of the queue, if it is there.
func (m *LockManager) leave(resource string, w *waiter) {
	queue := slices.DeleteFunc(m.queues[resource], func(other *waiter) bool { return other == w })
	if len(queue) == 0 {
		delete(m.queues, resource)
		return
	}
	m.queues[resource] = queue
}

// wakeAll ends all waiting with err.
func (m *LockManager) wakeAll(err error) {
	for resource, queue := range m.queues {
		for _, w := range queue {
			w.err = err
			close(w.turn)
		}
		delete(m.queues, resource)
	}
}
