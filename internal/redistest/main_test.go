package redistest

import (
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"
)

// childVariable makes the test binary act as the process that the test of
// dying servers kills.
const childVariable = "REDISTEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) != "" {
		serveUntilKilled()
	}
	goleak.VerifyTestMain(m)
}

// serveUntilKilled starts a server, says where, and never ends by itself.
func serveUntilKilled() {
	server := Start(&program{})
	fmt.Println(server.Addr())
	select {}
}

// program is a TB for code outside of a test.
type program struct{}

func (*program) Helper()        {}
func (*program) Cleanup(func()) {}
func (*program) Failed() bool   { return false }
func (*program) TempDir() string {
	return os.Getenv(childVariable)
}
func (*program) Logf(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
func (p *program) Fatalf(format string, args ...any) {
	p.Logf(format, args...)
	os.Exit(1)
}
