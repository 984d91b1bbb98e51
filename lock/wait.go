package lock

import (
	"context"
	"errors"
	"time"
)

// AcquireWait waits until it gets the lock or ctx ends.
func (m *RedisLockManager) AcquireWait(ctx context.Context, resource string, ttl time.Duration) (*RedisLock, error) {
	if err := check(ctx, resource, ttl); err != nil {
		return nil, err
	}
	ttl = ttl.Truncate(time.Millisecond)
	begin := time.Now()
	l, err := m.poll(ctx, resource, ttl)
	m.metrics.acquired(ctx, err, time.Since(begin))
	return l, err
}

func (m *RedisLockManager) poll(ctx context.Context, resource string, ttl time.Duration) (*RedisLock, error) {
	for delay := retryDelay; ; delay = min(2*delay, 250*time.Millisecond) {
		l, err := m.tryAcquire(ctx, resource, ttl)
		if !errors.Is(err, ErrLockNotAcquired) {
			return l, err
		}
		if !pause(ctx, delay) {
			return nil, contextError(ctx, "acquire", resource)
		}
	}
}

// grant is how long a lock that was passed on to a waiter lasts unless it extends it.
func (m *RedisLockManager) grant() time.Duration { return 0 }
