package redistest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
)

// serverVariable is the environment variable that names a redis-server by its
// absolute path, overriding the first in PATH. That one binary serves as data
// server, as cluster node and, with --sentinel, as sentinel.
const serverVariable = "REDISTEST_SERVER"

// errNoBinary says what to do about a missing redis-server, since it is the
// first thing somebody new to the project may run into.
var errNoBinary = errors.New(
	`redistest: redis-server not found: run "make test", which provides one, or install Debian's redis-server package`)

// errNotAbsolute explains why a path that works in one directory is refused.
var errNotAbsolute = errors.New("must be an absolute path, as the tests of each package and each server run in another directory")

// findBinary returns the absolute path of redis-server. If the variable names a file that cannot be run, that is an
// error: another version in its place would make the tests say something about the wrong server.
func findBinary() (string, error) {
	if path := os.Getenv(serverVariable); path != "" {
		if err := executable(path); err != nil {
			return "", fmt.Errorf("redistest: %s=%q: %w", serverVariable, path, err)
		}
		return path, nil
	}
	path, err := exec.LookPath("redis-server")
	if err != nil {
		return "", errNoBinary
	}
	return path, nil
}

// executable returns nil if path is absolute and names a file that may be run.
func executable(path string) error {
	if !filepath.IsAbs(path) {
		return errNotAbsolute
	}
	_, err := exec.LookPath(path)
	// Without the *exec.Error around it, which names the path again.
	if inner := errors.Unwrap(err); inner != nil {
		return inner
	}
	return err
}

// process is a child that has been started and will be waited for.
type process struct {
	cmd *exec.Cmd
	// exited is closed when the child is gone and has been reaped.
	exited chan struct{}
}

// spawn starts a child whose output goes to the given file. The file is handed
// to the child itself: a pipe would need a goroutine here, and would break in
// the child's hands if this process died.
func spawn(path string, args []string, dir string, output *os.File) (*process, error) {
	cmd := exec.Command(path, args...)
	cmd.Dir = dir
	cmd.Stdout, cmd.Stderr = output, output
	cmd.SysProcAttr = dieWithParent()

	p := &process{cmd: cmd, exited: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		// Linux ties "die with your parent" to the thread that forked, not to
		// the process. This thread therefore forks and then waits, so that it
		// lives exactly as long as the child.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		// How it ended is of no interest: most children are killed on purpose.
		_ = cmd.Wait()
		close(p.exited)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("redistest: start %s: %w", path, err)
	}
	return p, nil
}

// pid returns the process ID, which stays valid after the exit.
func (p *process) pid() int { return p.cmd.Process.Pid }

// running reports whether the child has not been reaped yet. A stopped child runs.
func (p *process) running() bool {
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

// signal sends a signal; a child that is gone already is no error.
func (p *process) signal(sig syscall.Signal) error {
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("redistest: send %v to redis-server: %w", sig, err)
	}
	return nil
}

// kill ends the child with SIGKILL, which reaches a stopped one too, and waits
// until it is gone.
func (p *process) kill() error {
	if err := p.signal(syscall.SIGKILL); err != nil {
		return err
	}
	<-p.exited
	return nil
}
