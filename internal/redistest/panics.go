package redistest

import (
	"context"
	"sync/atomic"

	"github.com/redis/go-redis/v9"
)

// Panics is a hook of somebody else that panics, where a context made by PanicBefore or PanicAfter says so. So what
// else uses the client meanwhile, in goroutines where nobody would recover, is spared.
type Panics struct{ Hook }

// ProcessHook implements redis.Hook.
func (Panics) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		p, ok := ctx.Value(panicKey{}).(*planned)
		due := ok && cmd.Name() == "evalsha" && !p.done.Swap(true) // not what sets up a connection, say
		if due && !p.after {
			panic("the hook's own fault")
		}
		err := next(ctx, cmd)
		if due {
			panic("the hook's own fault")
		}
		return err
	}
}

// PanicBefore returns a context whose first script is never sent.
func PanicBefore(ctx context.Context) context.Context {
	return context.WithValue(ctx, panicKey{}, &planned{})
}

// PanicAfter returns a context whose first script runs, but nobody learns what it has replied.
func PanicAfter(ctx context.Context) context.Context {
	return context.WithValue(ctx, panicKey{}, &planned{after: true})
}

type panicKey struct{}

// planned is a panic to come, or past.
type planned struct {
	after bool
	done  atomic.Bool
}
