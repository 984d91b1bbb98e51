package redistest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestServerDiesWithTestProcess(t *testing.T) {
	t.Parallel()
	executable, err := os.Executable()
	require.NoError(t, err)
	child := exec.Command(executable)
	child.Env = append(os.Environ(), childVariable+"="+t.TempDir())
	output, err := child.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, child.Start())
	t.Cleanup(func() {
		_ = child.Process.Kill()
		_ = child.Wait()
	})

	line, err := bufio.NewReader(output).ReadString('\n')
	require.NoError(t, err)
	addr := strings.TrimSpace(line)
	c, err := dial(addr, nil)
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	reply, err := c.do("PING")
	require.NoError(t, err)
	require.Equal(t, "PONG", reply)

	require.NoError(t, child.Process.Kill()) // SIGKILL: no cleanup runs
	requireClosed(t, addr)
}

// recorder is a TB that keeps what it is told, and whose end the test decides
// on. Its Fatalf panics with errFatal, which record catches.
type recorder struct {
	*testing.T
	failed   bool
	log      strings.Builder
	cleanups []func()
}

var errFatal = errors.New("fatal")

func (r *recorder) Cleanup(f func()) { r.cleanups = append(r.cleanups, f) }
func (r *recorder) Failed() bool     { return r.failed }
func (r *recorder) Logf(format string, args ...any) {
	fmt.Fprintf(&r.log, format+"\n", args...)
}

func (r *recorder) Fatalf(format string, args ...any) {
	r.Logf(format, args...)
	r.failed = true
	panic(errFatal)
}

// end runs the cleanups, last registered first.
func (r *recorder) end() {
	for _, cleanup := range slices.Backward(r.cleanups) {
		cleanup()
	}
}

// record runs f as a test of its own and returns what has been logged by the
// end of it.
func record(t *testing.T, f func(r *recorder)) (log string, failed bool) {
	t.Helper()
	r := &recorder{T: t}
	func() {
		defer r.end()
		defer func() {
			if cause := recover(); cause != nil && cause != any(errFatal) {
				panic(cause)
			}
		}()
		f(r)
	}()
	return r.log.String(), r.failed
}

func TestOutputIsShownWhenStartFails(t *testing.T) {
	t.Parallel()
	log, failed := record(t, func(r *recorder) { Start(r, WithConfig("no-such-setting", "1")) })
	require.True(t, failed)
	require.Contains(t, log, "redis-server ended while it started")
	require.Contains(t, log, "no-such-setting")
}

func TestOutputIsShownWhenTestFails(t *testing.T) {
	t.Parallel()
	log, _ := record(t, func(r *recorder) {
		Start(r)
		r.failed = true
	})
	require.Contains(t, log, "Ready to accept connections")

	log, _ = record(t, func(r *recorder) { Start(r) })
	require.Empty(t, log, "a good test logs nothing")
}

func TestPollGivesUpOnDeadServer(t *testing.T) {
	t.Parallel()
	server := Start(t)
	server.Kill()
	_, err := server.send("PING")
	require.Error(t, err)
	require.NotErrorIs(t, err, context.Canceled)
}
