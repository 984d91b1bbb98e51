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
// [New] or [NewRedis]: the commands of a zero Redis panic, as those of a nil client do, since
// they belong to the embedded client that is not there.
//
// The embedded client is a *redis.Client for one server and for Sentinel, and a
// *redis.ClusterClient for Cluster.
type Redis struct {
	redis.UniversalClient

	cfg     *config.Config
	main    *server
	nodes   []*server // the LockNodes
	log     *zap.Logger
	gate    *gate
	metrics *metrics
	idle    *idleKeeper

	// opening keeps Open from starting a goroutine that Close no longer sees.
	opening  sync.Mutex
	closing  sync.Once
	closeErr error // written within closing
}

var (
	_ fmt.Formatter = (*Redis)(nil)
	_ fmt.Stringer  = (*Redis)(nil)
)

// New builds a client for cfg without any I/O; nil means config.Default. Nothing
// is dialled before Open. The Config is copied.
//
// It returns a *config.Error if the Config is not valid, and ErrInvalidArgument for an
// option that is nil.
func New(cfg *config.Config, opts ...Option) (*Redis, error) {
	cfg = cfg.WithDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	set, err := newSettings(opts)
	if err != nil {
		return nil, err
	}
	main, err := mainEndpoint(cfg)
	if err != nil {
		return nil, err
	}
	r := &Redis{
		cfg: cfg, log: set.log, gate: newGate(), metrics: newMetrics(set.name),
	}
	// The lock nodes share it.
	main.options.CredentialsProviderContext = r.gate.bounds(main.options.CredentialsProviderContext, cfg.DialTimeout)
	if r.main, err = r.build(main, set); err != nil {
		return nil, err
	}
	r.UniversalClient = r.main.client
	for _, node := range cfg.LockNodes {
		e, err := lockEndpoint(cfg, node, main)
		if err != nil {
			return nil, errors.Join(err, r.Close())
		}
		n, err := r.build(e, set)
		if err != nil {
			return nil, errors.Join(err, r.Close())
		}
		n.lockNode = true
		r.nodes = append(r.nodes, n)
	}
	r.metrics.watch(r.poolStats, main, r.nodes)
	r.idle = newIdleKeeper(r.main)
	return r, nil
}

// build makes one go-redis client behind the gate, with metrics and tracing.
func (r *Redis) build(e *endpoint, set settings) (*server, error) {
	servers := newPeers(e.options.ReadTimeout)
	dial := r.gate.dialer(r.cfg.Dialer, e, servers)
	c := e.connect(dial)
	// The first hook is the outermost: what the gate refuses is neither
	// counted nor traced.
	s := newServer(c, e, dial, servers, r.gate, r.cfg, set.log)
	c.AddHook(&hook{gate: r.gate, metrics: r.metrics, server: s, sentinelPassword: e.options.SentinelPassword})
	if cluster, ok := c.(*redis.ClusterClient); ok {
		cluster.OnNewNode(func(node *redis.Client) { node.AddHook(nodeHook{gate: r.gate}) })
	}
	if err := instrument(c, set.tracer); err != nil {
		return nil, errors.Join(err, c.Close())
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
		ctx, cancel = context.WithTimeout(ctx, r.cfg.DialTimeout+r.cfg.PingTimeout)
		defer cancel()
	}
	if err := r.WaitReady(ctx); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// poolStats returns the statistics of the main client's pools. Those of a Cluster
// are left out until one of its commands has succeeded: before, go-redis would look for the
// nodes first, and a scrape would wait for a network that does not answer.
func (r *Redis) poolStats() *redis.PoolStats {
	if r.main.endpoint.mode == modeCluster && !r.main.answered.Load() {
		return &redis.PoolStats{}
	}
	return r.UniversalClient.PoolStats()
}

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
		zap.String("mode", r.main.endpoint.mode),
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

// zero reports whether r is nil or the zero value, as &Redis{} is. Its own methods then
// do nothing or return ErrInvalidArgument; its commands panic, as those of any nil client.
func (r *Redis) zero() bool { return r == nil || r.main == nil }

// String returns kind and address of the server, without credentials.
func (r *Redis) String() string {
	switch {
	case r == nil:
		return "<nil>"
	case r.zero():
		return "client.Redis(zero)"
	}
	return "client.Redis(" + r.Mode() + " " + r.Addr() + ")"
}

// Format writes String, whatever the verb. Without it fmt would take a verb that
// does not fit, such as %s, as a reason to show all fields, and the password is
// in one of them.
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

// ConnectionHook returns what another client of the same server needs, such as one that package lock makes to have
// connections of its own: it fails while r is not open, and its errors show no password. It is nil for a nil or zero Redis.
func (r *Redis) ConnectionHook() redis.Hook {
	if r.zero() {
		return nil
	}
	return nodeHook{r.gate, r.main.endpoint.options.SentinelPassword}
}

// Client returns the embedded client, as Unwrap does, for code that takes a
// redis.UniversalClient and looks at what is behind it.
func (r *Redis) Client() redis.UniversalClient { return r.Unwrap() }

// Collector returns the metrics described in the package comment, for a
// registerer of the caller's choice.
func (r *Redis) Collector() prometheus.Collector {
	if r.zero() {
		return prometheus.NewRegistry() // collects nothing
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
func (r *Redis) Close() error {
	if r.zero() {
		return errZero()
	}
	first := false
	r.closing.Do(func() {
		first = true
		r.closeErr = r.close()
	})
	if !first {
		return nil
	}
	return r.closeErr
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
	r.gate.drain(closeGrace)
	r.gate.close()
	r.idle.wait()
	r.gate.drain(closeLimit)
	var errs []error
	if err := r.UniversalClient.Close(); err != nil && !errors.Is(err, redis.ErrClosed) {
		errs = append(errs, fmt.Errorf("client: close %s: %w", r.Addr(), err))
	}
	for i, node := range r.nodes {
		if err := node.client.Close(); err != nil && !errors.Is(err, redis.ErrClosed) {
			errs = append(errs, fmt.Errorf("client: close lock node %d: %w", i, err))
		}
	}
	errs = append(errs, r.main.endpoint.provided.close())
	return errors.Join(errs...)
}
