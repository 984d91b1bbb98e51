// Package arguments holds the one error for arguments that cannot be used. The
// packages of this module export it under their own names.
package arguments

import "errors"

// ErrInvalid matches every Error.
var ErrInvalid = errors.New("cache: invalid argument")

// Error says which argument, or option, was refused and why. Nothing was sent to
// Redis. It matches ErrInvalid and, where there is one, the error behind it.
type Error struct {
	// Argument is the name of the parameter or option, such as "ttl", "event.ID",
	// "events[3].ID" or "WithNodes".
	Argument string
	// Reason completes the sentence that Argument begins: "is empty".
	Reason string
	// Err is the underlying error, or nil.
	Err error
}

// Error names the argument and what is wrong with it.
func (e *Error) Error() string {
	text := ErrInvalid.Error() + ": " + e.Argument + " " + e.Reason
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

// Unwrap returns the underlying error, or nil.
func (e *Error) Unwrap() error { return e.Err }

// Is makes every Error match ErrInvalid.
func (e *Error) Is(target error) bool { return target == ErrInvalid }
