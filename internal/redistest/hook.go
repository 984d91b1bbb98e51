package redistest

import (
	"context"

	"github.com/redis/go-redis/v9"
)

// Hook is a hook of go-redis that changes nothing. Tests embed it in theirs, which have the methods they need.
type Hook struct{}

var _ redis.Hook = Hook{}

// DialHook implements redis.Hook.
func (Hook) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessHook implements redis.Hook.
func (Hook) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

// ProcessPipelineHook implements redis.Hook.
func (Hook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// AfterCommand returns a hook that calls a function whenever a single command has come back.
func AfterCommand(f func()) redis.Hook { return afterCommand{f: f} }

type afterCommand struct {
	Hook

	f func()
}

func (h afterCommand) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		defer h.f()
		return next(ctx, cmd)
	}
}
