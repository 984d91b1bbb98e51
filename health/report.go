package health

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"time"
)

// Status is the outcome of a check, or of all of them.
type Status string

const (
	// OK means that the check, or every check, succeeded.
	OK Status = "ok"
	// Failing means that the check, or at least one, did not.
	Failing Status = "failing"
)

// Report is the outcome of one Run.
type Report struct {
	Status Status    `json:"status"` // Failing when one check is
	Time   time.Time `json:"time"`   // when the run began
	Checks []Result  `json:"checks"` // sorted by name; never nil
}

// Err returns nil when all checks succeeded, else the errors of those that did
// not, joined, each with the name of its check.
func (r Report) Err() error {
	var errs []error
	for _, c := range r.Checks {
		if c.Status != OK {
			errs = append(errs, fmt.Errorf("health: %s: %w", c.Name, c.Err))
		}
	}
	return errors.Join(errs...)
}

// Result is the outcome of one check.
type Result struct {
	Name   string
	Kind   Kind
	Status Status
	// Error is the text of Err, empty when there is none. What stands between
	// "//" and "@" of a URL in it is replaced by "***".
	Error string
	// Err is what the check returned, or an error that matches ErrTimeout,
	// ErrHanging, *PanicError or the probe's context error. It is not part of
	// the JSON, and nothing is removed from it.
	Err error
	// Latency is what the check took, or, if it has not returned, how long it
	// has been running. In JSON it is latency_ms, a number of milliseconds.
	Latency time.Duration
	// Warnings is what the check found beside its success, redacted like Error.
	// They change no status. In JSON they are left out if there are none.
	Warnings []string
}

func newResult(c Check, latency time.Duration, warnings []string, err error) Result {
	result := Result{Name: c.Name, Kind: c.Kind, Status: OK, Err: err, Latency: latency}
	if err != nil {
		result.Status = Failing
		result.Error = redact(err.Error())
	}
	for _, w := range warnings {
		result.Warnings = append(result.Warnings, redact(w))
	}
	return result
}

// resultJSON is the wire form of Result.
type resultJSON struct {
	Name      string   `json:"name"`
	Kind      Kind     `json:"kind"`
	Status    Status   `json:"status"`
	Error     string   `json:"error,omitempty"`
	Warnings  []string `json:"warnings,omitempty"`
	LatencyMS float64  `json:"latency_ms"`
}

// MarshalJSON writes name, kind, status, error and warnings (each left out if empty)
// and latency_ms.
func (r Result) MarshalJSON() ([]byte, error) {
	return json.Marshal(resultJSON{
		Name: r.Name, Kind: r.Kind, Status: r.Status, Error: r.Error, Warnings: r.Warnings,
		LatencyMS: float64(r.Latency.Microseconds()) / 1000,
	})
}

// UnmarshalJSON reads what MarshalJSON wrote, so that a client can decode a
// Report. Err is then made of the text alone.
func (r *Result) UnmarshalJSON(data []byte) error {
	var w resultJSON
	if err := json.Unmarshal(data, &w); err != nil {
		return fmt.Errorf("health: decoding result: %w", err)
	}
	*r = Result{
		Name: w.Name, Kind: w.Kind, Status: w.Status, Error: w.Error, Warnings: w.Warnings,
		Latency: time.Duration(w.LatencyMS * float64(time.Millisecond)),
	}
	if w.Status != OK {
		r.Err = errors.New(w.Error)
	}
	return nil
}

// userinfo matches the user part of a URL. It runs to the last "@" of the word
// because passwords that were not escaped may contain "/" and "@" themselves.
var userinfo = regexp.MustCompile(`(\b[a-zA-Z][a-zA-Z0-9+.-]*://)[^\s"'<>]*@`)

// redact removes credentials from URLs. The checks of this module redact by
// themselves, but a report is served without authentication, and net/url and
// many drivers print the URL they were given when it cannot be parsed.
func redact(text string) string {
	return userinfo.ReplaceAllString(text, "${1}***@")
}
