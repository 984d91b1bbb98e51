package main

import (
	"bytes"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// patience of the tests with processes on a busy machine.
const patience = 60 * time.Second

// process is the program, running.
type process struct {
	t   *testing.T
	cmd *exec.Cmd

	exited chan struct{} // closed when it has ended

	mu  sync.Mutex // guards out
	out bytes.Buffer
}

// launch starts the program. With an empty redisURL it has its embedded server. It is killed when the test ends.
func launch(t *testing.T, redisURL string, args ...string) *process {
	t.Helper()
	p := &process{t: t, cmd: exec.Command(os.Args[0], args...), exited: make(chan struct{})}
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "REDIS_") { // of the machine on which the tests run
			p.cmd.Env = append(p.cmd.Env, v)
		}
	}
	p.cmd.Env = append(p.cmd.Env, asApp+"=1", "REDIS_URL="+redisURL)
	p.cmd.Stdout, p.cmd.Stderr = p, p
	_, err := p.cmd.StdinPipe() // held open as long as this process lives, see TestMain
	require.NoError(t, err)
	require.NoError(t, p.cmd.Start())
	go func() {
		defer close(p.exited)
		_ = p.cmd.Wait() // the exit code is looked at where it matters
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill() // fails if it has ended, as it should have
		<-p.exited
		if t.Failed() {
			t.Logf("%v:\n%s", args, p.output())
		}
	})
	return p
}

// Write takes what the process prints.
func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.Write(b)
}

func (p *process) output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.String()
}

func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	require.NoError(p.t, p.cmd.Process.Signal(s))
}

// wait returns the exit code.
func (p *process) wait() int {
	p.t.Helper()
	select {
	case <-p.exited:
	case <-time.After(patience):
		require.FailNow(p.t, "the process does not end")
	}
	return p.cmd.ProcessState.ExitCode()
}

var pageURL = regexp.MustCompile(`status page (http://[^/]+)/`)

// url waits until the process has printed the address of its page.
func (p *process) url() string {
	p.t.Helper()
	var found []string
	require.Eventually(p.t, func() bool {
		found = pageURL.FindStringSubmatch(p.output())
		return found != nil
	}, patience, 10*time.Millisecond, "no page")
	return found[1]
}
