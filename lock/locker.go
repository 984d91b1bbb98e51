package lock

import (
	"context"
	"time"
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
