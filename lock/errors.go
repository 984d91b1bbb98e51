package lock

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/compozy/cache/internal/arguments"
)

// What the errors of this package match with errors.Is. A failed Acquire matches exactly one of [ErrLockNotAcquired],
// the context's own error, [ErrManagerClosed], [ErrInvalidArgument] and [ErrRedis].
var (
	// ErrLockNotAcquired means that somebody else holds the lock, or on several masters that they were split between
	// several who tried. The error that comes back is a [*NotAcquiredError].
	ErrLockNotAcquired = errors.New("lock: not acquired")
	// ErrLockNotHeld means that the lock was released, or lost, before.
	ErrLockNotHeld = errors.New("lock: not held")
	// ErrLockExpired means that the lock was not renewed in time, or that its key was deleted.
	ErrLockExpired = errors.New("lock: expired")
	// ErrLockStolen means that the key carries the value of somebody else, who overwrote it or came after its expiry.
	ErrLockStolen = errors.New("lock: stolen")
	// ErrManagerClosed means that Close has been called.
	ErrManagerClosed = errors.New("lock: manager closed")
	// ErrInvalidArgument means that nothing was sent, as an argument was unusable. The error is an [*ArgumentError].
	ErrInvalidArgument = arguments.ErrInvalid
	// ErrRedis means that Redis could not be reached or refused a command; on several masters, that fewer than a majority
	// have answered. The error is a [*RedisError].
	ErrRedis = errors.New("lock: redis failed")

	errTooLate = errors.New("the answer took longer than the lock lives")
)

// NotAcquiredError says that somebody else holds the lock. It matches [ErrLockNotAcquired].
type NotAcquiredError struct {
	// Resource is what could not be locked.
	Resource string
	// RetryAfter is how long the lock lasts from now unless its holder renews it, 0 if unknown.
	RetryAfter time.Duration
}

// Error implements error.
func (e *NotAcquiredError) Error() string {
	return fmt.Sprintf("%v: %q is held by somebody else", ErrLockNotAcquired, e.Resource)
}

// Is reports whether target is ErrLockNotAcquired.
func (e *NotAcquiredError) Is(target error) bool { return target == ErrLockNotAcquired }

// ArgumentError says which argument cannot be used, and why. It matches [ErrInvalidArgument]. All packages of this module
// share it.
type ArgumentError = arguments.Error

// RedisError is a failure of Redis or of the way to it. It matches [ErrRedis].
type RedisError struct {
	// Op is what was attempted: "acquire", "release", "refresh", "inspect".
	Op string
	// Resource is the resource of the lock.
	Resource string
	// Err is what the client reported, joined for several nodes.
	Err error
}

// Error implements error.
func (e *RedisError) Error() string {
	return fmt.Sprintf("%v: %s %q: %v", ErrRedis, e.Op, e.Resource, e.Err)
}

// Is reports whether target is ErrRedis.
func (e *RedisError) Is(target error) bool { return target == ErrRedis }

// Unwrap returns Err, unless that is a time-out which looks like a context's: network time-outs match
// context.DeadlineExceeded, and a caller must not take them for the end of the context it passed.
func (e *RedisError) Unwrap() error {
	if errors.Is(e.Err, context.DeadlineExceeded) || errors.Is(e.Err, context.Canceled) {
		return nil
	}
	return e.Err
}

// contextError describes the end of the caller's context, and matches its error only: the cause may be anything, such as the
// ErrManagerClosed of another manager.
func contextError(ctx context.Context, op, resource string) error {
	err := ctx.Err()
	if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
		return fmt.Errorf("lock: %s %q: %w: %v", op, resource, err, cause) //nolint:errorlint // on purpose
	}
	return fmt.Errorf("lock: %s %q: %w", op, resource, err)
}

// lostError is what calls on a lost lock return: it matches ErrLockNotHeld and the cause of the loss.
func lostError(op, resource string, cause error) error {
	return fmt.Errorf("%w: %s %q: %w", ErrLockNotHeld, op, resource, cause)
}
