package redistest

import "time"

// TB is what the harness needs of a test. Every testing.TB is one; a program
// that is not a test can bring its own.
type TB interface {
	// Helper marks the caller as a test helper.
	Helper()
	// Cleanup registers a function to be run at the end, last registered first.
	Cleanup(f func())
	// TempDir returns a new directory that is removed at the end.
	TempDir() string
	// Failed reports whether the test has failed so far.
	Failed() bool
	// Logf records a line of the test's log.
	Logf(format string, args ...any)
	// Fatalf records a failure and ends the test; it does not return.
	Fatalf(format string, args ...any)
}

// pollInterval is short enough not to be felt in a test, and long enough not
// to keep a core busy while a server starts.
const pollInterval = 5 * time.Millisecond

// poll calls done until it returns nil, at most for the given time, and
// returns its last error.
func poll(limit time.Duration, done func() error) error {
	deadline := time.Now().Add(limit)
	again := time.NewTicker(pollInterval)
	defer again.Stop()
	for {
		err := done()
		if err == nil || time.Now().After(deadline) {
			return err
		}
		<-again.C
	}
}
