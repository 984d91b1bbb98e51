package embedded

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/alicebob/miniredis/v2/server"
)

// ErrClosed is matched by the errors of Start and Dial after Close.
var ErrClosed = errors.New("embedded: server closed")

// loopback is where Start listens by default: a free port that nobody outside this
// machine can reach.
const loopback = "127.0.0.1:0"

// linger is how long a closed TCP connection may take to send what is left.
const linger = time.Second

// Option changes how a Server is made.
type Option func(*Server)

// WithAddr makes Start listen on addr ("host:port"), overriding the default of
// a free port of 127.0.0.1. Given to Module, it also makes the application
// listen, so that redis-cli can look inside. There is no password: keep to
// loopback addresses.
func WithAddr(addr string) Option {
	return func(s *Server) { s.listenAddr = addr }
}

// Server is an in-process Redis. All methods are safe for concurrent use. It
// cannot be used again after Close.
type Server struct {
	listenAddr string
	redis      *miniredis.Miniredis
	pubsub     *pubsub

	mu       sync.Mutex     // guards what follows
	backend  *server.Server // nil until the first connection or Start
	listener net.Listener   // nil until Start
	open     map[*conn]struct{}
	failure  error // why connections are refused, or nil
	closed   bool

	conns sync.WaitGroup // accept loop and TCP copiers
	once  sync.Once      // Close
}

// New returns a server that is empty and does nothing yet: no goroutine runs
// and no port is open before Dial or Start is called. To use it in a
// testing/synctest bubble, call New inside the bubble.
func New(opts ...Option) *Server {
	s := &Server{redis: miniredis.NewMiniRedis(), pubsub: newPubsub(), open: make(map[*conn]struct{})}
	// Without this nothing ever expires.
	s.redis.ClockTTL(true)
	for _, opt := range opts {
		opt(s)
	}
	return s
}

// Start makes the server reachable by TCP, by default on a free port of
// 127.0.0.1; see Addr. It is needed only by clients that do not use Dial. It
// returns when the port is open. Repeating it does nothing. After Close it
// returns an error that matches ErrClosed.
//
// ctx bounds the call, not the life of the server.
func (s *Server) Start(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return fmt.Errorf("embedded: starting: %w", ErrClosed)
	}
	if s.listener != nil {
		return nil
	}
	if err := s.launch(); err != nil {
		return err
	}
	addr := s.listenAddr
	if addr == "" {
		addr = loopback
	}
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return fmt.Errorf("embedded: starting: %w", err)
	}
	s.listener = listener
	s.conns.Go(func() { s.accept(listener) })
	return nil
}

// Addr returns the "host:port" that the server listens on, or "" as long as
// Start has not been called.
func (s *Server) Addr() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listener == nil {
		return ""
	}
	return s.listener.Addr().String()
}

// URL returns Addr as a value for REDIS_URL, or "" as long as Start has not
// been called.
func (s *Server) URL() string {
	if addr := s.Addr(); addr != "" {
		return "redis://" + addr
	}
	return ""
}

// Dial returns a connection to the server that exists in memory only, whatever
// network and addr say. It works with and without Start, and inside a
// testing/synctest bubble. It fits Config.Dialer and the Dialer of go-redis.
//
// It fails with ctx's error if ctx has ended, with an error that matches what Fail was
// given, and with one that matches ErrClosed after Close.
func (s *Server) Dial(ctx context.Context, _, _ string) (net.Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("embedded: dialing: %w", context.Cause(ctx))
	}
	return s.connect(nil)
}

// FastForward makes d pass for the server alone: keys expire, and TIME, also in
// scripts, is later by d from now on. The points in time of EXPIREAT, EXPIRETIME and the
// like, and the IDs that XADD makes, stay those of this process's clock. In a
// testing/synctest bubble a plain sleep moves all clocks.
func (s *Server) FastForward(d time.Duration) {
	s.redis.Lock() // between two commands
	s.pubsub.ahead += d
	s.redis.Unlock()
	s.redis.FastForward(d)
}

// Fail makes the server unreachable until Fail(nil): all connections are closed, and
// Dial fails with an error that matches err. The data stays, and its clock goes on.
func (s *Server) Fail(err error) {
	s.mu.Lock()
	s.failure = err
	var cut []*conn
	if err != nil {
		cut = slices.Collect(maps.Keys(s.open))
	}
	s.mu.Unlock()
	for _, c := range cut { // without the lock, which each close takes
		_ = c.Close()
	}
}

// Close closes the port and all connections and waits until all goroutines of
// the server have ended. The data is gone. It returns nil; the error is there
// for io.Closer. A server that was never started can be closed too, and
// repeating Close does nothing.
func (s *Server) Close() error {
	s.once.Do(func() {
		s.mu.Lock()
		s.closed = true
		listener := s.listener
		s.mu.Unlock()
		if listener != nil {
			_ = listener.Close() // fails only if it is closed already
		}
		// Nobody can connect any more, so this meets all connections.
		s.redis.Close()
		s.conns.Wait()
	})
	return nil
}

// launch prepares miniredis for its first connection. s.mu is held.
func (s *Server) launch() error {
	if s.backend != nil {
		return nil
	}
	// Its Start would open a port; its Dial is the only other way to have the
	// commands registered. The connection itself is of no use, see connect.
	conn, err := s.redis.Dial()
	if err != nil {
		return fmt.Errorf("embedded: starting: %w", err)
	}
	_ = conn.Close()
	s.backend = s.redis.Server()
	s.pubsub.attach(s.redis, s.backend)
	return nil
}

// connect returns the client's end of a new connection. onClose, if not nil, is
// called when the server closes its end.
func (s *Server) connect(onClose func()) (net.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return nil, fmt.Errorf("embedded: dialing: %w", ErrClosed)
	case s.failure != nil:
		return nil, fmt.Errorf("embedded: dialing: %w", s.failure)
	}
	if err := s.launch(); err != nil {
		return nil, err
	}
	near, far := newPipe()
	far.onClose = func() {
		s.mu.Lock()
		delete(s.open, far)
		s.mu.Unlock()
		if onClose != nil {
			onClose()
		}
	}
	s.open[far] = struct{}{}
	// Under the lock, so that Close does not overlook the connection.
	s.backend.ServeConn(far)
	return near, nil
}

// accept serves TCP connections until the listener is closed.
func (s *Server) accept(listener net.Listener) {
	for {
		outside, err := listener.Accept()
		if err != nil {
			return
		}
		// A client that does not read must not keep its connection for ever.
		inside, err := s.connect(func() { _ = outside.SetWriteDeadline(time.Now().Add(linger)) })
		if err != nil {
			_ = outside.Close()
			continue
		}
		// The server writes while it holds its one lock: what a client does not
		// read must fill the memory between these two and not stop all others.
		s.conns.Go(func() { carry(inside, outside) })
		s.conns.Go(func() { carry(outside, inside) })
	}
}

// carry copies until one side ends, then closes both.
func carry(to, from net.Conn) {
	_, _ = io.Copy(to, from)
	_ = to.Close()
	_ = from.Close()
}
