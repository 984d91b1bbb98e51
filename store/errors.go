package store

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/compozy/cache/internal/arguments"
)

// What the errors of this package match with errors.Is.
var (
	// ErrNotFound means that there is no value. A loader returns it to say so.
	ErrNotFound = errors.New("store: not found")
	// ErrExists means that Create has found a value. The error is a [*ConflictError].
	ErrExists = errors.New("store: exists already")
	// ErrConflict means that another version is there than the one that a write expected. The error is a
	// [*ConflictError].
	ErrConflict = errors.New("store: version conflict")
	// ErrFenced means that a write with a larger fencing token was there before. A larger token
	// refuses nothing before it was written with.
	ErrFenced = errors.New("store: fenced off")
	// ErrUncertain means that a write may have been done, or may be done yet: its reply was lost, and what was found
	// afterwards does not tell. Read to find out, or write again in a way that may happen twice.
	ErrUncertain = errors.New("store: the write may have been done")
	// ErrTooLarge means that a value is larger than WithMaxSize allows.
	ErrTooLarge = errors.New("store: value too large")
	// ErrCodec means that something is stored under the key that cannot be read as a value of this type, or that a value
	// cannot be encoded. What is stored stays as it is.
	ErrCodec = errors.New("store: not a value that can be read or written")
	// ErrUnavailable means that Redis could not be reached or has refused a command. The error is an
	// [*UnavailableError].
	ErrUnavailable = errors.New("store: redis unavailable")
	// ErrOverloaded means that too many loaders run while Redis does not answer.
	ErrOverloaded = errors.New("store: too many loads")
	// ErrLoad means that the loader failed in another process, or a moment ago, see [WithFailurePause].
	ErrLoad = errors.New("store: load failed")
	// ErrLoadTimeout means that the loader took too long.
	ErrLoadTimeout = errors.New("store: load took too long")
	// ErrPanic means that the loader, a codec or a hook of the client panicked, or that the loader called runtime.Goexit. An error
	// with which the loader panicked is matched too, unless it is one of this package or of a context.
	ErrPanic = errors.New("store: panic in loader, codec or client hook")
	// ErrClosed means that Close has been called.
	ErrClosed = errors.New("store: closed")
	// ErrInvalidArgument means that nothing was sent, as an argument was unusable. The error is an [*ArgumentError].
	ErrInvalidArgument = arguments.ErrInvalid
)

// ArgumentError says which argument or option cannot be used, and why. It matches [ErrInvalidArgument]. All packages of
// this module share it.
type ArgumentError = arguments.Error

// ConflictError says what a write has found instead of what it expected. It matches [ErrExists] if the write was a
// Create, and [ErrConflict] otherwise.
type ConflictError[V any] struct {
	// Name is that of the State.
	Name string
	// Key is what was to be written.
	Key string
	// Current is what is there, the zero Item if nothing is.
	Current Item[V]
	// Exists says whether anything is.
	Exists bool

	create bool
}

// Error implements error. It shows no value.
func (e *ConflictError[V]) Error() string {
	switch {
	case e.create:
		return fmt.Sprintf("%v: %q of %q in version %d", ErrExists, e.Key, e.Name, e.Current.Version)
	case e.Exists:
		return fmt.Sprintf("%v: %q of %q is in version %d", ErrConflict, e.Key, e.Name, e.Current.Version)
	default:
		return fmt.Sprintf("%v: %q of %q does not exist", ErrConflict, e.Key, e.Name)
	}
}

// Is reports whether target is ErrExists or ErrConflict, whichever applies.
func (e *ConflictError[V]) Is(target error) bool {
	if e.create {
		return target == ErrExists
	}
	return target == ErrConflict
}

// UnavailableError is a failure of Redis or of the way to it. It matches [ErrUnavailable].
type UnavailableError struct {
	// Op is what was attempted, such as "get" or "put".
	Op string
	// Name is that of the Cache or State, "" for none.
	Name string
	// Key is what it was about, "" for no single key.
	Key string
	// Err is what the client reported, without what a reply quotes of a command and its arguments.
	Err error
}

// Error implements error.
func (e *UnavailableError) Error() string {
	if e.Name == "" {
		return fmt.Sprintf("%v: %s: %v", ErrUnavailable, e.Op, e.Err)
	}
	return fmt.Sprintf("%v: %v: %v", ErrUnavailable, subject{e.Name, e.Op, e.Key}, e.Err)
}

// Is reports whether target is ErrUnavailable.
func (e *UnavailableError) Is(target error) bool { return target == ErrUnavailable }

// Unwrap returns Err, unless that is a time-out which looks like a context's: network time-outs match
// context.DeadlineExceeded, and a caller must not take them for the end of the context it passed.
func (e *UnavailableError) Unwrap() error {
	if errors.Is(e.Err, context.DeadlineExceeded) || errors.Is(e.Err, context.Canceled) {
		return nil
	}
	return e.Err
}

// meansSomething reports whether err matches what a caller takes for something that the store says, or for the end of its
// context.
func meansSomething(err error) bool {
	return slices.ContainsFunc([]error{
		ErrNotFound, ErrExists, ErrConflict, ErrFenced, ErrUncertain, ErrTooLarge, ErrUnavailable, ErrOverloaded, ErrLoad,
		ErrLoadTimeout, ErrPanic, ErrClosed, ErrInvalidArgument, context.Canceled, context.DeadlineExceeded,
	}, func(known error) bool { return errors.Is(err, known) })
}
