package health

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Health runs a fixed set of checks. Make one with New; it is safe for
// concurrent use and has nothing to close.
type Health struct {
	probes []*probe // sorted by name, then kind; never changes
}

// errNone is the error of a Health that New did not make.
var errNone = errors.New("health: the *Health is nil; health.New makes one, and under Fx the module provides one")

// New returns a Health for the given checks, of which there may be none: it
// then reports that all is well.
//
// A check that is invalid (see [Check.Validate]) is neither dropped nor a
// panic, it becomes a readiness check that always fails and says why. Names
// that occur twice within a kind are numbered in the order given, "redis" and
// "redis#2", so that two instances of one part both appear in the report. Where
// that order is not fixed, as in an Fx value group, give them names of their own.
func New(checks ...Check) *Health {
	type key struct {
		kind Kind
		name string
	}
	taken := make(map[key]bool, len(checks))
	probes := make([]*probe, 0, len(checks))
	for _, c := range checks {
		c = c.normalized()
		// A number may itself be taken, by a check that was named "redis#2".
		name := c.Name
		for n := 2; taken[key{c.Kind, c.Name}]; n++ {
			c.Name = fmt.Sprintf("%s#%d", name, n)
		}
		taken[key{c.Kind, c.Name}] = true
		probes = append(probes, &probe{check: c})
	}
	slices.SortFunc(probes, func(a, b *probe) int {
		return cmp.Or(cmp.Compare(a.check.Name, b.check.Name), cmp.Compare(a.check.Kind, b.check.Kind))
	})
	return &Health{probes: probes}
}

// failing returns a Health with one readiness check, which returns err.
func failing(err error) *Health {
	return New(Check{Name: "health", Func: func(context.Context) error { return err }})
}

// Run runs the checks of the given kinds, or all when none is given, and
// returns when each has answered, timed out, or ctx has ended, whichever comes
// first. Results are sorted by name.
//
// A check that is running already, for another caller of Run, is not started a
// second time: both get the same result. A check whose earlier run is past its
// timeout and has still not returned fails at once with ErrHanging.
//
// With a kind that is neither Readiness nor Liveness none of them runs: the report has one readiness check, "health", which fails
// with a *CheckError.
//
// A nil ctx is one without an end. A nil Health has one readiness check, which fails and says so.
func (h *Health) Run(ctx context.Context, kinds ...Kind) Report {
	if h == nil {
		return failing(errNone).Run(ctx, kinds...)
	}
	for _, kind := range kinds {
		if kind != Readiness && kind != Liveness {
			reason := fmt.Sprintf("is %q in a call of Run, must be %q or %q", kind, Readiness, Liveness)
			return failing(&CheckError{Check: "health", Field: "Kind", Reason: reason}).Run(ctx)
		}
	}
	if ctx == nil {
		ctx = context.Background()
	}
	report := Report{Status: OK, Time: time.Now(), Checks: []Result{}}
	// Start all of them before waiting for the first.
	var selected []*probe
	var runs []*run
	for _, p := range h.probes {
		if len(kinds) == 0 || slices.Contains(kinds, p.check.Kind) {
			selected = append(selected, p)
			runs = append(runs, p.start(ctx))
		}
	}
	for i, p := range selected {
		latency, warnings, err := runs[i].wait(ctx)
		result := newResult(p.check, latency, warnings, err)
		if result.Status != OK {
			report.Status = Failing
		}
		report.Checks = append(report.Checks, result)
	}
	return report
}
