package fxtest

import (
	"crypto/rand"
	"testing"
	"time"
)

// patience is how long a contract waits for what must happen. It is long
// because machines that run tests are busy, and costs nothing when all is well.
const patience = 10 * time.Second

// contractCase is one promise and the test of it.
type contractCase[T any] struct {
	promise string
	test    func(t testing.TB, subject T)
}

// unique returns a name that no other test uses, in case that several share one
// server.
func unique(name string) string { return name + "-" + rand.Text() }

// must ends the test if err is not nil.
func must(t testing.TB, err error, what string) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// eventually ends the test if condition does not become true in time.
func eventually(t testing.TB, condition func() bool, what string) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("%s: not after %v", what, patience)
		}
	}
}
