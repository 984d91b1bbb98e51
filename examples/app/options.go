package main

import (
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"time"
)

// defaultAddr is easy to remember. If it is taken, a free port is used instead; an address that was asked for is not
// replaced silently.
const defaultAddr = "127.0.0.1:8080"

const (
	// liveStep is the default of Step in a run without end: slow enough for people.
	liveStep = 600 * time.Millisecond
	// automatic is the number of helpers until it is known where Redis is.
	automatic = -1
)

// Options are what the command line says.
type Options struct {
	Workflows int           // how many to run; 0: new ones until interrupted
	Workers   int           // in this process
	Helpers   int           // further processes that this one starts
	Helper    bool          // this is one of those: no page, no new workflows
	Run       string        // processes with the same name share the work
	Name      string        // of this process, in logs and on the page
	Addr      string        // of the status page
	Step      time.Duration // average time of a step
	Failures  float64       // share of steps that fail and are tried again
	Every     time.Duration // without Workflows: time between two new ones
	Patience  time.Duration // with Workflows: how long nothing may happen before the rest counts as lost
	Verbose   bool          // with Workflows: the log as well

	fixedAddr bool // Addr was asked for
}

// Batch reports whether the program ends by itself.
func (o Options) Batch() bool { return o.Workflows > 0 }

// settle decides what depends on the server: one inside this process is alone, so it gets company.
func (o Options) settle(embedded bool) Options {
	if o.Helpers == automatic {
		o.Helpers = 0
		if embedded && !o.Batch() && !o.Helper {
			o.Helpers = 1
		}
	}
	return o
}

// runName is what a run may be called: its name becomes part of keys, channels and lock names.
var runName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,40}$`)

// parseOptions reads the command line. Usage and mistakes are written to out. The error is flag.ErrHelp if help was
// asked for.
func parseOptions(args []string, out io.Writer) (Options, error) {
	var o Options
	f := flag.NewFlagSet("app", flag.ContinueOnError)
	f.SetOutput(out)
	f.IntVar(&o.Workflows, "workflows", 0, "run that many `n`, print a summary and exit; 0 runs new ones until interrupted")
	f.IntVar(&o.Workers, "workers", 4, "`number` of workers in this process")
	f.IntVar(&o.Helpers, "helpers", automatic, "`number` of further processes to start (default: 1 on an embedded server without -workflows, else none)")
	f.BoolVar(&o.Helper, "helper", false, "be such a process: no page, no new workflows, and end when the standard input does")
	f.StringVar(&o.Run, "run", "", "`name` shared by processes that share the work (default: \"live\", or a new one with -workflows)")
	f.StringVar(&o.Name, "name", fmt.Sprintf("p%d", os.Getpid()), "`name` of this process")
	f.StringVar(&o.Addr, "addr", defaultAddr, "`host:port` of the status page; if the default is taken, a free port is used")
	f.DurationVar(&o.Step, "step", 150*time.Millisecond, "average `time` of a step (without -workflows 600ms, so that there is something to see)")
	f.Float64Var(&o.Failures, "failures", 0.15, "`share` of steps that fail and are tried again, 0 to 1")
	f.DurationVar(&o.Every, "every", 700*time.Millisecond, "`time` between two new workflows, without -workflows")
	f.DurationVar(&o.Patience, "patience", time.Minute, "`time` after which workflows without any progress count as lost, with -workflows")
	f.BoolVar(&o.Verbose, "v", false, "print the log with -workflows as well")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	given := make(map[string]bool)
	f.Visit(func(f *flag.Flag) { given[f.Name] = true })
	o.fixedAddr = given["addr"]
	if !o.Batch() && !given["step"] {
		o.Step = liveStep
	}
	if !given["helpers"] {
		o.Helpers = automatic
	}
	if o.Run == "" {
		o.Run = "live"
		if o.Batch() {
			o.Run = "run-" + strings.ToLower(rand.Text()[:6])
		}
	}
	if err := o.validate(f.Args()); err != nil {
		fmt.Fprintln(out, err)
		return o, err
	}
	return o, nil
}

// validate reports everything that is wrong at once.
func (o Options) validate(rest []string) error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(len(rest) == 0, "unexpected argument: %q", rest)
	check(o.Workflows >= 0, "-workflows: %d is negative", o.Workflows)
	check(o.Workers > 0, "-workers: %d, need at least one", o.Workers)
	check(o.Helpers >= automatic, "-helpers: %d is negative", o.Helpers)
	check(runName.MatchString(o.Run), "-run: %q, letters, digits, - and _ only, at most 40", o.Run)
	check(o.Name != "", "-name: is empty")
	check(o.Step >= 0, "-step: %v is negative", o.Step)
	check(o.Failures >= 0 && o.Failures <= 1, "-failures: %v is not between 0 and 1", o.Failures)
	check(o.Every > 0, "-every: %v is not positive", o.Every)
	check(o.Patience > lockTTL, "-patience: %v must be longer than the %v for which a dead worker keeps its locks", o.Patience, lockTTL)
	return errors.Join(errs...)
}
