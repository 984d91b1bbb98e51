package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/compozy/cache/internal/redisx"
)

// subject is what an error is about: a call of a Cache or State, and its key.
type subject struct {
	name string // of the Cache or State
	op   string // such as "get"
	key  string // "" for no single key
}

// String returns the subject as errors show it.
func (s subject) String() string {
	if s.key == "" {
		return fmt.Sprintf("%s of %q", s.op, s.name)
	}
	return fmt.Sprintf("%s %q of %q", s.op, s.key, s.name)
}

// wrap says what failed in which call. err is a sentinel of this package, or what wraps one.
func (s subject) wrap(err error) error { return fmt.Errorf("%w: %v", err, s) }

// ended describes the end of the caller's context.
func (s subject) ended(ctx context.Context) error {
	err := ctx.Err()
	if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
		return fmt.Errorf("store: %v: %w: %w", s, err, cause)
	}
	return fmt.Errorf("store: %v: %w", s, err)
}

// unavailable describes a call that Redis did not answer, or that ended with its caller's context.
func (s subject) unavailable(ctx context.Context, err error) error {
	if redisx.Ended(ctx) {
		return s.ended(ctx)
	}
	return &UnavailableError{Op: s.op, Name: s.name, Key: s.key, Err: redisx.Discreet(err)}
}
