package fxtest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/compozy/cache/lock"
)

// minTTL is the shortest TTL that a lock manager accepts.
const minTTL = 10 * time.Millisecond

// LockManager is a lock.Locker in memory, for tests that need no Redis. It keeps
// the promises of the interface (see LockerContract) and lets a test do to locks
// what production does: Lose, Stall, Fail. Make one with NewLockManager; it is safe
// for concurrent use, runs no goroutine and works in a testing/synctest bubble.
type LockManager struct {
	mu      sync.Mutex // guards what follows and the state of all locks and waiters
	held    map[string]*Lock
	queues  map[string][]*waiter // no queue is empty
	granted []string
	failure error
	stalled bool
	closed  bool
	token   int64
}

var _ lock.Locker = (*LockManager)(nil)

// NewLockManager returns a lock manager that holds nothing.
func NewLockManager() *LockManager {
	return &LockManager{held: map[string]*Lock{}, queues: map[string][]*waiter{}}
}

// Acquire tries once and returns at once. What it returns is a *Lock, or nil and
// one of: a *lock.ArgumentError (nil ctx, empty resource, TTL below 10 ms), ctx's
// own error, lock.ErrManagerClosed, a *lock.RedisError with the error given to
// Fail, or a *lock.NotAcquiredError if somebody holds the resource.
//
// Like that of Redis, the lock is renewed until it is released or lost: its TTL
// matters only after Stall.
func (m *LockManager) Acquire(ctx context.Context, resource string, ttl time.Duration) (lock.Lock, error) {
	l, err := m.try(ctx, resource, ttl)
	if err != nil {
		return nil, err // not l: a nil *Lock would make a lock.Lock that is not nil
	}
	return l, nil
}

// TryAcquire is Acquire with the richer result.
func (m *LockManager) TryAcquire(ctx context.Context, resource string, ttl time.Duration) (lock.FencedLock, error) {
	l, err := m.try(ctx, resource, ttl)
	if err != nil {
		return nil, err
	}
	return l, nil
}

func (m *LockManager) try(ctx context.Context, resource string, ttl time.Duration) (*Lock, error) {
	if err := check(ctx, resource, ttl); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.ready(ctx, resource); err != nil {
		return nil, err
	}
	if l := m.holder(resource); l != nil {
		return nil, &lock.NotAcquiredError{Resource: resource, RetryAfter: l.remaining()}
	}
	return m.grant(resource, ttl), nil
}

// check refuses arguments that nothing can be done with.
func check(ctx context.Context, resource string, ttl time.Duration) error {
	switch {
	case ctx == nil:
		return &lock.ArgumentError{Argument: "ctx", Reason: "is nil"}
	case resource == "":
		return &lock.ArgumentError{Argument: "resource", Reason: "is empty"}
	case ttl < minTTL:
		return &lock.ArgumentError{Argument: "ttl", Reason: fmt.Sprintf("%v is below %v", ttl, minTTL)}
	}
	return nil
}

// ready returns why nothing can be acquired now, whoever holds what. The caller holds mu.
func (m *LockManager) ready(ctx context.Context, resource string) error {
	switch {
	case ctx.Err() != nil:
		return contextError(ctx, "acquire", resource)
	case m.closed:
		return lock.ErrManagerClosed
	case m.failure != nil:
		return &lock.RedisError{Op: "acquire", Resource: resource, Err: m.failure}
	}
	return nil
}

// holder returns the lock that others are refused for, nil if there is none. The caller
// holds mu.
func (m *LockManager) holder(resource string) *Lock {
	for l := m.held[resource]; l != nil; l = m.held[resource] {
		if !l.expire() { // if it has expired, the first waiter may hold the resource now
			return l
		}
	}
	return nil
}

// grant makes the lock on a free resource. The caller holds mu.
func (m *LockManager) grant(resource string, ttl time.Duration) *Lock {
	m.token++
	l := &Lock{manager: m, resource: resource, ttl: ttl, token: m.token, lost: make(chan struct{})}
	// Not a child of the context of the call: the lock outlives the request that asked for it.
	l.ctx, l.cancel = context.WithCancelCause(context.Background())
	m.held[resource] = l
	m.granted = append(m.granted, resource)
	if m.stalled {
		l.stall()
	}
	return l
}

// Lose makes the holder of resource lose its lock now, as if it had been cut off
// for longer than the TTL: IsHeld turns false, Lost closes, Context ends with
// lock.ErrLockExpired, and others can acquire the resource: the first waiter gets
// it. It reports whether there was a holder.
func (m *LockManager) Lose(resource string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	l := m.holder(resource)
	if l == nil {
		return false
	}
	l.lose(lock.ErrLockExpired)
	return true
}

// Stall stops the renewal of all locks, those to come included, as if this
// process could not reach Redis: each is lost when its TTL, counted from now or
// from its acquisition, is over, and the first waiter gets its resource. A successful
// Refresh gives it another TTL.
// Stalling a stalled manager changes nothing.
func (m *LockManager) Stall() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.stalled {
		return
	}
	m.stalled = true
	for _, l := range m.held {
		l.stall()
	}
}

// Resume ends Stall: locks that are still held are renewed again, lost ones
// stay lost.
func (m *LockManager) Resume() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stalled = false
	for _, l := range m.held {
		if l.timer != nil && !l.expire() && !l.abandoned {
			l.timer.Stop()
			l.until = time.Time{}
		}
	}
}

// Fail makes every later Acquire, TryAcquire, AcquireWait, Refresh and Release fail
// with an error that matches lock.ErrRedis and err, as if Redis could not be
// reached, until Fail(nil). Held locks stay held; use Stall to have them expire. A
// lock whose Release failed is not held any more, but keeps its resource until
// Fail(nil) or the end of its TTL. Callers that wait already go on waiting, and get
// nothing before Fail(nil).
func (m *LockManager) Fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.failure = err
	if err != nil {
		return
	}
	for _, l := range m.held {
		if l.abandoned {
			l.free()
		}
	}
	for resource := range m.queues { // what has become free in the meantime
		m.handOver(resource)
	}
}

// Held returns the resources that others are refused now, sorted.
func (m *LockManager) Held() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var resources []string
	for resource, l := range m.held {
		if l.remaining() > 0 {
			resources = append(resources, resource)
		}
	}
	slices.Sort(resources)
	return resources
}

// Granted returns the resource of every lock, in the order in which they were
// acquired, whether it is still held or not.
func (m *LockManager) Granted() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.granted)
}

// Close wakes those who wait with lock.ErrManagerClosed, releases what is held,
// notifies the holders with the same error and refuses further acquisitions. It
// returns nil, also if ctx has ended, and may be repeated. A nil ctx is refused with a
// *lock.ArgumentError.
func (m *LockManager) Close(ctx context.Context) error {
	if ctx == nil {
		return &lock.ArgumentError{Argument: "ctx", Reason: "is nil"}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	m.wakeAll(lock.ErrManagerClosed) // first, or they would inherit what is released below
	for _, l := range m.held {
		if !l.expire() {
			l.lose(lock.ErrManagerClosed)
		}
	}
	return nil
}

// contextError matches ctx's own error only, and names the cause.
func contextError(ctx context.Context, op, resource string) error {
	err := ctx.Err()
	if cause := context.Cause(ctx); !errors.Is(err, cause) {
		return fmt.Errorf("fxtest: %s %q: %w: %v", op, resource, err, cause) //nolint:errorlint // on purpose
	}
	return fmt.Errorf("fxtest: %s %q: %w", op, resource, err)
}
