package main

import (
	"io"
	"os"
	"testing"

	"github.com/compozy/cache/internal/redistest"
)

// asApp makes the test binary be the program itself: the tests start real processes of it, built as the tests are,
// race detector included.
const asApp = "EXAMPLE_APP_UNDER_TEST"

func TestMain(m *testing.M) {
	if os.Getenv(asApp) != "" {
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin) // ends when the test process does, even if that is killed
			os.Exit(exitFailed)
		}()
		os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
	}
	redistest.VerifyTestMain(m)
}
