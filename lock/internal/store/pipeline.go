package store

import (
	"context"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/cache/internal/batch"
	"github.com/compozy/cache/internal/redisx"
)

// call is a script that is to be run, and can be run twice.
type call struct {
	script *redisx.Script
	keys   []string
	args   []any
}

func (c call) command(ctx context.Context) *redis.Cmd {
	return c.script.Command(ctx, c.keys, c.args...)
}

// pipeline makes calls in a round trip for each 500, and gives each reply to done, maybe several at the same time. It
// returns when ctx ends, even if the client does not heed contexts; calls without a reply have failed then.
func pipeline(ctx context.Context, client redis.UniversalClient, calls []call, done func(i int, number int64, err error)) {
	cmds := make([]*redis.Cmd, len(calls))
	all := make([]int, len(calls))
	for i, c := range calls {
		cmds[i], all[i] = c.command(ctx), i
	}
	answered := make([]bool, len(calls))
	finish := func(i int, cmd *redis.Cmd) {
		answered[i] = true
		number, err := int64(0), cmd.Err()
		if err == nil {
			number, err = integer(cmd.Val())
		}
		done(i, number, err)
	}
	send(ctx, client, calls, all, cmds, func(part []int) {
		// A server may not know a script. It is given in full once, and known for the other calls.
		var unknown []int
		var again []*redis.Cmd
		full := make(map[*redisx.Script]bool)
		for _, i := range part {
			if !redisx.IsUnknownScript(cmds[i].Err()) {
				finish(i, cmds[i])
				continue
			}
			cmd := calls[i].command(ctx)
			if script := calls[i].script; !full[script] {
				full[script] = true
				cmd = script.Full(ctx, cmd)
			}
			unknown, again = append(unknown, i), append(again, cmd)
		}
		send(ctx, client, calls, unknown, again, func(part []int) {
			for _, k := range part {
				finish(unknown[k], again[k])
			}
		})
	})
	for i, ok := range answered {
		if !ok {
			done(i, 0, errNoAnswer)
		}
	}
}

// send sends commands for some of the calls, whose indexes are given.
func send(
	ctx context.Context, client redis.UniversalClient, calls []call, indexes []int, cmds []*redis.Cmd, done func(part []int),
) {
	list := make([]batch.Keyed, len(cmds))
	for k, i := range indexes {
		list[k] = batch.Keyed{Key: calls[i].keys[0], Cmd: cmds[k]}
	}
	batch.Pipeline(ctx, client, list, done)
}
