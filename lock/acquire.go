package lock

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"

	"github.com/compozy/cache/internal/redisx"
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
	return m.TryAcquire(ctx, resource, ttl)
}

// TryAcquire is [RedisLockManager.Acquire] with the richer result: a lock with its fencing token and notice of loss.
func (m *RedisLockManager) TryAcquire(ctx context.Context, resource string, ttl time.Duration) (FencedLock, error) {
	return m.acquire(ctx, "lock.acquire", resource, ttl, m.try)
}

// AcquireWait waits for the lock until it gets it or ctx ends. Those who wait are served in the order of arrival, across
// processes too, and woken by the release, not by polling: it reserves the lock for the first of them for a moment, who
// acquires it then, about two round trips after the release. Within a process the callers that wait for the same resource
// take turns, and are one waiter in Redis; one whose TTL is too short for the way to Redis goes to the end of their line.
//
// A plain Acquire does not get ahead of those who wait. A holder or waiter that dies, or a message that is lost, delays
// the next holder by about two seconds at most once the lock is free, and a plain Acquire by about three when all who
// waited have died.
//
// The arguments and the lock are those of Acquire, the error matches exactly one of: the error of ctx, ErrManagerClosed,
// ErrInvalidArgument, and ErrRedis if Redis fails before it has answered anybody who waits for the resource in this process.
// After that waiters outlast failures of Redis until ctx ends. A caller that gives up leaves nothing in Redis. Safe for
// concurrent use.
func (m *RedisLockManager) AcquireWait(ctx context.Context, resource string, ttl time.Duration) (FencedLock, error) {
	return m.acquire(ctx, "lock.wait", resource, ttl, func(ctx context.Context, r request) (*RedisLock, error) {
		return m.queue.wait(ctx, r)
	})
}

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
) (err error) {
	if m.ready() == nil && fn == nil {
		return &ArgumentError{Argument: "fn", Reason: "is nil"}
	}
	l, err := m.AcquireWait(ctx, resource, ttl)
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
			m.keeper.log.Warn("lock: release failed", zap.String("resource", resource), zap.Error(releaseErr))
		case errors.Is(releaseErr, ErrLockExpired), errors.Is(releaseErr, ErrLockStolen), errors.Is(releaseErr, ErrManagerClosed):
			err = errors.Join(err, releaseErr)
		}
	}()
	return fn(inner, l)
}

// request is what a caller asks for.
type request struct {
	resource string
	ttl      time.Duration
	call     callSettings
	begin    time.Time
}

// acquire checks the arguments, and counts and traces what get does.
func (m *RedisLockManager) acquire(
	ctx context.Context, name, resource string, ttl time.Duration, get func(context.Context, request) (*RedisLock, error),
) (FencedLock, error) {
	if err := m.ready(); err != nil {
		return nil, err
	}
	if err := check(ctx, resource, ttl); err != nil {
		return nil, err
	}
	r := request{resource: resource, ttl: ttl.Truncate(time.Millisecond), call: m.call, begin: time.Now()}
	ctx, span := m.keeper.trace.start(ctx, name, resource, nil)
	l, err := get(ctx, r)
	outcome := m.call.class.attempted(ctx, err, r.begin)
	span.finish(outcomeName(outcome), l, err)
	if err != nil {
		return nil, err // and no nil *RedisLock, which would make a FencedLock that is not nil
	}
	l.origin = span.origin()
	return l, nil
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

func (m *RedisLockManager) try(ctx context.Context, req request) (*RedisLock, error) {
	k := m.keeper
	if err := k.begin(ctx, "acquire", req.resource); err != nil {
		return nil, err
	}
	defer k.calls.End()
	inner, cancel := bounded(ctx, req.begin, k.timeouts.call(req.ttl))
	defer cancel()
	defer context.AfterFunc(k.calls.Closing(), cancel)()
	a := k.attempt(req, req.begin)
	r := k.store.Acquire(inner, a.claim)
	switch {
	case r.Outcome == store.Granted && k.granted(&a, r):
		return k.keep(a)
	case r.Outcome == store.Granted:
		return nil, &RedisError{Op: "acquire", Resource: req.resource, Err: errTooLate}
	case r.Outcome == store.Refused:
		return nil, &NotAcquiredError{Resource: req.resource, RetryAfter: r.Wait}
	case redisx.Ended(ctx):
		return nil, contextError(ctx, "acquire", req.resource)
	case k.calls.Closed():
		return nil, ErrManagerClosed
	default:
		return nil, &RedisError{Op: "acquire", Resource: req.resource, Err: r.Err}
	}
}
