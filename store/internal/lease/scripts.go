package lease

import (
	"context"
	"embed"
	"errors"
	"maps"
	"slices"
	"sync"

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

// partCalls is how many calls are made in one round trip at most.
const partCalls = 500

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

// work is that for the server.
func (c call) work() int {
	work := batch.Work(c.args, 0)
	for _, key := range c.keys {
		work += batch.Work([]any{key}, 0)
	}
	return work
}

// run makes a call, together with those of others.
func (l *Leases) run(ctx context.Context, c call) ([]any, error) {
	reply, _, err := l.set.Runner.Run(ctx, c.script, c.keys, func(bool) []any { return c.args })
	return list(reply, err)
}

// asker is Runner.Ask, or does the same.
type asker func(ctx context.Context, key string, f func(ctx context.Context) error) error

// runMany makes calls, and calls done with the index and the outcome of each, maybe several times at once. Each master has its
// calls in parts, so that it does not take long to answer, and others have their turn. A part that it does not answer in time
// does not keep those that follow from being sent: asker says when it is not to be asked any more.
func (l *Leases) runMany(ctx context.Context, ask asker, calls []call, done func(i int, reply []any, err error)) {
	groups := slices.Collect(maps.Values(
		redisx.ByMaster(l.cluster, len(calls), func(i int) string { return calls[i].keys[0] }),
	))
	panics := make([]error, len(groups))
	var all sync.WaitGroup
	for g, indexes := range groups {
		all.Go(func() {
			panics[g] = redisx.Catch(func() error {
				l.runParts(ctx, ask, calls, indexes, done)
				return nil
			})
		})
	}
	all.Wait()
	for _, err := range panics {
		redisx.Raise(err)
	}
}

// runParts makes the calls with these indexes, some at a time.
func (l *Leases) runParts(
	ctx context.Context, ask asker, calls []call, indexes []int, done func(i int, reply []any, err error),
) {
	for len(indexes) > 0 {
		n, work := 1, calls[indexes[0]].work()
		for ; n < min(len(indexes), partCalls); n++ {
			if work += calls[indexes[n]].work(); work > batch.MaxWork {
				break
			}
		}
		part := make([]call, n)
		for i, index := range indexes[:n] {
			part[i] = calls[index]
		}
		replies, errs := l.runPart(ctx, ask, part)
		for i, index := range indexes[:n] {
			if errs[i] != nil {
				done(index, nil, errs[i])
				continue
			}
			reply, err := list(replies[i], nil)
			done(index, reply, err)
		}
		indexes = indexes[n:]
	}
}

// runPart makes calls in one round trip, and returns their replies and errors. Servers that do not know a script are asked a
// second time.
func (l *Leases) runPart(ctx context.Context, ask asker, calls []call) (replies []any, errs []error) {
	replies, errs = make([]any, len(calls)), slices.Repeat([]error{errNoReply}, len(calls))
	asked := false
	failed := ask(ctx, calls[0].keys[0], func(ctx context.Context) error {
		asked = true
		l.send(ctx, calls, replies, errs)
		for _, err := range errs {
			if err != nil && !redisx.IsReply(err) {
				return err
			}
		}
		return nil
	})
	if !asked {
		errs = slices.Repeat([]error{failed}, len(calls))
	}
	return replies, errs
}

// send sends calls, and leaves the reply or error of each that was answered.
func (l *Leases) send(ctx context.Context, calls []call, replies []any, errs []error) {
	all := make([]int, len(calls))
	for i := range calls {
		all[i] = i
	}
	for _, full := range []bool{false, true} {
		list, cmds := make([]batch.Keyed, len(all)), make([]*redis.Cmd, len(all))
		for i, index := range all {
			c := calls[index]
			if cmds[i] = c.script.Command(ctx, c.keys, c.args...); full {
				cmds[i] = c.script.Full(ctx, cmds[i])
			}
			list[i] = batch.Keyed{Key: c.keys[0], Cmd: cmds[i]}
		}
		batch.Pipeline(ctx, l.set.Client, l.set.Go, list, func(indexes []int) {
			for _, i := range indexes {
				replies[all[i]], errs[all[i]] = cmds[i].Val(), cmds[i].Err()
			}
		})
		var unknown []int
		for _, index := range all {
			if redisx.IsUnknownScript(errs[index]) {
				unknown = append(unknown, index)
				if !full {
					errs[index] = errNoReply // until it has answered again
				}
			}
		}
		if all = unknown; len(all) == 0 {
			return
		}
	}
}

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
