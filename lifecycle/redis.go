package lifecycle

import (
	"context"
	"fmt"
	"slices"
	"time"

	"go.uber.org/fx"
	"go.uber.org/zap"
)

// Connection is what the life cycle needs of a Redis client.
type Connection interface {
	// Open lets the client dial. Before it, nothing may reach the network.
	Open()
	// WaitReady pings until Redis answers or ctx ends.
	WaitReady(ctx context.Context) error
	// HealthCheck asks once.
	HealthCheck(ctx context.Context) error
	// Close closes all connections. It may be repeated.
	Close() error
}

// Redis starts and stops a client.
type Redis struct {
	Connection Connection
	// Required decides what an unreachable server means at start: an error, or
	// a warning and an application that becomes ready once Redis is there.
	Required bool
	// ProbeTimeout bounds the one question asked when Redis is not required.
	ProbeTimeout time.Duration
	// Logger must not be nil.
	Logger *zap.Logger
	// Summary is what the one start-up line says of the wiring.
	Summary []zap.Field
}

// AppendRedis appends the hooks of r to lc. Close is a hook of its own and
// comes first: a hook whose start failed is never stopped, so a failed ping
// would otherwise leave the connections open.
func AppendRedis(lc fx.Lifecycle, r *Redis) {
	lc.Append(fx.StopHook(r.Close))
	lc.Append(fx.StartHook(r.Start))
}

// Start opens the connection and waits, for at most half of what remains of
// ctx, until Redis answers. When Redis is not required it asks just once, for
// at most ProbeTimeout, and an unreachable server is a warning: the client
// connects by itself when it can.
func (r *Redis) Start(ctx context.Context) error {
	r.Connection.Open()
	ctx, cancel := share(ctx, 2)
	defer cancel()

	if r.Required {
		if err := r.Connection.WaitReady(ctx); err != nil {
			return fmt.Errorf("cache: Redis did not become ready: %w", err)
		}
		r.Logger.Info("cache: started", r.Summary...)
		return nil
	}

	ctx, cancelProbe := context.WithTimeout(ctx, r.ProbeTimeout)
	defer cancelProbe()
	if err := r.Connection.HealthCheck(ctx); err != nil {
		r.Logger.Warn("cache: started without Redis, which is not required",
			append(slices.Clip(r.Summary), zap.Error(err))...)
		return nil
	}
	r.Logger.Info("cache: started", r.Summary...)
	return nil
}

// Close closes all connections of the client.
func (r *Redis) Close() error {
	if err := r.Connection.Close(); err != nil {
		return fmt.Errorf("cache: closing Redis: %w", err)
	}
	return nil
}
