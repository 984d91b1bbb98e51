package providers

import (
	"context"
	"errors"
	"fmt"

	"go.uber.org/zap"

	"github.com/compozy/cache/client"
	"github.com/compozy/cache/config"
	"github.com/compozy/cache/health"
	"github.com/compozy/cache/lifecycle"
)

// Redis constructs the client. It does no I/O before its start hook runs; the error
// of a start that fails names the instance and where cfg came from.
func (i Instance) Redis(env Environment, cfg *config.Config, from *Source) (Part[*client.Redis], error) {
	log := i.logger(env.Logger)
	opts := []client.Option{client.WithLogger(log), client.WithName(i.label()), client.WithTracerProvider(env.Tracing)}
	origin := func(lockNodes bool) string {
		return fmt.Sprintf("instance %q, configured by %s", i.label(), from.describe(cfg, lockNodes))
	}
	main, nodes := origin(false), origin(true)
	cfg = cfg.WithDefaults()
	r, err := client.New(cfg, opts...)
	if err != nil {
		return Part[*client.Redis]{}, fmt.Errorf("cache: %s: %w", main, err)
	}
	lifecycle.AppendRedis(env.Lifecycle, &lifecycle.Redis{
		Connection:   withOrigin{r, main, nodes},
		Required:     cfg.IsRequired(),
		ProbeTimeout: cfg.PingTimeout,
		Logger:       log,
		Summary: []zap.Field{
			zap.String("addr", r.Addr()),
			zap.Bool("tls", cfg.UsesTLS()),
			zap.Bool("tracing", env.Tracing != nil),
			zap.Bool("required", cfg.IsRequired()),
			zap.Int("lock_nodes", len(cfg.LockNodes)),
			zap.Int("notification_history", cfg.NotificationHistorySize),
		},
	})
	return Part[*client.Redis]{
		Value: r,
		Checks: []health.Check{{
			Name: i.check("redis"), Kind: health.Readiness, Timeout: cfg.PingTimeout, Func: r.HealthCheck,
			Warnings: r.Warnings,
		}},
		Collector: r.Collector(),
	}, nil
}

// withOrigin is a connection whose start says which setting to look at: with several
// servers the address alone does not say it.
type withOrigin struct {
	lifecycle.Connection
	main, nodes string // where the server and the lock nodes are set
}

// WaitReady is that of the connection.
func (w withOrigin) WaitReady(ctx context.Context) error {
	err := w.Connection.WaitReady(ctx)
	if err == nil {
		return nil
	}
	origin := w.main
	if failed, ok := errors.AsType[*client.Error](err); ok && failed.LockNode {
		origin = w.nodes
	}
	return fmt.Errorf("%s: %w", origin, err)
}
