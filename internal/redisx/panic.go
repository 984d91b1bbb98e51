package redisx

import (
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
)

// ErrExited means that somebody else's code has ended a goroutine of ours, by runtime.Goexit.
var ErrExited = errors.New("a hook of the client has called runtime.Goexit")

// PanicError is a panic of somebody else's code, such as a hook of a client, in a goroutine of ours, where it would end the
// process.
type PanicError struct {
	// Value is what was passed to panic.
	Value any
	stack []byte
}

// Error says what the panic was.
func (e *PanicError) Error() string { return "panic: " + PanicText(e.Value) }

// Catch calls f. It returns the error of f, or a [*PanicError].
func Catch(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{v, debug.Stack()}
		}
	}()
	return f()
}

// Raise panics, with what is known of it, if err is a [*PanicError] or wraps one: in the goroutine of the caller who can
// recover.
func Raise(err error) {
	if p, ok := errors.AsType[*PanicError](err); ok {
		panic(fmt.Sprintf("%v\n\nraised in another goroutine, at:\n%s", p.Value, p.stack))
	}
}

// PanicText returns what is to be said of what was recovered: without the stacks that [Raise], and others that pass on a panic,
// have added.
func PanicText(v any) string {
	if v == nil {
		return "runtime.Goexit was called"
	}
	text, _, _ := strings.Cut(fmt.Sprint(v), "\n\nraised ")
	return text
}

// Apart calls f in a goroutine of its own, and returns its error when that has ended: a [*PanicError] after a panic, and
// [ErrExited] after runtime.Goexit.
func Apart(f func() error) error {
	done := make(chan error, 1)
	go func() {
		err := ErrExited
		defer func() { done <- err }()
		err = Catch(f)
	}()
	return <-done
}
