package load

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"
)

// ErrTimeout means that a loader took longer than its limit.
var ErrTimeout = errors.New("the loader took too long")

// PanicError says that a loader panicked, or called runtime.Goexit.
type PanicError struct {
	// Value is what the loader panicked with, nil for Goexit.
	Value any
	// Stack is where it happened.
	Stack []byte
}

// Error describes the panic without the stack.
func (e *PanicError) Error() string {
	if e.Value == nil {
		return "the loader called runtime.Goexit"
	}
	return fmt.Sprintf("the loader panicked: %v", e.Value)
}

// Unwrap returns the value of the panic if that is an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

// Panicked reports whether err, which Run has returned, says that its own f has panicked. What f has called may also have done so,
// in a Run of its own: that is an error which f returns.
func Panicked(err error) bool {
	_, ok := err.(*PanicError) //nolint:errorlint // which Run returns as it is
	return ok
}

// Run runs f in a goroutine of its own and returns what f does. The context of f has the values of ctx, but ends with the
// limit, or with closing, only. Then Run returns [ErrTimeout], or closing's cause, even if f goes on: spawn, which starts the
// goroutine, has to keep track of it. A panic of f, or its call of runtime.Goexit, comes back as a [*PanicError].
func Run[T any](
	ctx, closing context.Context, limit time.Duration, spawn func(func()), f func(context.Context) (T, error),
) (T, error) {
	ctx, end := Limited(context.WithoutCancel(ctx), closing, limit, ErrTimeout)
	results := make(chan result[T], 1)
	spawn(func() {
		var r result[T]
		returned := false
		defer func() { // Goexit runs it, but nothing after it
			if !returned {
				r = result[T]{err: &PanicError{Value: recover(), Stack: debug.Stack()}}
			}
			results <- r
			end()
		}()
		r.value, r.err = f(ctx)
		returned = true
	})
	select {
	case r := <-results:
		return r.value, explained(ctx, r.err)
	case <-ctx.Done():
	}
	select {
	case r := <-results: // at the same time
		return r.value, explained(ctx, r.err)
	default:
	}
	var none T
	return none, context.Cause(ctx)
}

// Limited returns ctx with a limit, whose cause is late, that ends with closing as well, and has its cause then. The caller
// ends it.
func Limited(ctx, closing context.Context, limit time.Duration, late error) (limited context.Context, end context.CancelFunc) {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, late)
	ctx, cancelCause := context.WithCancelCause(ctx)
	stop := context.AfterFunc(closing, func() { cancelCause(context.Cause(closing)) })
	return ctx, func() {
		stop()
		cancelCause(nil)
		cancel()
	}
}

type result[T any] struct {
	value T
	err   error
}

// explained returns err, and if that is the end of the loader's own context, says why.
func explained(ctx context.Context, err error) error {
	if Panicked(err) {
		return err
	}
	if cause := context.Cause(ctx); err != nil && cause != nil && errors.Is(err, ctx.Err()) && !errors.Is(err, cause) {
		return fmt.Errorf("%w: %w", cause, err)
	}
	return err
}
