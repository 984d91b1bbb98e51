package health

import (
	"context"
	"fmt"
	"time"
)

// DefaultTimeout is what a check may take when its Timeout is zero.
const DefaultTimeout = time.Second

// Kind says what a failed check means for the instance.
type Kind string

const (
	// Readiness means that the instance should get no traffic while the check
	// fails. It is the kind of a check that names none.
	Readiness Kind = "readiness"
	// Liveness means that the instance should be started again when the check
	// fails.
	Liveness Kind = "liveness"
)

// Check is one question about the health of the process or of what it needs.
type Check struct {
	// Name identifies the check in the report, such as "redis". Two checks of
	// one kind with the same name are told apart by a number: "redis",
	// "redis#2". It must not be empty.
	Name string
	// Kind is Readiness or Liveness; empty means Readiness.
	Kind Kind
	// Timeout is what the check may take; zero means DefaultTimeout, 1s. The
	// context given to Func ends a tenth earlier, so that a check that obeys
	// its context still has the time to say what it was waiting for.
	Timeout time.Duration
	// Func returns nil when all is well. It must be safe for concurrent use
	// with whatever else uses the same objects, but is itself never run twice
	// at a time by one Health. Its context carries the values of the probe that
	// caused the run and is not cancelled with it, because others may wait for
	// the same run.
	Func func(ctx context.Context) error
	// Warnings, which may be nil, returns what Func found that is no failure but
	// that somebody should know. It is called after each run of Func that
	// succeeded, must return at once, and be safe for concurrent use.
	Warnings func() []string
}

// CheckError says what is wrong with a Check.
type CheckError struct {
	Check  string // the name of the check, possibly empty
	Field  string // the field at fault: Name, Kind, Timeout or Func
	Reason string // what is allowed
}

// Error names the check, the field and what is allowed.
func (e *CheckError) Error() string {
	return fmt.Sprintf("health: check %q: %s %s", e.Check, e.Field, e.Reason)
}

// Validate returns a *CheckError for the first field that is not as documented,
// or nil.
func (c Check) Validate() error {
	switch {
	case c.Name == "":
		return &CheckError{Check: c.Name, Field: "Name", Reason: "must not be empty"}
	case c.Kind != "" && c.Kind != Readiness && c.Kind != Liveness:
		return &CheckError{Check: c.Name, Field: "Kind", Reason: fmt.Sprintf("is %q, must be %q, %q or empty", c.Kind, Readiness, Liveness)}
	case c.Timeout < 0:
		return &CheckError{Check: c.Name, Field: "Timeout", Reason: fmt.Sprintf("is %v, must be positive, or 0 for %v", c.Timeout, DefaultTimeout)}
	case c.Func == nil:
		return &CheckError{Check: c.Name, Field: "Func", Reason: "must not be nil"}
	}
	return nil
}

// normalized returns c with its defaults filled in. An invalid check becomes a
// failing readiness check: the mistake is seen in the first report and keeps
// the instance out of traffic, but does not have it restarted for ever.
func (c Check) normalized() Check {
	if err := c.Validate(); err != nil {
		name := c.Name
		if name == "" {
			name = "unnamed"
		}
		return Check{Name: name, Kind: Readiness, Timeout: DefaultTimeout, Func: func(context.Context) error { return err }}
	}
	if c.Kind == "" {
		c.Kind = Readiness
	}
	if c.Timeout == 0 {
		c.Timeout = DefaultTimeout
	}
	return c
}
