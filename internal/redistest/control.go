package redistest

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
	"time"
)

// shutdownLimit is how long a server may take to end by itself.
const shutdownLimit = 10 * time.Second

// errStillRunning is what waiting for a stop or an end comes back with.
var errStillRunning = errors.New("redistest: redis-server is still running")

// Stop freezes the server with SIGSTOP and returns when it stands still: its
// connections stay open, new ones are accepted by the kernel, and nothing is
// answered. It fails the test if the server cannot be signalled.
func (s *Server) Stop() {
	s.tb.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	process := s.process
	s.must(process.signal(syscall.SIGSTOP))
	s.must(poll(shutdownLimit, func() error {
		if process.running() && !stopped(process.pid()) {
			return errStillRunning
		}
		return nil
	}))
}

// Continue lets a frozen server go on, which then works off what it was sent
// in the meantime. A server that is not frozen is left as it is.
func (s *Server) Continue() {
	s.tb.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.must(s.process.signal(syscall.SIGCONT))
}

// Kill ends the server with SIGKILL and returns when it is gone. The port
// stays reserved for Restart.
func (s *Server) Kill() {
	s.tb.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.must(s.process.kill())
}

// Shutdown ends the server in the orderly way, by SIGTERM, and returns when it
// is gone. A frozen server is woken up for that.
func (s *Server) Shutdown() {
	s.tb.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.must(s.process.signal(syscall.SIGTERM))
	s.must(s.process.signal(syscall.SIGCONT))
	timeout := time.NewTimer(shutdownLimit)
	defer timeout.Stop()
	select {
	case <-s.process.exited:
	case <-timeout.C:
		s.must(errStillRunning)
	}
}

// Restart starts the server again on the same port, after killing it if it
// runs, and returns when it answers. It comes back empty unless the server was
// started with WithPersistence; roles given by sentinels or a cluster are kept.
func (s *Server) Restart() {
	s.tb.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.must(s.process.kill())
	if !s.settings.persistent {
		// A replica that was fed, or that this server was, has left one.
		if err := os.Remove(s.dumpFile()); !errors.Is(err, fs.ErrNotExist) {
			s.must(err)
		}
	}
	// The kernel may need a moment to let go of the old socket.
	s.must(poll(startLimit, s.run))
}

// Running reports whether the process exists; a frozen one does.
func (s *Server) Running() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.process.running()
}

// must fails the test on an error.
func (s *Server) must(err error) {
	s.tb.Helper()
	if err != nil {
		s.tb.Fatalf("%v", err)
	}
}
