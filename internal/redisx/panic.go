package redisx

import (
	"errors"
	"fmt"
	"runtime/debug"
)

// PanicError is a panic of somebody else's code, such as a hook of a client, in a goroutine of ours, where it would end the
// process.
type PanicError struct {
	// Value is what was passed to panic.
	Value any
	stack []byte
}

// Error says what the panic was.
func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v", e.Value) }

// Catch calls f. It returns the error of f, or a [*PanicError].
func Catch(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{v, debug.Stack()}
		}
	}()
	return f()
}

// ErrExited means that a hook of a client has ended the goroutine. What became of the command is not known.
var ErrExited = errors.New("a hook of the client has called runtime.Goexit")

// Isolate is Catch in a goroutine of its own, which f may end: it returns ErrExited then.
func Isolate(f func() error) error {
	done := make(chan error, 1)
	go func() {
		err := ErrExited
		defer func() { done <- err }()
		err = Catch(f)
	}()
	return <-done
}

// Raise panics, with what is known of it, if err is a [*PanicError] or wraps one: in the goroutine of the caller who can
// recover.
func Raise(err error) {
	if p, ok := errors.AsType[*PanicError](err); ok {
		panic(fmt.Sprintf("%v\n\nraised in another goroutine, at:\n%s", p.Value, p.stack))
	}
}
