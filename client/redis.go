package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/compozy/cache/config"
)

// Redis is a Redis client with a life cycle. It is safe for concurrent use. Make one with
// [New] or [NewRedis]: the commands of a zero Redis panic, as those of any nil client do. Its
// other methods do nothing then, or return ErrInvalidArgument.
//
// The embedded client is a *redis.Client for one server and for Sentinel, and a
// *redis.ClusterClient for Cluster.
type Redis struct {
	redis.UniversalClient

	cfg     *config.Config
	servers []*server // the main one first
	main    *server   // the first of servers
	nodes   []*server // the others: the LockNodes
	log     *zap.Logger
	gate    *gate
	metrics *metrics
	idle    *idleKeeper

	// opening keeps Open from starting a goroutine that Close no longer sees.
	opening sync.Mutex
	closing sync.Once
}

var _ fmt.Formatter = (*Redis)(nil)

// New builds a client for cfg; nil means config.Default. It reads the password and certificate files that cfg names, and dials
// nothing before Open. The Config is copied.
//
// It returns a *config.Error if the Config is not valid or a file cannot be used, and
// ErrInvalidArgument for an option that is nil.
func New(cfg *config.Config, opts ...Option) (*Redis, error) {
	cfg = cfg.WithDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	set, err := newSettings(opts)
	if err != nil {
		return nil, err
	}
	r := &Redis{cfg: cfg, log: set.log, gate: newGate(), metrics: newMetrics(set.name)}
	endpoints, err := endpoints(cfg, r.gate)
	if err != nil {
		return nil, err
	}
	for _, e := range endpoints {
		s, err := r.build(e, set)
		if err != nil {
			return nil, errors.Join(err, r.close())
		}
		r.servers = append(r.servers, s)
	}
	r.main, r.nodes = r.servers[0], r.servers[1:]
	r.UniversalClient = r.main.client
	r.metrics.main, r.metrics.nodes = r.main, r.nodes
	r.idle = newIdleKeeper(r.main)
	return r, nil
}

// build makes one go-redis client behind the gate, with metrics and tracing.
func (r *Redis) build(e *endpoint, set settings) (*server, error) {
	peers := newPeers(e.options.ReadTimeout, e.answerTime())
	e.provided.replaces(peers)
	s := &server{
		endpoint: e, peers: peers, gate: r.gate, log: set.log,
		dial:   r.gate.dialer(r.cfg.Dialer, e.options.DialTimeout, e.tls, peers),
		plain:  r.gate.dialer(r.cfg.Dialer, e.options.DialTimeout, nil, newPeers(0, 0)),
		script: redis.NewScript(probeSource), prefix: r.cfg.KeyPrefix, pingTimeout: r.cfg.PingTimeout,
	}
	s.client = e.connect(s.dial)
	// The first hook is the outermost: what the gate refuses is neither counted nor traced.
	guard := s.guard()
	s.client.AddHook(&commandHook{guard, r.metrics})
	if cluster, ok := s.client.(*redis.ClusterClient); ok {
		cluster.OnNewNode(func(node *redis.Client) { node.AddHook(guard) })
	}
	if err := instrument(s.client, set.tracer); err != nil {
		return nil, errors.Join(err, s.client.Close())
	}
	return s, nil
}

// NewRedis builds a client, connects and waits until the server is fit for use. A nil
// cfg is loaded from the environment. Without a deadline in ctx it waits for the
// dial timeout and the ping timeout together at most.
//
// It returns ErrInvalidArgument without a ctx, a *config.Error if the Config is not
// valid, and an *Error naming the address and the cause if the server does not
// answer; nothing is left open then.
func NewRedis(ctx context.Context, cfg *config.Config) (*Redis, error) {
	if ctx == nil {
		return nil, &ArgumentError{Argument: "ctx", Reason: "is nil"}
	}
	if cfg == nil {
		loaded, err := config.Load(ctx, "")
		if err != nil {
			return nil, err
		}
		cfg = loaded
	}
	r, err := New(cfg)
	if err != nil {
		return nil, err
	}
	r.Open()
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, r.main.endpoint.options.DialTimeout+r.cfg.PingTimeout)
		defer cancel()
	}
	if err := r.WaitReady(ctx); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// zero reports whether r is nil or the zero value, as &Redis{} is.
func (r *Redis) zero() bool { return r == nil || r.main == nil }

// Open allows the client to connect, and starts to open the idle connections that
// the configuration asks for. It does not wait and may be repeated; after Close it
// does nothing. It logs one line, at debug level.
func (r *Redis) Open() {
	if r.zero() {
		return
	}
	r.opening.Lock()
	defer r.opening.Unlock()
	if !r.gate.open() {
		return
	}
	r.log.Debug("redis client opened",
		zap.String("addr", r.Addr()),
		zap.String("mode", r.Mode()),
		zap.Bool("tls", r.main.endpoint.tls != nil),
		zap.Int("lock_nodes", len(r.nodes)),
	)
	r.idle.start()
}

