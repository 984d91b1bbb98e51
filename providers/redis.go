package providers

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/fx"
	"go.uber.org/zap"

	"github.com/compozy/cache/client"
	"github.com/compozy/cache/config"
	"github.com/compozy/cache/health"
	"github.com/compozy/cache/lifecycle"
)

// Instance names what belongs together: the parts of one Redis.
type Instance struct {
	// Name is empty for the unnamed instance.
	Name string
}

// defaultLabel is what metrics and logs call the unnamed instance.
const defaultLabel = "default"

// label is the name in metrics and logs.
func (i Instance) label() string {
	if i.Name == "" {
		return defaultLabel
	}
	return i.Name
}

// check names a health check of the instance.
func (i Instance) check(part string) string {
	if i.Name == "" {
		return part
	}
	return i.Name + "." + part
}

// logger replaces the missing logger of an application that has none.
func (i Instance) logger(log *zap.Logger) *zap.Logger {
	if log == nil {
		return zap.NewNop()
	}
	return log.With(zap.String("cache", i.label()))
}

// Redis constructs the client. It does no I/O before its start hook runs. A nil
// logger logs nothing, a nil TracerProvider traces nothing.
func (i Instance) Redis(
	lc fx.Lifecycle, cfg *config.Config, log *zap.Logger, tracing trace.TracerProvider,
) (*client.Redis, []health.Check, prometheus.Collector, error) {
	log = i.logger(log)
	opts := []client.Option{client.WithLogger(log), client.WithName(i.label())}
	if tracing != nil {
		opts = append(opts, client.WithTracerProvider(tracing))
	}
	cfg = cfg.WithDefaults()
	r, err := client.New(cfg, opts...)
	if err != nil {
		return nil, nil, nil, err
	}
	lifecycle.AppendRedis(lc, &lifecycle.Redis{
		Connection:   r,
		Required:     cfg.IsRequired(),
		ProbeTimeout: cfg.PingTimeout,
		Logger:       log,
		Summary: []zap.Field{
			zap.String("addr", r.Addr()),
			zap.Bool("tls", cfg.UsesTLS()),
			zap.Bool("tracing", tracing != nil),
			zap.Bool("required", cfg.IsRequired()),
			zap.Int("lock_nodes", len(cfg.LockNodes)),
			zap.Int("notification_history", cfg.NotificationHistorySize),
		},
	})
	checks := []health.Check{{
		Name: i.check("redis"), Kind: health.Readiness, Timeout: cfg.PingTimeout, Func: r.HealthCheck,
		Warnings: r.Warnings,
	}}
	return r, checks, r.Collector(), nil
}

// Universal makes the client available under go-redis' own interface. A
// constructor of its own lets a replaced *client.Redis show through.
func (Instance) Universal(r *client.Redis) redis.UniversalClient { return r }
