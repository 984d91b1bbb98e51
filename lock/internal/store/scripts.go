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
		acquire: script(tokens, "take", "acquire"),
		enqueue: script(tokens, "take", "enqueue"),
		release: script("pass", "release"),
		leave:   script("pass", "leave"),
		extend:  script("extend"),
		raise:   script("raise"),
		repair:  script("repair"),
		inspect: script("inspect"),
	}
}

// call is a script that is to be run, and can be run twice.
type call struct {
	script *redisx.Script
	keys   []string
	args   []any
}

func (c call) command(ctx context.Context) *redis.Cmd {
	return c.script.Command(ctx, c.keys, c.args...)
}

// releasing frees a lock. How long that stays taken depends on when the call is made.
func (s scripts) releasing(c Claim, reservation time.Duration) call {
	keep := max(time.Until(c.KeepUntil), 0)
	return call{s.release, c.Keys.freeing(), []any{c.Value, reservation.Milliseconds(), keep.Milliseconds()}}
}

func (s scripts) extending(c Claim) call {
	return call{s.extend, []string{c.Keys.Lock()}, []any{c.Value, c.TTL.Milliseconds()}}
}

// script makes one of the files that it consists of.
func script(names ...string) *redisx.Script {
	var source []byte
	for _, name := range names {
		part, err := sources.ReadFile(name + ".lua")
		if err != nil {
			panic(err) // impossible: the files are part of the program
		}
		source = append(source, part...)
	}
	return redisx.NewScript(string(source))
}
