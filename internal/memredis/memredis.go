// Package memredis is an in-memory Redis for tests in a testing/synctest bubble, where real servers cannot be talked to.
package memredis

import (
	"context"
	"errors"
	"net"
	"sync"

	"github.com/alicebob/miniredis/v2"
)

var errClosed = errors.New("memredis: closed")

// Server is a miniredis that may be closed while somebody dials, as clients do in the background: miniredis itself would
// wait for its connections and take on another one at the same time.
type Server struct {
	*miniredis.Miniredis

	mu     sync.RWMutex // held while somebody dials
	closed bool
}

// New returns a server whose keys expire with the bubble's clock. The caller closes it.
func New() *Server {
	s := &Server{Miniredis: miniredis.NewMiniRedis()}
	s.ClockTTL(true)
	return s
}

// Dial returns a connection; it is a Dialer of go-redis.
func (s *Server) Dial(context.Context, string, string) (net.Conn, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return nil, errClosed
	}
	return s.Miniredis.Dial()
}

// Close ends the server and its connections. Repeating it does nothing.
func (s *Server) Close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.Miniredis.Close()
}
