package store

import (
	"context"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/cache/internal/batch"
	"github.com/compozy/cache/internal/redisx"
)

// reloadDelay is how long after a failure the state of a cluster is loaded again, as another node may be the master by now.
// That takes a connection of the application's, and maybe the only one to a server to which no more can be opened: go-redis
// lets a command that comes meanwhile wait for a new one, and not for that one. So a renewal that is repeated comes first.
const reloadDelay = 50 * time.Millisecond

// pipeline makes calls in a round trip for each 500, and gives each reply to done, maybe several at the same time. It
// returns when ctx ends, even if the client does not heed contexts; calls without a reply have failed then. A server that
// may not know the scripts is given them in full at once, if that is asked for, which saves a round trip. What a hook of the
// client does is a failure of the calls.
func (l link) pipeline(
	ctx context.Context, client redis.UniversalClient, full bool, calls []call, done func(i int, number int64, err error),
) {
	cmds, list := make([]*redis.Cmd, len(calls)), make([]batch.Keyed, len(calls))
	given := make(map[*redisx.Script]bool)
	for i, c := range calls {
		cmd, sent := c.command(ctx, full && !given[c.script])
		given[c.script] = true
		cmds[i], list[i] = cmd, batch.Keyed{Key: c.keys[0], Cmd: sent}
	}
	answered := make([]bool, len(calls))
	var reload sync.Once
	give := func(i int, number int64, err error) {
		if l.cluster != nil && err != nil && !redisx.IsReply(err) {
			reload.Do(func() {
				time.AfterFunc(reloadDelay, func() { l.cluster.ReloadState(context.WithoutCancel(ctx)) })
			})
		}
		done(i, number, err)
	}
	finish := func(i int) {
		answered[i] = true
		number, err := int64(0), cmds[i].Err()
		if err == nil {
			number, err = integer(cmds[i].Val())
		}
		give(i, number, err)
	}
	var mu sync.Mutex // guards failed
	failed := errNoAnswer
	attempt := func(list []batch.Keyed, done func(part []int)) {
		if err := batch.Attempt(ctx, client, nil, list, done); err != nil {
			l.set.Panicked(err)
			mu.Lock()
			defer mu.Unlock()
			failed = err
		}
	}
	attempt(list, func(part []int) {
		// A server may not know a script. It is given in full once, and known for the other calls.
		var unknown []int
		var again []batch.Keyed
		full := make(map[*redisx.Script]bool)
		for _, i := range part {
			if !redisx.IsUnknownScript(cmds[i].Err()) {
				finish(i)
				continue
			}
			script := calls[i].script
			cmd, sent := calls[i].command(ctx, !full[script])
			full[script], cmds[i] = true, cmd
			unknown, again = append(unknown, i), append(again, batch.Keyed{Key: list[i].Key, Cmd: sent})
		}
		attempt(again, func(part []int) {
			for _, k := range part {
				finish(unknown[k])
			}
		})
	})
	for i, ok := range answered {
		if !ok {
			give(i, 0, failed)
		}
	}
}
