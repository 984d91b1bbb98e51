package lease

import (
	"context"
	"embed"
	"errors"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/cache/internal/batch"
	"github.com/compozy/cache/internal/redisx"
	"github.com/compozy/cache/store/internal/entry"
	"github.com/compozy/cache/store/internal/near"
	"github.com/compozy/cache/store/internal/wake"
)

//go:embed *.lua
var sources embed.FS

var (
	errUnexpected = errors.New("unexpected reply of a script")
	errNoReply    = errors.New("no reply in time")
)

// scripts is what a server is asked for.
type scripts struct{ lease, fill, fail, renew *redisx.Script }

func newScripts() scripts {
	return scripts{lease: script("lease"), fill: script("fill"), fail: script("fail"), renew: script("renew")}
}

func script(name string) *redisx.Script {
	return redisx.NewScript(entry.Lua + wake.Lua + near.Lua + redisx.Source(sources, name))
}

// call is a script that is to be run, and can be run twice.
type call struct {
	script *redisx.Script
	keys   []string
	args   []any
}

// run makes a call, together with those of others.
func (l *Leases) run(ctx context.Context, c call) ([]any, error) {
	reply, _, err := l.set.Runner.Run(ctx, c.script, c.keys, func(bool) []any { return c.args })
	return list(reply, err)
}

// runMany makes calls in one round trip to each master, and returns their replies and errors in the same order. Servers that
// do not know a script are asked a second time.
func (l *Leases) runMany(ctx context.Context, calls []call) (replies [][]any, errs []error) {
	replies, errs = make([][]any, len(calls)), make([]error, len(calls))
	all := make([]int, len(calls))
	for i := range calls {
		all[i], errs[i] = i, errNoReply
	}
	ctx, cancel := context.WithTimeoutCause(ctx, l.set.Timeout, errNoReply)
	defer cancel()
	for _, full := range []bool{false, true} {
		list, cmds := make([]batch.Keyed, len(all)), make([]*redis.Cmd, len(all))
		for i, index := range all {
			c := calls[index]
			if cmds[i] = c.script.Command(ctx, c.keys, c.args...); full {
				cmds[i] = c.script.Full(ctx, cmds[i])
			}
			list[i] = batch.Keyed{Key: c.keys[0], Cmd: cmds[i]}
		}
		l.pipeline(ctx, list, func(i int) { replies[all[i]], errs[all[i]] = result(cmds[i]) })
		var unknown []int
		for _, index := range all {
			if redisx.IsUnknownScript(errs[index]) {
				unknown = append(unknown, index)
			}
		}
		if all = unknown; len(all) == 0 {
			break
		}
	}
	return replies, errs
}

// pipeline sends commands, and calls done with the index of each that was answered, or has failed.
func (l *Leases) pipeline(ctx context.Context, list []batch.Keyed, done func(i int)) {
	batch.Pipeline(ctx, l.set.Client, l.set.Go, list, func(indexes []int) {
		for _, i := range indexes {
			done(i)
		}
	})
}

func result(cmd *redis.Cmd) ([]any, error) { return list(cmd.Val(), cmd.Err()) }

// list converts a reply, which has a word at its beginning.
func list(reply any, err error) ([]any, error) {
	if err != nil {
		return nil, err
	}
	parts, ok := reply.([]any)
	if !ok || len(parts) == 0 {
		return nil, errUnexpected
	}
	if _, ok = parts[0].(string); !ok {
		return nil, errUnexpected
	}
	return parts, nil
}
