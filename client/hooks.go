package client

import (
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/cache/internal/redisx"
)

// guardHook refuses commands and dials before Open and after Close, and keeps passwords out of errors. The nodes of a Cluster
// have it too, as the Cluster client sends commands of its own through them, and so have clients made with
// Redis.ConnectionHook.
type guardHook struct {
	gate             *gate
	sentinelPassword string // what the sentinels' replies must not show
	dialTimeout      time.Duration
}

// guard returns the guardHook of clients of s.
func (s *server) guard() guardHook {
	return guardHook{s.gate, s.endpoint.options.SentinelPassword, s.endpoint.options.DialTimeout}
}

var (
	_ redis.Hook    = guardHook{}
	_ fmt.Formatter = guardHook{}
)

// Format writes what the hook is, whatever the verb, and not the password in it.
func (guardHook) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, "client.ConnectionHook") }

// DialHook guards connections that no command asked for.
func (h guardHook) DialHook(next redis.DialHook) redis.DialHook {
	return h.gate.guardDial(hideSentinels(h.sentinelPassword, next), h.dialTimeout)
}

// ProcessHook guards a single command.
func (h guardHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if err := h.gate.enter(); err != nil {
			cmd.SetErr(err)
			return err
		}
		defer h.gate.leave()
		return greet(ctx, cmd, next)
	}
}

// ProcessPipelineHook gives the error of a pipeline that was not sent to its commands, and
// keeps passwords out of theirs. The gate was passed, or is another's.
func (h guardHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		redisx.SetErrs(cmds, nil)
		var err error
		if initializes(cmds) {
			err = contained(func() error { return next(ctx, cmds) })
		} else {
			err = next(ctx, cmds)
		}
		redisx.Unsent(cmds, err)
		return hideInPipeline(cmds, err)
	}
}

// commandHook also measures what the application sends. It must not allocate, since it runs
// for every command.
type commandHook struct {
	guardHook

	metrics *metrics
}

// ProcessHook guards and measures a single command.
func (h *commandHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return h.guardHook.ProcessHook(func(ctx context.Context, cmd redis.Cmder) error {
		start := time.Now()
		err := next(ctx, cmd)
		m := h.metrics.command(cmd.Name())
		m.seconds.Observe(time.Since(start).Seconds())
		m.count(err)
		return err
	})
}

// ProcessPipelineHook guards and measures a pipeline: the commands are counted one
// by one, the time once.
func (h *commandHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	next = h.guardHook.ProcessPipelineHook(next)
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if err := h.gate.enter(); err != nil {
			redisx.SetErrs(cmds, err)
			return err
		}
		defer h.gate.leave()
		start := time.Now()
		err := next(ctx, cmds)
		h.metrics.pipeline.Observe(time.Since(start).Seconds())
		for _, cmd := range cmds {
			h.metrics.command(cmd.Name()).count(cmd.Err())
		}
		return err
	}
}

// greet runs cmd. What begins the use of a connection is never sent twice, and its error
// shows no password.
//
// go-redis would repeat the HELLO. That cannot help on a connection that failed: the
// command that needs the connection is what gets repeated, on another one.
func greet(ctx context.Context, cmd redis.Cmder, next redis.ProcessHook) error {
	name := cmd.Name()
	if name != "hello" && name != "auth" {
		return next(ctx, cmd)
	}
	if name == "hello" {
		cmd = redisx.Once(cmd)
	}
	err := hidesArguments(cmd, contained(func() error { return next(ctx, cmd) }))
	cmd.SetErr(err)
	return err
}

// begins reports whether cmd may begin the use of a connection.
func begins(cmd redis.Cmder) bool {
	return slices.Contains([]string{"auth", "client", "hello", "readonly", "select"}, cmd.Name())
}

// initializes reports whether cmds are the pipeline with which go-redis begins the use of a connection. One of the application
// without anything else in it is taken for the same.
func initializes(cmds []redis.Cmder) bool {
	for _, cmd := range cmds {
		args := cmd.Args()
		switch name := cmd.Name(); {
		case name == "select", name == "readonly", name == "client" && len(args) > 1 && args[1] == "setname":
		default:
			return false
		}
	}
	return len(cmds) > 0
}

// contained returns the error of f, which begins the use of a connection. A hook of the application that does not return from
// that would cost the pool a place for good: go-redis holds the connection and does not give it back.
func contained(f func() error) error { return foreign(redisx.Apart(f)) }

// hideInPipeline removes passwords from the errors of cmds, and returns err, which is
// that of one of them or of their pipeline. An answer that is no reply ends them all. Where
// cmds begin the use of a connection it may be the rest of what the peer says to AUTH.
func hideInPipeline(cmds []redis.Cmder, err error) error {
	if err == nil {
		return nil
	}
	first := slices.ContainsFunc(cmds, begins)
	for _, cmd := range cmds {
		if raw := cmd.Err(); raw != nil {
			said := hidesArguments(cmd, raw)
			if first && !redisx.IsReply(raw) {
				said = hideReply(raw, "")
			}
			cmd.SetErr(said)
			if err.Error() == raw.Error() {
				err = said
			}
		}
	}
	return err
}
