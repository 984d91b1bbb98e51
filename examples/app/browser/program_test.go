package browser

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// app is the example, built once for all tests.
var app string

func TestMain(m *testing.M) { os.Exit(withApp(m)) }

func withApp(m *testing.M) int {
	dir, err := os.MkdirTemp("", "browser")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	app = filepath.Join(dir, "app")
	build := exec.CommandContext(context.Background(), "go", "build", "-o", app, "./examples/app")
	build.Dir = "../../.." // its module
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "building the example: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// program is the example, running on its embedded server.
type program struct {
	t   *testing.T
	cmd *exec.Cmd
	end chan struct{} // closed when it has ended

	mu  sync.Mutex // guards out
	out bytes.Buffer
}

// start starts it. It is killed when the test ends.
func start(t *testing.T, args ...string) *program {
	t.Helper()
	p := &program{t: t, cmd: exec.Command(app, args...), end: make(chan struct{})}
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "REDIS_") { // of the machine on which the tests run
			p.cmd.Env = append(p.cmd.Env, v)
		}
	}
	p.cmd.Stdout, p.cmd.Stderr = p, p
	require.NoError(t, p.cmd.Start())
	go func() {
		defer close(p.end)
		_ = p.cmd.Wait() // the exit code is looked at where it matters
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill() // fails if it has ended
		<-p.end
		if t.Failed() {
			t.Log(p.output())
		}
	})
	return p
}

// Write takes what the program prints.
func (p *program) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.Write(b)
}

func (p *program) output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.String()
}

var address = regexp.MustCompile(`status page http://([^/]+)/`)

// addr waits until the program has printed the host and port of its page.
func (p *program) addr() string {
	p.t.Helper()
	var found []string
	require.Eventually(p.t, func() bool {
		found = address.FindStringSubmatch(p.output())
		return found != nil
	}, patience, 10*time.Millisecond, "no page")
	return found[1]
}

// stop ends the program in order.
func (p *program) stop() {
	p.t.Helper()
	require.NoError(p.t, p.cmd.Process.Signal(syscall.SIGTERM))
	select {
	case <-p.end:
	case <-time.After(patience):
		require.FailNow(p.t, "the program does not end")
	}
	require.Zero(p.t, p.cmd.ProcessState.ExitCode())
}
