package main

import (
	"fmt"
	"os"
	"slices"
	"sync"
)

// scope lets the test harness work for a program: it collects what is to be
// undone, and turns a fatal error into a panic that run catches.
type scope struct {
	mu       sync.Mutex // protects cleanups
	cleanups []func()
	failed   bool
}

// fatal is what Fatalf panics with.
type fatal struct{ error }

// run calls f with a scope and undoes everything afterwards. What was fatal is
// returned as an error; any other panic goes on.
func run(f func(s *scope) error) (err error) {
	s := &scope{}
	defer func() {
		cause := recover()
		known, ok := cause.(fatal)
		if ok {
			err, s.failed = known, true
		}
		for _, cleanup := range slices.Backward(s.cleanups) {
			cleanup()
		}
		if cause != nil && !ok {
			panic(cause)
		}
	}()
	return f(s)
}

// Helper does nothing: there is no test log whose lines need a place.
func (s *scope) Helper() {}

// Cleanup registers a function for the end of run.
func (s *scope) Cleanup(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cleanups = append(s.cleanups, f)
}

// TempDir returns a directory that is removed at the end of run.
func (s *scope) TempDir() string {
	dir, err := os.MkdirTemp("", "cache-bench-")
	if err != nil {
		s.Fatalf("make directory: %v", err)
	}
	s.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// Failed reports whether Fatalf was called.
func (s *scope) Failed() bool { return s.failed }

// Logf writes to the standard error output.
func (s *scope) Logf(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }

// Fatalf ends run with an error. It must be called on run's own goroutine.
func (s *scope) Fatalf(format string, args ...any) {
	s.failed = true
	panic(fatal{fmt.Errorf(format, args...)})
}
