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

// AfterScript returns a hook that calls a function whenever a script has come back. Other single commands may come in
// between, such as what sets up a connection.
func AfterScript(f func()) redis.Hook { return afterScript{f: f} }

type afterScript struct {
	Hook

	f func()
}

func (h afterScript) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if cmd.Name() == "evalsha" {
			defer h.f()
		}
		return next(ctx, cmd)
	}
}
