package lifecycle

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.uber.org/fx"
	"go.uber.org/zap"
)

// Connection is what the life cycle needs of a Redis client.
type Connection interface {
	// Open lets the client dial. Before it, nothing may reach the network.
	Open()
	// WaitReady asks until Redis is fit for use, ctx ends, or an answer shows that
	// waiting cannot help.
	WaitReady(ctx context.Context) error
	// HealthCheck asks the server once.
	HealthCheck(ctx context.Context) error
	// CheckLockNodes asks the lock nodes once, where there are any.
	CheckLockNodes(ctx context.Context) error
	// Close closes all connections. It may be repeated.
	Close() error
}

// Redis starts and stops a client.
type Redis struct {
	Connection Connection
	// Required decides what an unreachable server, or no majority of the lock nodes,
	// means at start: an error, or a warning and an application that becomes ready
	// once they are there.
	Required bool
	// ProbeTimeout bounds the questions asked when Redis is not required.
	ProbeTimeout time.Duration
	// Logger must not be nil.
	Logger *zap.Logger
	// Summary is what the one start-up line says of the wiring.
	Summary []zap.Field
}

// AppendRedis appends the hooks of r to lc. Close is a hook of its own and
// comes first: a hook whose start failed is never stopped, so a failed check
// would otherwise leave the connections open.
func AppendRedis(lc fx.Lifecycle, r *Redis) {
	lc.Append(fx.StopHook(r.Close))
	lc.Append(fx.StartHook(r.Start))
}

// Start opens the connection and waits, for at most half of what remains of
// ctx, until Redis is fit for use. When Redis is not required it asks just once, for
// at most ProbeTimeout, and an unreachable server, or no majority of the lock
// nodes, is a warning: the client connects by itself when it can.
func (r *Redis) Start(ctx context.Context) error {
	r.Connection.Open()
	ctx, cancel := share(ctx, 2)
	defer cancel()

	if !r.Required {
		r.probe(ctx)
		return nil
	}
	if err := r.Connection.WaitReady(ctx); err != nil {
		return fmt.Errorf("cache: Redis did not become ready: %w", err)
	}
	r.Logger.Info("cache: started", r.Summary...)
	return nil
}

// probe asks the server and the lock nodes, both at once since a server that
// hangs takes all the time there is, and writes the start-up line.
func (r *Redis) probe(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, r.ProbeTimeout)
	defer cancel()
	var server, nodes error
	var asked sync.WaitGroup
	asked.Go(func() { server = r.Connection.HealthCheck(ctx) })
	asked.Go(func() { nodes = r.Connection.CheckLockNodes(ctx) })
	asked.Wait()

	fields := slices.Clip(r.Summary)
	switch {
	case server != nil:
		r.Logger.Warn("cache: started without Redis, which is not required",
			append(fields, zap.Error(server), zap.NamedError("lock_nodes_error", nodes))...)
	case nodes != nil:
		r.Logger.Warn("cache: started without a majority of the lock nodes, which is not required",
			append(fields, zap.NamedError("lock_nodes_error", nodes))...)
	default:
		r.Logger.Info("cache: started", fields...)
	}
}

// Close closes all connections of the client.
func (r *Redis) Close() error {
	if err := r.Connection.Close(); err != nil {
		return fmt.Errorf("cache: closing Redis: %w", err)
	}
	return nil
}
