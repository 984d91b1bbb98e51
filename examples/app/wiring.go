package main

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"go.uber.org/fx"
	"go.uber.org/fx/fxevent"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/compozy/cache"
	"github.com/compozy/cache/health"
)

// wiring is the whole application. cache.Module gives it Redis, locks, notifications and health, NewState the
// states of its workflows, NewCache the cache of customers; the rest is its own.
func wiring(o Options, c *Console, redis *server, exit *Exit) fx.Option {
	return fx.Options(
		cache.Module,
		cache.WithConfig(redis.Config),
		cache.RegisterMetrics,
		cache.NewState[Workflow]("workflows", cache.WithTTL(keep)),
		customerCache(),

		fx.Supply(o, c, redis, exit),
		fx.Provide(
			newLogger, newRegistry,
			func() *Tally { return new(Tally) },
			NewStore, NewBoard, NewBooks, NewPool, NewWatcher, NewRunner,
			NewDiary, NewOutage, NewCustomers, NewPresence, NewHelpers, NewBreakage, NewPulse, NewServer,
			// What the example itself has to say goes where the module's checks and metrics are.
			fx.Annotate(workersCheck, fx.ResultTags(`group:"`+cache.HealthGroup+`"`)),
			fx.Annotate((*Tally).Collector, fx.ResultTags(`group:"`+cache.MetricsGroup+`"`)),
		),
		fx.Invoke(func(*Server, *Runner) {}),
		fx.WithLogger(func(log *zap.Logger) fxevent.Logger {
			quiet := &fxevent.ZapLogger{Logger: log.Named("fx")}
			quiet.UseLogLevel(zapcore.DebugLevel)   // which newLogger does not print
			quiet.UseErrorLevel(zapcore.DebugLevel) // run prints them
			return quiet
		}),
	)
}

// newLogger prints what the parts have to say among the events.
func newLogger(o Options, c *Console) *zap.Logger {
	level := zapcore.InfoLevel
	if o.Batch() && !o.Verbose {
		level = zapcore.WarnLevel
	}
	format := zapcore.EncoderConfig{
		TimeKey: "time", LevelKey: "level", NameKey: "name", MessageKey: "message",
		EncodeTime:       zapcore.TimeEncoderOfLayout("15:04:05.000"),
		EncodeLevel:      zapcore.LowercaseLevelEncoder,
		EncodeDuration:   zapcore.StringDurationEncoder,
		ConsoleSeparator: "  ",
	}
	return zap.New(zapcore.NewCore(zapcore.NewConsoleEncoder(format), zapcore.AddSync(c), level))
}

// newRegistry has the process' own metrics beside those of the module.
func newRegistry() (prometheus.Registerer, prometheus.Gatherer) {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r, r
}

// workersCheck makes the readiness report say how the workers are.
func workersCheck(p *Pool) health.Check {
	return health.Check{Name: "workers", Kind: health.Readiness, Func: p.HealthCheck}
}
