package notification_test

import (
	"context"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/cache/internal/redistest"
)

// hooked is a client with a hook that those connections have as well which the system makes for itself.
type hooked struct {
	*redis.Client
	hook redis.Hook
}

// withHook adds a hook to a client, for its own commands and for those of the system.
func withHook(client *redis.Client, hook redis.Hook) hooked {
	client.AddHook(hook)
	return hooked{client, hook}
}

func (h hooked) Unwrap() redis.UniversalClient { return h.Client }

// ConnectionHook makes the hook one for every connection.
func (h hooked) ConnectionHook() redis.Hook { return h.hook }

// partHook does something whenever a part of the journal is read.
type partHook struct {
	redistest.Hook

	read func(ctx context.Context, part part, next func() error) error
}

// part is what is asked for.
type part struct {
	count    int    // entries at most
	listened string // channel that tells the server
	cmds     []redis.Cmder
}

// ProcessHook is for parts of entries that are read one by one, by a script.
func (h *partHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		args := cmd.Args()
		if !strings.HasPrefix(cmd.Name(), "eval") || len(args) != 9 || args[2] != 2 {
			return next(ctx, cmd)
		}
		p := part{cmds: []redis.Cmder{cmd}}
		p.listened, _ = args[5].(string)
		p.count, _ = args[7].(int)
		err := h.read(ctx, p, func() error { return next(ctx, cmd) })
		if err != nil {
			cmd.SetErr(err)
		}
		return err
	}
}

func (h *partHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		p := part{cmds: cmds}
		for _, cmd := range cmds {
			args := cmd.Args()
			switch {
			case strings.HasPrefix(cmd.Name(), "eval"):
				p.listened, _ = args[len(args)-1].(string)
			case cmd.Name() == "xrange" && args[2] != "-" && args[3] == "+":
				p.count, _ = args[slices.Index(args, any("count"))+1].(int)
			}
		}
		if p.count == 0 {
			return next(ctx, cmds)
		}
		err := h.read(ctx, p, func() error { return next(ctx, cmds) })
		for _, cmd := range cmds {
			if err != nil {
				cmd.SetErr(err)
			}
		}
		return err
	}
}
