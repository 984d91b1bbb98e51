package lifecycle

import (
	"context"
	"fmt"

	"go.uber.org/fx"
)

// Blame returns an [fx.Lifecycle] that appends to lc and puts origin before the errors
// of the hooks, such as: cache: instance "sessions". With several servers an address
// alone does not tell a reader which setting to look at.
func Blame(lc fx.Lifecycle, origin string) fx.Lifecycle { return blame{lc, origin} }

type blame struct {
	next   fx.Lifecycle
	origin string
}

// Append changes a copy of the hook, which keeps its name in the log of Fx.
func (b blame) Append(hook fx.Hook) {
	hook.OnStart, hook.OnStop = b.wrap(hook.OnStart), b.wrap(hook.OnStop)
	b.next.Append(hook)
}

func (b blame) wrap(call func(context.Context) error) func(context.Context) error {
	if call == nil {
		return nil
	}
	return func(ctx context.Context) error {
		if err := call(ctx); err != nil {
			return fmt.Errorf("%s: %w", b.origin, err)
		}
		return nil
	}
}
