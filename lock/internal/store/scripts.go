package store

import (
	"context"
	"embed"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/cache/internal/redisx"
)

//go:embed *.lua
var sources embed.FS

// scripts is what a Redis is asked for.
type scripts struct{ acquire, enqueue, release, leave, extend, raise, repair, inspect *redisx.Script }

// newScripts makes the scripts for one of several servers, or for the only one.
func newScripts(several bool) scripts {
	tokens := "clock"
	if several {
		tokens = "counter"
	}
	return scripts{
		acquire: script("tries", tokens, "take", "acquire"),
		enqueue: script("tries", tokens, "take", "enqueue"),
		release: script("tries", "pass", "release"),
		leave:   script("pass", "leave"),
		extend:  script("tries", "extend"),
		raise:   script("tries", "raise"),
		repair:  script("tries", "repair"),
		inspect: script("inspect"),
	}
}

// call is a script that is to be run, and can be run twice.
type call struct {
	script *redisx.Script
	keys   []string
	args   []any
	// tries is set if the call may set a lock: then the second argument is a number from it, another one each time.
	tries *Tries
}

// command returns what to send, and as what, so that the client sends no number twice by itself. full says that the script
// is not known to the server.
func (c call) command(ctx context.Context, full bool) (cmd *redis.Cmd, sent redis.Cmder) {
	cmd = c.script.Command(ctx, c.keys, c.arguments()...)
	if full {
		cmd = c.script.Full(ctx, cmd)
	}
	if c.tries != nil {
		return cmd, redisx.Once(cmd)
	}
	return cmd, cmd
}

// arguments returns those to run the script with now. They are copied before the next ones are asked for.
func (c call) arguments() []any {
	if c.tries != nil {
		c.args[1] = c.tries.next()
	}
	return c.args
}

// releasing frees a lock. How long that stays taken depends on when the call is made.
func (s scripts) releasing(c Claim, reservation time.Duration) call {
	keep := max(time.Until(c.KeepUntil), 0)
	return call{
		script: s.release, keys: c.Keys.freeing(), args: []any{c.Value, reservation.Milliseconds(), keep.Milliseconds()},
	}
}

// extending makes a lock last longer whose value a try with this number has set.
func (s scripts) extending(c Claim, number int) call {
	return call{script: s.extend, keys: []string{c.Keys.Lock()}, args: []any{c.value(number), c.TTL.Milliseconds()}}
}

// script makes one of the files that it consists of.
func script(names ...string) *redisx.Script {
	return redisx.NewScript(redisx.Source(sources, names...))
}
