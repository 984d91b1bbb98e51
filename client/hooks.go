package client

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/cache/internal/redisx"
)

// hook stands before every command: it refuses what comes before Open or after Close,
// and measures the rest. It must not allocate, since it runs for every command.
type hook struct {
	gate    *gate
	metrics *metrics
	server  *server // to note that it has answered
	// sentinelPassword is what the sentinels' replies must not show.
	sentinelPassword string
}

var _ redis.Hook = (*hook)(nil)

// DialHook guards connections that no command asked for.
func (h *hook) DialHook(next redis.DialHook) redis.DialHook {
	return h.gate.guardDial(hideSentinels(h.sentinelPassword, next))
}

// ProcessHook guards and measures a single command.
func (h *hook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if err := h.gate.enter(); err != nil {
			cmd.SetErr(err)
			return err
		}
		defer h.gate.leave()
		start := time.Now()
		err := greet(ctx, cmd, next)
		m := h.metrics.command(cmd.Name())
		m.seconds.Observe(time.Since(start).Seconds())
		m.count(err)
		if err == nil {
			h.server.succeeded()
		}
		return err
	}
}

// ProcessPipelineHook guards and measures a pipeline: the commands are counted one
// by one, the time once.
func (h *hook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if err := h.gate.enter(); err != nil {
			for _, cmd := range cmds {
				cmd.SetErr(err)
			}
			return err
		}
		defer h.gate.leave()
		start := time.Now()
		err := hideInPipeline(cmds, next(ctx, cmds))
		if err == nil {
			h.server.succeeded()
		}
		h.metrics.pipeline.Observe(time.Since(start).Seconds())
		for _, cmd := range cmds {
			h.metrics.command(cmd.Name()).count(cmd.Err())
		}
		return err
	}
}

// nodeHook guards the node clients of a Cluster, which the Cluster client uses for
// purposes of its own, such as finding the other nodes. It measures nothing: the
// commands were measured when they entered the Cluster client.
type nodeHook struct{ gate *gate }

var _ redis.Hook = nodeHook{}

// DialHook guards connections that no command asked for.
func (h nodeHook) DialHook(next redis.DialHook) redis.DialHook {
	return h.gate.guardDial(next)
}

// ProcessHook guards a single command.
func (h nodeHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if err := h.gate.enter(); err != nil {
			cmd.SetErr(err)
			return err
		}
		defer h.gate.leave()
		return greet(ctx, cmd, next)
	}
}

// ProcessPipelineHook changes nothing. Unlike the others it is called for every
// pipeline, so a function made here would be an allocation each time.
func (h nodeHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
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
	err := hidesArguments(cmd, next(ctx, cmd))
	cmd.SetErr(err)
	return err
}

// hideInPipeline removes passwords from the errors of cmds, and returns err, which is
// that of one of them or of their pipeline.
func hideInPipeline(cmds []redis.Cmder, err error) error {
	if err == nil {
		return nil
	}
	for _, cmd := range cmds {
		if raw := cmd.Err(); raw != nil {
			cmd.SetErr(hidesArguments(cmd, raw))
			if err.Error() == raw.Error() {
				err = cmd.Err()
			}
		}
	}
	return err
}

// Values of the label status.
const (
	statusOK = iota
	statusError
	statusTimeout
	statusCanceled
	statuses
)

// statusName returns the label of a status.
func statusName(status int) string {
	return [statuses]string{"ok", "error", "timeout", "canceled"}[status]
}

// status classifies the outcome of a command.
func status(err error) int {
	// Only a bare redis.Nil is a missing key: go-redis wraps that of sentinels that do
	// not know the master in the error of every command.
	if err == nil || err == redis.Nil { //nolint:errorlint // see above
		return statusOK
	}
	var timeout net.Error
	switch {
	case errors.Is(err, context.Canceled):
		return statusCanceled
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, redis.ErrPoolTimeout):
		return statusTimeout
	case errors.As(err, &timeout) && timeout.Timeout():
		return statusTimeout
	default:
		return statusError
	}
}
