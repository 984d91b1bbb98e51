package redisx

import (
	"errors"
	"fmt"
	"path"
	"runtime"
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
	// Where is the function that panicked, with file and line.
	Where string
	stack []byte
}

// Error says what the panic was.
func (e *PanicError) Error() string { return "panic: " + PanicText(e.Value) }

// Catch calls f. It returns the error of f, or a [*PanicError].
func Catch(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{v, where(), debug.Stack()}
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

// Go calls f in a goroutine of its own. The channel gets the error of f when that has ended: a [*PanicError] after a panic,
// and [ErrExited] after runtime.Goexit.
func Go(f func() error) <-chan error {
	ended := make(chan error, 1)
	go func() {
		err := ErrExited
		defer func() { ended <- err }()
		err = Catch(f)
	}()
	return ended
}

// Apart is Go that waits for the end of f.
func Apart(f func() error) error { return <-Go(f) }

// where returns which function has panicked, for a deferred function that recovers.
func where() string {
	callers := make([]uintptr, 32)
	frames := runtime.CallersFrames(callers[:runtime.Callers(2, callers)])
	found := "an unknown function"
	for panicking := false; ; {
		frame, more := frames.Next()
		switch {
		case frame.Function == "runtime.gopanic": // the last one: others pass on what they have recovered
			panicking = true
		case panicking && !strings.HasPrefix(frame.Function, "runtime."): // which panics for the likes of nil
			found = fmt.Sprintf("%s (%s:%d)", path.Base(frame.Function), path.Base(frame.File), frame.Line)
			panicking = false
		}
		if !more {
			return found
		}
	}
}
