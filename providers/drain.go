package providers

import (
	"fmt"

	"go.uber.org/fx"

	"github.com/compozy/cache/config"
	"github.com/compozy/cache/health"
	"github.com/compozy/cache/lifecycle"
)

// Drain constructs what makes the instance not ready at stop, and its check. The caller
// appends its hook, after all others.
func (i Instance) Drain(env Environment, cfg *config.Config) (*lifecycle.Drain, health.Check) {
	d := &lifecycle.Drain{Delay: cfg.WithDefaults().DrainDelay, Logger: i.logger(env.Logger)}
	return d, health.Check{Name: i.check("running"), Kind: health.Readiness, Func: d.Check}
}

// drain is what an instance contributes. The group "cache.drains" is the module's own.
type drain struct {
	fx.Out
	Drain *lifecycle.Drain `group:"cache.drains"`
	Check health.Check     `group:"health"`
}

func newDrain(i Instance) any {
	return func(env environment, cfg input[*config.Config]) drain {
		d, check := i.Drain(env.plain(), cfg.value)
		return drain{Drain: d, Check: check}
	}
}

// drains are those of all instances.
type drains struct {
	fx.In
	Lifecycle fx.Lifecycle
	All       []*lifecycle.Drain `group:"cache.drains"`
}

func appendDrains(in drains) { lifecycle.AppendDrains(in.Lifecycle, in.All) }

// DrainOnStop appends the hook of all instances once more where it stands: before the
// hooks of whatever is constructed later.
func DrainOnStop() fx.Option {
	return fx.Invoke(func(in drains) error {
		if len(in.All) == 0 {
			return fmt.Errorf("%w: DrainOnStop has no effect without cache.Module or cache.Named", ErrInvalidOption)
		}
		appendDrains(in)
		return nil
	})
}
