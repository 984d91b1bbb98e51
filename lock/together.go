package lock

import (
	"context"

	"github.com/redis/go-redis/v9"
)

// runSize is how many calls one run of a script does at most: a run keeps the server busy for some 3µs each.
const runSize = 100

// result is what came back for a call.
type result struct {
	reply any
	err   error
	// together says that err is about a run of several calls: one of them may be to blame, or all, or none, as the server
	// does not know the script.
	together bool
}

// number returns a reply that is an integer.
func (r result) number() (int64, error) {
	if r.err != nil {
		return 0, r.err
	}
	return integer(r.reply)
}

// ordinary reports whether a call can be done in one run with others of its script. To start a run costs the server about
// as much as what most calls ask for.
func (c call) ordinary() bool {
	return c.script.many != nil && len(c.args) == beforeKeys+c.script.keys+c.script.params
}

// together returns how many of the first calls can be done in one run.
func together(calls []call) int {
	s, count := calls[0].script, 0
	for count < min(len(calls), runSize) && calls[count].script == s && calls[count].ordinary() {
		count++
	}
	return max(count, 1)
}

// join makes one call of several ordinary ones.
func join(calls []call) call {
	s := calls[0].script
	args := make([]any, beforeKeys, beforeKeys+len(calls)*(s.keys+s.params))
	args[0], args[1], args[2] = "evalsha", s.many.hash, len(calls)*s.keys
	for _, c := range calls {
		args = append(args, c.args[beforeKeys:beforeKeys+s.keys]...)
	}
	for _, c := range calls {
		args = append(args, c.args[beforeKeys+s.keys:]...)
	}
	return call{script: s.many, args: args}
}

// execute sends calls in one round trip, several with one command where that is possible and not forbidden by singly, and
// gives the results to done, with the places of the calls. wrap is given each command before it is sent.
func (n *node) execute(
	ctx context.Context, calls []call, singly bool, wrap func(*redis.Cmd) redis.Cmder, done func(place int, r result),
) {
	var room [8]part // on the stack, and enough for what is joined
	parts := room[:0]
	for rest := calls; len(rest) > 0; {
		c, count := rest[0], 1
		if !singly && !n.separate.Load() {
			count = together(rest)
		}
		if count > 1 {
			c = join(rest[:count])
			c.whole = !n.loaded[c.script.index].Load()
		}
		parts = append(parts, part{script: c.script, cmd: c.command(ctx), calls: count})
		rest = rest[count:]
	}
	if len(parts) == 1 {
		_ = n.client.Process(ctx, wrap(parts[0].cmd))
	} else {
		pipe := n.client.Pipeline()
		for _, p := range parts {
			_ = pipe.Process(ctx, wrap(p.cmd)) // only queues
		}
		_, _ = pipe.Exec(ctx) // each command has its own error
	}
	first := 0
	for _, p := range parts {
		p.results(first, done)
		if p.calls > 1 {
			n.learn(p.script, p.cmd.Err())
		}
		first += p.calls
	}
}

// learn takes note of what a run of several calls has told of the server: whether it knows the script, and whether it
// is part of a cluster though our client does not know, as behind a proxy. Then keys are on different nodes.
func (n *node) learn(s *script, err error) {
	switch {
	case err == nil:
		n.loaded[s.index].Store(true)
	case redis.HasErrorPrefix(err, "NOSCRIPT"):
		n.loaded[s.index].Store(false)
	case redis.HasErrorPrefix(err, "CROSSSLOT"):
		n.separate.Store(true)
	}
}

// part is a command of a pipeline, and how many calls it is for.
type part struct {
	script *script
	cmd    *redis.Cmd
	calls  int
}

// results tells what the server has said of each call; first is the place of the part's first one.
func (p part) results(first int, done func(place int, r result)) {
	if p.calls == 1 {
		reply, err := p.script.reply(p.cmd)
		done(first, result{reply: reply, err: err})
		return
	}
	list, err := p.cmd.Slice()
	if err == nil && len(list) != p.calls {
		err = errUnexpectedReply
	}
	for i := range p.calls {
		r := result{err: err, together: true}
		if err == nil {
			r = result{reply: list[i]}
			if text, ok := r.reply.(string); ok {
				r = result{err: scriptError(text)}
			}
		}
		done(first+i, r)
	}
}

// scriptError is an error of Redis that came as text, see plain.lua.
type scriptError string

// Error implements error.
func (e scriptError) Error() string { return string(e) }

// RedisError implements redis.Error.
func (scriptError) RedisError() {}

// reply returns what the script says of a single call.
func (s *script) reply(cmd *redis.Cmd) (any, error) {
	reply, err := cmd.Result()
	if list, ok := reply.([]any); ok && err == nil && s.many == s {
		if len(list) != 1 {
			return nil, errUnexpectedReply
		}
		reply = list[0]
	}
	return reply, err
}
