package config

import (
	"errors"
	"fmt"
	"strings"
)

// ErrInvalid is matched by every error about a Config's content.
var ErrInvalid = errors.New("config: invalid")

// Error lists everything that is wrong with a Config, in the order of its
// fields. It matches ErrInvalid.
type Error struct {
	Fields []FieldError
}

// Error names each bad field, its value and what is allowed. Secrets are left out.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(ErrInvalid.Error())
	for i, f := range e.Fields {
		if i == 0 {
			b.WriteString(": ")
		} else {
			b.WriteString("; ")
		}
		b.WriteString(f.Error())
	}
	return b.String()
}

// Unwrap returns ErrInvalid and one error per bad field.
func (e *Error) Unwrap() []error {
	errs := make([]error, 0, len(e.Fields)+1)
	errs = append(errs, ErrInvalid)
	for _, f := range e.Fields {
		errs = append(errs, f)
	}
	return errs
}

// FieldError says what is wrong with one field.
type FieldError struct {
	// Field is the Go name of the field, such as "PoolSize".
	Field string
	// Variable is the environment variable that sets it, prefix included when
	// the Config was loaded with one. It is empty for fields that have none.
	Variable string
	// Value is what was found, shortened, without secrets.
	Value string
	// Allowed says what would be accepted.
	Allowed string
	// Hint says where such a value comes from, or how it would be right. It is empty
	// where there is nothing to add.
	Hint string
}

// Error names field, variable, value, what is allowed, and the hint.
func (e FieldError) Error() string {
	name := e.Field
	if e.Variable != "" {
		name += " (" + e.Variable + ")"
	}
	text := fmt.Sprintf("%s is %s, allowed is %s", name, e.Value, e.Allowed)
	if e.Hint != "" {
		text += " (" + e.Hint + ")"
	}
	return text
}
