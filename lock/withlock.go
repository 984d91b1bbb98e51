package lock

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"
)

// WithLock waits for the lock as [RedisLockManager.AcquireWait] does, runs fn, and releases the lock, also if fn
// panics. The context of fn descends from ctx and ends with the lock: after a loss its cause, see context.Cause, is
// ErrLockExpired, ErrLockStolen or ErrManagerClosed, and fn should return soon.
//
// It returns what AcquireWait does if there is no lock, without having run fn; otherwise the error of fn, joined with the
// cause if the lock was lost before fn returned: what fn did may have happened without the lock then. A release that
// Redis does not confirm is no error, as fn has run under the lock; it is logged and tried again in the background.
//
// A nil fn is refused with ErrInvalidArgument. Safe for concurrent use.
func (m *RedisLockManager) WithLock(
	ctx context.Context, resource string, ttl time.Duration, fn func(ctx context.Context, l FencedLock) error,
) error {
	return m.withLock(ctx, resource, ttl, fn, nil)
}

func (m *RedisLockManager) withLock(
	ctx context.Context, resource string, ttl time.Duration, fn func(ctx context.Context, l FencedLock) error, call *callSettings,
) (err error) {
	if fn == nil {
		return &ArgumentError{Argument: "fn", Reason: "is nil"}
	}
	l, err := m.wait(ctx, resource, ttl, call)
	if err != nil {
		return err
	}
	inner, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	detach := context.AfterFunc(l.Context(), func() { cancel(context.Cause(l.Context())) })
	defer detach()
	defer func() {
		releaseErr := l.Release(ctx)
		switch {
		case releaseErr == nil, errors.Is(err, releaseErr):
		case errors.Is(releaseErr, ErrRedis):
			m.set.logger.Warn("lock: release failed", zap.String("resource", resource), zap.Error(releaseErr))
		case errors.Is(releaseErr, ErrLockExpired), errors.Is(releaseErr, ErrLockStolen), errors.Is(releaseErr, ErrManagerClosed):
			err = errors.Join(err, releaseErr)
		}
	}()
	return fn(inner, l)
}