// Addr is the address for logs and errors, without credentials: host:port, the
// path of a socket, several addresses of a Cluster, or master and sentinels.
// A nil or zero Redis has none.
func (r *Redis) Addr() string {
	if r.zero() {
		return ""
	}
	return r.main.endpoint.String()
}

// Mode is "single", "sentinel" or "cluster". A nil or zero Redis has none.
func (r *Redis) Mode() string {
	if r.zero() {
		return ""
	}
	return r.main.endpoint.mode
}

// String returns kind and address of the server, without credentials.
func (r *Redis) String() string {
	switch {
	case r == nil:
		return "<nil>"
	case r.zero():
		return "client.Redis(zero)"
	default:
		return "client.Redis(" + r.Mode() + " " + r.Addr() + ")"
	}
}

// Format writes String, whatever the verb: for one that does not fit, fmt would show all
// fields, and the password is in one of them.
func (r *Redis) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, r.String()) }

// Unwrap returns the embedded client, for code that needs what only *redis.Client or
// *redis.ClusterClient offer. It belongs to r: close r, not it. For a nil or zero Redis
// it returns nil.
func (r *Redis) Unwrap() redis.UniversalClient {
	if r.zero() {
		return nil
	}
	return r.UniversalClient
}

// Client returns the embedded client, as Unwrap does, for code that takes a
// redis.UniversalClient and looks at what is behind it.
func (r *Redis) Client() redis.UniversalClient { return r.Unwrap() }

// ConnectionHook returns what another client of the same server needs, such as one that
// package lock makes to have connections of its own: it fails while r is not open, and its
// errors show no password. It is nil for a nil or zero Redis.
func (r *Redis) ConnectionHook() redis.Hook {
	if r.zero() {
		return nil
	}
	return r.main.guard()
}

// LockNodes returns one client for each of the configured lock nodes, in their
// order, or nil. They belong to r: Open and Close include them.
func (r *Redis) LockNodes() []redis.UniversalClient {
	if r.zero() {
		return nil
	}
	var clients []redis.UniversalClient
	for _, node := range r.nodes {
		clients = append(clients, lockNode{node.client, node})
	}
	return clients
}

// lockNode is the client of a lock node. Its two methods are those of Redis.
type lockNode struct {
	redis.UniversalClient

	server *server
}

func (n lockNode) Unwrap() redis.UniversalClient { return n.UniversalClient }

func (n lockNode) ConnectionHook() redis.Hook { return n.server.guard() }

// Format writes what n is, whatever the verb: fmt would read the server, which changes.
func (lockNode) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, "client.LockNode") }

// Collector returns the metrics described in the package comment, for a registerer of the
// caller's choice. That of a nil or zero Redis collects nothing.
func (r *Redis) Collector() prometheus.Collector {
	if r.zero() {
		return prometheus.NewRegistry()
	}
	return r.metrics
}

// Close closes all connections, those of the lock nodes included, and joins their
// errors. It may be called without Open, concurrently, and again: later calls wait
// for the first and return nil. Open after Close does nothing. For a nil or zero Redis
// it returns ErrInvalidArgument.
//
// New commands fail at once. Those under way have 100 ms to end well, before their
// connections are cut. They return redis.ErrClosed then, or net.ErrClosed if they may not
// be sent again. Close returns soon after that: after a second more at most for commands
// that do not notice, and another one for a CredentialsProvider that does not end its
// subscription, which is an error.
func (r *Redis) Close() (err error) {
	if r.zero() {
		return errZero()
	}
	r.closing.Do(func() { err = r.close() })
	return err
}

const (
	// closeGrace is what commands under way have at Close before their connections
	// are cut, and closeLimit what they have to notice that: a little more than the
	// longest pause between their retries.
	closeGrace = 100 * time.Millisecond
	closeLimit = time.Second
)

// close ends what uses connections before it closes the pools: go-redis complains on
// stderr of a connection that comes back to a closed pool.
func (r *Redis) close() error {
	r.opening.Lock()
	r.gate.refuse()
	r.opening.Unlock()
	grace, cancel := context.WithTimeout(context.Background(), closeGrace)
	defer cancel()
	r.gate.drain(grace)
	r.gate.close()
	limited, cancel := context.WithTimeout(context.Background(), closeLimit) // for both: a round of the idleKeeper is a command too
	defer cancel()
	r.gate.drain(limited)
	r.idle.wait(limited)
	var errs []error
	for _, s := range r.servers {
		if err := s.client.Close(); err != nil && !errors.Is(err, redis.ErrClosed) {
			errs = append(errs, fmt.Errorf("client: close %s: %w", s.name(s.endpoint.String()), err))
		}
		errs = append(errs, s.endpoint.provided.close())
	}
	return errors.Join(errs...)
}
