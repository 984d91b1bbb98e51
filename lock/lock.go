package lock

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/compozy/cache/lock/internal/store"
)

// LockManager tries to take locks. [RedisLockManager] is the implementation on Redis; the interface is small so that a
// fake is too. Programs that want to wait, or need fencing tokens, depend on [Locker].
//
//revive:disable-next-line:exported the name is part of the published API
type LockManager interface {
	// Acquire tries once to lock the resource and returns at once. See [RedisLockManager.Acquire] for the errors.
	Acquire(ctx context.Context, resource string, ttl time.Duration) (Lock, error)
}

// Lock is a lock that was acquired.
type Lock interface {
	// Release gives the lock back. It returns an error matching ErrLockNotHeld if it was not held any more.
	Release(ctx context.Context) error
	// Refresh makes the lock last for its full TTL from now.
	Refresh(ctx context.Context) error
	// Resource returns what is locked.
	Resource() string
	// IsHeld reports whether the holder may rely on the lock right now.
	IsHeld() bool
}

// Locker is a [LockManager] with all that its locks can do: fencing tokens, notice of loss, and a fair queue.
// [RedisLockManager] and the fake of package fxtest implement it.
type Locker interface {
	LockManager
	// TryAcquire is Acquire with the richer result. See [RedisLockManager.TryAcquire].
	TryAcquire(ctx context.Context, resource string, ttl time.Duration) (FencedLock, error)
	// AcquireWait queues for the lock until ctx ends. See [RedisLockManager.AcquireWait].
	AcquireWait(ctx context.Context, resource string, ttl time.Duration) (FencedLock, error)
	// WithLock waits for the lock, runs fn with a context that ends with it, and releases it. See
	// [RedisLockManager.WithLock].
	WithLock(ctx context.Context, resource string, ttl time.Duration, fn func(ctx context.Context, l FencedLock) error) error
}

// FencedLock is a [Lock] that has a fencing token and notifies its holder of its loss.
type FencedLock interface {
	Lock
	// Token returns a number larger than that of every earlier lock on the resource.
	Token() int64
	// Lost returns a channel that is closed when the lock is lost, and only then.
	Lost() <-chan struct{}
	// Context returns a context that ends with the lock.
	Context() context.Context
	// Until returns the time at which the lock counts as lost unless it is renewed before.
	Until() time.Time
}

var (
	_ Locker     = (*RedisLockManager)(nil)
	_ FencedLock = (*RedisLock)(nil)
)

// RedisLock is a lock on Redis. It is safe for concurrent use. Its zero value is not usable: acquire one.
type RedisLock struct {
	keeper   *keeper
	resource string
	claim    store.Claim // its value distinguishes this acquisition from every other
	call     callSettings
	acquired time.Time
	origin   *trace.SpanContext // of the call that acquired it; nil without tracing

	plan plan // guarded by renewer.mu

	mu     sync.Mutex // guards what follows
	state  lockState
	until  time.Time
	end    time.Time     // beyond which the lock does not last unless it is refreshed, see endFrom; zero if there is no such time
	cause  error         // why the lock was lost
	lost   chan struct{} // made on demand, closed by loss
	ctx    context.Context
	cancel context.CancelCauseFunc // both made on demand
	expiry *time.Timer             // calls expire; nil once the lock has ended
}

// Resource returns the name given to Acquire.
func (l *RedisLock) Resource() string { return l.orLost().resource }

// String names the lock for logs and for fmt, which would otherwise read what is changing. Safe for concurrent use.
func (l *RedisLock) String() string {
	l = l.orLost()
	return fmt.Sprintf("lock %q with token %d", l.resource, l.claim.Token)
}

// Format writes String, whatever the verb.
func (l *RedisLock) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, l.String()) }

// Token returns the fencing token of this acquisition: larger than that of every earlier acquisition of the resource,
// positive, and below 2^53. Pass it to whatever the lock protects, and let that refuse tokens smaller than the largest
// it has seen.
func (l *RedisLock) Token() int64 { return l.orLost().claim.Token }

// Until returns the time at which the lock counts as lost unless it is renewed before. The key in Redis lives a little
// longer. Renewals move it. After release or loss it stays as it was.
func (l *RedisLock) Until() time.Time {
	l = l.orLost()
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.until
}

// IsHeld reports whether the holder may rely on the lock right now. It compares the clock itself, so that it is right
// even if the process has just been stopped and continued, or the machine suspended. It sends nothing to Redis.
func (l *RedisLock) IsHeld() bool {
	l = l.orLost()
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state == stateHeld && remaining(l.until, time.Now()) > 0
}

// Lost returns a channel that is closed when the lock is lost, and only then: Release does not close it. The loss is
// notified before the key can expire, whatever Redis or the network do.
func (l *RedisLock) Lost() <-chan struct{} {
	l = l.orLost()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lost == nil {
		l.lost = make(chan struct{})
		if l.state == stateLost {
			close(l.lost)
		}
	}
	return l.lost
}

// Context returns a context that ends with the lock. Its cause, see context.Cause, is ErrLockExpired, ErrLockStolen or
// ErrManagerClosed after a loss, and ErrLockNotHeld after Release. It does not descend from the context of Acquire.
func (l *RedisLock) Context() context.Context {
	l = l.orLost()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ctx == nil {
		l.ctx, l.cancel = context.WithCancelCause(context.Background())
		switch l.state {
		case stateHeld:
		case stateLost:
			l.cancel(l.cause)
		default:
			l.cancel(ErrLockNotHeld)
		}
	}
	return l.ctx
}

// none reports whether no manager made l.
func (l *RedisLock) none() bool { return l == nil || l.keeper == nil }

// orLost returns l, or for nil a lock that is not held.
func (l *RedisLock) orLost() *RedisLock {
	if l == nil {
		return &RedisLock{state: stateLost, cause: ErrLockNotHeld}
	}
	return l
}
