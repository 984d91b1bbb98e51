package lock

import (
	"context"
	"time"

	"github.com/compozy/cache/lock/internal/store"
)

// Acquire tries once to lock the resource for ttl and returns at once: one round trip, on several nodes to all of them in
// parallel until the majority has decided. The Lock that comes back is a [*RedisLock]; it is renewed until it is released,
// lost, or the manager is closed, and the end of ctx does not change that.
//
// The resource may be any string but the empty one. ttl is at least 10ms; fractions of a millisecond are dropped. A lock
// lasts for 10s at first if ttl is longer, and for ttl with its first renewal, which comes after 3s.
//
// The error matches exactly one of ErrLockNotAcquired (somebody else is there, or waits), the error of ctx, ErrRedis,
// ErrInvalidArgument and ErrManagerClosed. No key is left behind with an error: if the fate of a command is unknown, it
// is undone in the background, and one that arrives even later leaves a key for 10s at most. The end of ctx ends the call
// at once; if a server hangs that has answered quickly until then, a cancellation may take 200ms to be noticed. Acquire is
// safe for concurrent use.
func (m *RedisLockManager) Acquire(ctx context.Context, resource string, ttl time.Duration) (Lock, error) {
	return asLock(m.try(ctx, resource, ttl, nil))
}

// TryAcquire is [RedisLockManager.Acquire] with the richer result: a lock with its fencing token and notice of loss.
func (m *RedisLockManager) TryAcquire(ctx context.Context, resource string, ttl time.Duration) (FencedLock, error) {
	return asFenced(m.try(ctx, resource, ttl, nil))
}

// asLock and asFenced avoid a nil *RedisLock, which would make a Lock that is not nil.
func asLock(l *RedisLock, err error) (Lock, error) {
	if err != nil {
		return nil, err
	}
	return l, nil
}

func asFenced(l *RedisLock, err error) (FencedLock, error) {
	if err != nil {
		return nil, err
	}
	return l, nil
}

// try checks the arguments, and counts and traces an attempt. call is nil for the manager's own settings.
func (m *RedisLockManager) try(ctx context.Context, resource string, ttl time.Duration, call *callSettings) (*RedisLock, error) {
	if m.none() {
		return nil, errNoManager()
	}
	if err := check(ctx, resource, ttl); err != nil {
		return nil, err
	}
	begin := time.Now()
	ctx, span := m.keeper.trace.start(ctx, "lock.acquire", resource)
	l, err := m.tryOnce(ctx, begin, resource, ttl.Truncate(time.Millisecond), m.settings(call))
	m.keeper.metrics.attempted(ctx, err, begin)
	span.acquired(ctx, l, err)
	return l, err
}

// settings returns those of a call, nil for the manager's own.
func (m *RedisLockManager) settings(call *callSettings) callSettings {
	if call == nil {
		return m.set.call
	}
	return *call
}

// check refuses arguments that nothing can be done with.
func check(ctx context.Context, resource string, ttl time.Duration) error {
	switch {
	case ctx == nil:
		return &ArgumentError{Argument: "ctx", Reason: "is nil"}
	case resource == "":
		return &ArgumentError{Argument: "resource", Reason: "is empty"}
	case ttl < minTTL:
		return &ArgumentError{Argument: "ttl", Reason: "is " + ttl.String() + ", less than " + minTTL.String()}
	}
	return nil
}

func (m *RedisLockManager) tryOnce(
	ctx context.Context, begin time.Time, resource string, ttl time.Duration, call callSettings,
) (*RedisLock, error) {
	if ctx.Err() != nil {
		return nil, contextError(ctx, "acquire", resource)
	}
	if !m.calls.begin() {
		return nil, ErrManagerClosed
	}
	defer m.calls.end()
	claim := store.Claim{Keys: store.NewKeys(m.set.prefix, resource), Value: m.newValue(call.owner), TTL: ttl}
	inner, cancel := bounded(ctx, begin, m.set.timeouts.call(ttl))
	defer cancel()
	defer context.AfterFunc(m.closing, cancel)()
	r := m.store.Acquire(inner, claim)
	switch {
	case r.Outcome == store.Granted:
		claim.Token, claim.Sure = r.Token, r.Sure
		g := grant{claim: claim, call: call, resource: resource, sent: begin, acquired: time.Now(), repeated: r.Repeated}
		if !m.keeper.inTime(g) {
			return nil, &RedisError{Op: "acquire", Resource: resource, Err: errTooLate}
		}
		return m.keeper.keep(g)
	case r.Outcome == store.Refused:
		return nil, &NotAcquiredError{Resource: resource, RetryAfter: r.Wait}
	case ended(ctx):
		return nil, contextError(ctx, "acquire", resource)
	case m.closing.Err() != nil:
		return nil, ErrManagerClosed
	default:
		return nil, &RedisError{Op: "acquire", Resource: resource, Err: r.Err}
	}
}
