package lock

import (
	"context"
	"slices"
	"time"
)

// With returns a view of the manager whose calls have settings of their own: [WithOwner], [WithMaxHold],
// [WithHoldAtLeast], [WithRenewal]; what is not given is as the manager has it. The locks are the manager's, which
// counts, renews and closes them. Options for the whole manager make the calls of the view fail with ErrInvalidArgument,
// and so do values that cannot be used. Safe for concurrent use.
func (m *RedisLockManager) With(opts ...Option) Locker {
	if m.none() {
		return &view{manager: m, err: errNoManager()}
	}
	s := settings{call: m.set.call}
	v := &view{manager: m}
	if slices.ContainsFunc(opts, func(o Option) bool { return o == nil }) {
		v.err = &ArgumentError{Argument: "opts", Reason: "contains nil"}
		return v
	}
	for _, opt := range opts {
		opt(&s)
	}
	if v.call, v.err = s.call, s.call.check(); s.whole != "" {
		v.err = &ArgumentError{Argument: s.whole, Reason: "is for a whole manager: pass it to NewRedisLockManager"}
	}
	return v
}

// view is what With returns.
type view struct {
	manager *RedisLockManager
	call    callSettings
	err     error // why no call can succeed
}

// Acquire implements LockManager.
func (v *view) Acquire(ctx context.Context, resource string, ttl time.Duration) (Lock, error) {
	if v.err != nil {
		return nil, v.err
	}
	return asLock(v.manager.try(ctx, resource, ttl, &v.call))
}

// TryAcquire implements Locker.
func (v *view) TryAcquire(ctx context.Context, resource string, ttl time.Duration) (FencedLock, error) {
	if v.err != nil {
		return nil, v.err
	}
	return asFenced(v.manager.try(ctx, resource, ttl, &v.call))
}

// AcquireWait implements Locker.
func (v *view) AcquireWait(ctx context.Context, resource string, ttl time.Duration) (FencedLock, error) {
	if v.err != nil {
		return nil, v.err
	}
	return asFenced(v.manager.wait(ctx, resource, ttl, &v.call))
}

// WithLock implements Locker.
func (v *view) WithLock(
	ctx context.Context, resource string, ttl time.Duration, fn func(ctx context.Context, l FencedLock) error,
) error {
	if v.err != nil {
		return v.err
	}
	return v.manager.withLock(ctx, resource, ttl, fn, &v.call)
}
