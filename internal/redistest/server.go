package redistest

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	startAttempts = 10
	// startLimit is generous: the machine may be busy with other tests.
	startLimit = 30 * time.Second
	// outputLimit is how much of a server's output is logged, from its end.
	outputLimit = 32 << 10
)

// errPortTaken means that somebody else was faster to listen on a port.
var errPortTaken = errors.New("redistest: port taken")

// Server is a redis-server process. Its methods may be called concurrently;
// those that fail the test must be called from the test's own goroutine.
type Server struct {
	tb       TB
	binary   string
	dir      string
	settings *settings
	security *authority // nil without TLS
	sentinel bool
	clusterd bool
	// specific is the configuration of this server alone.
	specific []string

	mu      sync.Mutex // protects what follows
	process *process
	port    *port
	bus     *port // nil outside of a cluster

	statMu sync.Mutex // makes "ask, then subtract our own" one step
	own    map[string]int64
}

// Start runs a server until the test ends and returns when it answers. It
// fails the test if that is not possible.
func Start(t TB, opts ...Option) *Server {
	t.Helper()
	return StartN(t, 1, opts...)[0]
}

// StartN runs n independent servers, as a Redlock quorum needs them, with the
// same options. It is quicker than n calls of Start.
func StartN(t TB, n int, opts ...Option) []*Server {
	t.Helper()
	set := collect(opts)
	security := newSecurity(t, set)
	servers := make([]*Server, n)
	for i := range servers {
		servers[i] = newServer(t, set, security)
	}
	launchAll(t, servers)
	return servers
}

// newSecurity returns the authority for all servers with these settings, or
// nil if they do not ask for TLS.
func newSecurity(t TB, set *settings) *authority {
	t.Helper()
	if !set.secure {
		return nil
	}
	security, err := newAuthority(t.TempDir())
	if err != nil {
		t.Fatalf("%v", err)
	}
	return security
}

// newServer returns a server that has not been launched.
func newServer(t TB, set *settings, security *authority) *Server {
	return &Server{tb: t, dir: t.TempDir(), settings: set, security: security, own: make(map[string]int64)}
}

// launchAll launches servers side by side and fails the test if one does not
// start. All of them are killed when the test ends.
func launchAll(t TB, servers []*Server) {
	t.Helper()
	binary, err := findBinary()
	if err != nil {
		t.Fatalf("%v", err)
	}
	failures := make([]error, len(servers))
	var group sync.WaitGroup
	for i, server := range servers {
		server.binary = binary
		t.Cleanup(server.close)
		group.Go(func() { failures[i] = server.launch() })
	}
	group.Wait()
	for i, failure := range failures {
		if failure != nil {
			t.Fatalf("%v\n%s", failure, servers[i].output())
		}
	}
}

// launch starts the process on ports of its own choice, and repeats that with
// others while somebody is faster.
func (s *Server) launch() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for range startAttempts {
		if err := s.configure(); err != nil {
			return err
		}
		if err := s.run(); !errors.Is(err, errPortTaken) {
			return err
		}
		s.port.release()
		s.bus.release()
	}
	return errPortTaken
}

// configure reserves the ports and writes the configuration file. The file is
// not written again by a restart: sentinels keep the current roles in it.
func (s *Server) configure() error {
	var err error
	if s.port, err = reservePort(); err != nil {
		return err
	}
	number := strconv.Itoa(s.port.number)
	lines := []string{"bind " + loopback, "dir " + quote(s.dir), "protected-mode no"}
	if s.security == nil {
		lines = append(lines, "port "+number)
	} else {
		lines = append(lines, "port 0", "tls-port "+number)
		lines = append(lines, s.security.lines()...)
	}
	if s.clusterd {
		if s.bus, err = reservePort(); err != nil {
			return err
		}
		lines = append(lines, "cluster-port "+strconv.Itoa(s.bus.number))
	}
	if !s.sentinel {
		lines = append(lines, s.settings.lines()...)
	}
	lines = append(lines, s.specific...)
	content := strings.Join(lines, "\n") + "\n"
	return os.WriteFile(s.configFile(), []byte(content), 0o600)
}

func (s *Server) configFile() string { return filepath.Join(s.dir, "redis.conf") }
func (s *Server) outputFile() string { return filepath.Join(s.dir, "output.log") }
func (s *Server) dumpFile() string   { return filepath.Join(s.dir, "dump.rdb") }

// run starts the process and waits until it answers. On an error no process is
// left.
func (s *Server) run() error {
	output, err := os.OpenFile(s.outputFile(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("redistest: open output: %w", err)
	}
	defer func() { _ = output.Close() }() // the child has a copy of its own
	before, err := output.Seek(0, io.SeekEnd)
	if err != nil {
		return fmt.Errorf("redistest: size of output: %w", err)
	}
	args := []string{s.configFile()}
	if s.sentinel {
		args = append(args, "--sentinel")
	}
	process, err := spawn(s.binary, args, s.dir, output)
	if err != nil {
		return err
	}
	s.process = process

	err = poll(startLimit, func() error {
		if !process.running() {
			return nil
		}
		return s.answers(process.pid())
	})
	switch {
	case !process.running():
		written, readErr := os.ReadFile(s.outputFile())
		if readErr == nil && portTaken(string(written[min(before, int64(len(written))):])) {
			return errPortTaken
		}
		return errors.New("redistest: redis-server ended while it started")
	case err != nil:
		return errors.Join(fmt.Errorf("redistest: redis-server does not answer: %w", err), process.kill())
	}
	return s.forget()
}

// portTaken recognises what redis-server says when it cannot listen.
func portTaken(output string) bool {
	return strings.Contains(output, "Address already in use") || strings.Contains(output, "Failed listening on port")
}

// answers returns nil if the process with the given ID serves commands. The
// ID is compared because another server may have taken the port and answer in
// place of ours, which is about to end.
func (s *Server) answers(pid int) error {
	if _, err := s.send("PING"); err != nil {
		return err
	}
	info, err := s.info("server")
	if err != nil {
		return err
	}
	if answered := info["process_id"]; answered != strconv.Itoa(pid) {
		return fmt.Errorf("redistest: process %s answered in place of %d", answered, pid)
	}
	return nil
}

// close kills the process, gives the ports back and, after a failed test, logs
// what the server wrote.
func (s *Server) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process != nil {
		if err := s.process.kill(); err != nil {
			s.tb.Logf("%v", err)
		}
	}
	s.port.release()
	s.bus.release()
	if s.tb.Failed() {
		s.tb.Logf("%s", s.output())
	}
}

// output returns the end of what the server wrote, with a headline.
func (s *Server) output() string {
	written, err := os.ReadFile(s.outputFile())
	if err != nil {
		return fmt.Sprintf("no output of redis-server: %v", err)
	}
	return fmt.Sprintf("output of redis-server in %s:\n%s", filepath.Base(s.dir), written[max(0, len(written)-outputLimit):])
}
