package lock

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/cache/internal/batch"
	"github.com/compozy/cache/internal/redisx"
)

const (
	// maxTries is how often a command is sent when it fails.
	maxTries = 4
	// retryDelay is the first pause before something that failed is sent again; each further one is twice as long.
	retryDelay = 5 * time.Millisecond
	// aloneTime is by how much the end of a caller's context may go unnoticed when a quick server suddenly hangs.
	aloneTime = 200 * time.Millisecond
)

// node is one Redis that grants locks: the only one, or one of the masters of a quorum. A cluster is one node.
type node struct {
	manager  *RedisLockManager
	index    int
	client   redis.UniversalClient
	cluster  *redis.ClusterClient // what is behind client, nil if that is no cluster
	scripts  scripts
	commands *batch.Commands
	// renewals is how many pipelines of renewals are under way.
	renewals atomic.Int32
	inbox    *inbox
}

func newNode(m *RedisLockManager, index int, client redis.UniversalClient) *node {
	n := &node{manager: m, index: index, client: client}
	n.cluster, _ = redisx.Unwrap[*redis.ClusterClient](client)
	// In a cluster PUBLISH counts the subscribers of its own node only.
	n.scripts = newScripts(len(m.set.nodes) > 1, m.grant(), n.cluster == nil, m.inboxPrefix)
	n.inbox = newInbox(n)
	n.commands = batch.NewCommands(client, batch.CommandSettings{
		Timeout: max(m.set.nodeTimeout, maxNodeTimeout), Alone: aloneTime,
		Go: func(f func()) { m.tasks.spawn(f) }, // true: the caller is a task
	})
	return n
}

// send executes a script, in one round trip unless the server does not know it, and sends it again after a failure that
// may pass. repeated says that it may have been executed more than once, or that the reply is about the second time: an
// earlier try ended without a reply.
func (n *node) send(r *round, c call) (reply any, repeated bool, err error) {
	process := func(ctx context.Context, cmd redis.Cmder) error {
		return n.commands.Process(ctx, c.keys[0], cmd, func() { r.answeredLate(n) })
	}
	delay := retryDelay
	for try := range maxTries {
		if repeated {
			c = c.repetition()
		}
		reply, err = c.script.Run(r.ctx, process, c.keys, c.args...)
		if _, abandoned := errors.AsType[*batch.AbandonedError](err); abandoned {
			return nil, repeated, errNoAnswer
		}
		if err == nil || !redisx.IsTransient(err) {
			return reply, repeated, err
		}
		repeated = repeated || !redisx.IsReply(err) && !redisx.IsUnsent(err)
		if n.cluster != nil {
			n.cluster.ReloadState(r.ctx) // in the background: another node may be the master by now
		}
		if try == maxTries-1 || redisx.Sleep(r.ctx, delay) != nil || r.ended() != nil {
			break
		}
		delay *= 2
	}
	return nil, repeated, err
}

// number runs a script whose reply is an integer.
func (n *node) number(r *round, c call) (number int64, repeated bool, err error) {
	reply, repeated, err := n.send(r, c)
	if err != nil {
		return 0, repeated, err
	}
	number, err = integer(reply)
	return number, repeated, err
}

// result is what came back for a call in a pipeline.
type result struct {
	reply any
	err   error
}

// number returns a reply that is an integer.
func (r result) number() (int64, error) {
	if r.err != nil {
		return 0, r.err
	}
	return integer(r.reply)
}

// pipeline makes calls of one script that may be executed twice, in a round trip for each 500, and gives each result to done as soon as
// it is there, maybe several at the same time. It returns when ctx ends, even if the client does not heed contexts; the
// calls under way count as failed then.
func (n *node) pipeline(ctx context.Context, calls []call, done func(index int, r result)) {
	cmds := make([]*redis.Cmd, len(calls))
	indexes := make([]int, len(calls))
	for i, c := range calls {
		cmds[i], indexes[i] = c.command(ctx), i
	}
	answered := make([]bool, len(calls))
	finish := func(i int, cmd *redis.Cmd) {
		answered[i] = true
		done(i, result{cmd.Val(), cmd.Err()})
	}
	n.pipe(ctx, calls, indexes, cmds, func(part []int) {
		var unknown []int
		var again []*redis.Cmd // the first of them carries the source, and the server knows it for the others
		for _, i := range part {
			switch {
			case !redisx.IsUnknownScript(cmds[i].Err()):
				finish(i, cmds[i])
				continue
			case again == nil:
				again = append(again, calls[i].script.Full(ctx, cmds[i]))
			default:
				again = append(again, calls[i].command(ctx))
			}
			unknown = append(unknown, i)
		}
		n.pipe(ctx, calls, unknown, again, func(part []int) {
			for _, k := range part {
				finish(unknown[k], again[k])
			}
		})
	})
	for i, ok := range answered {
		if !ok {
			done(i, result{err: errNoAnswer})
		}
	}
}

// pipe sends commands for some of the calls, whose indexes are given.
func (n *node) pipe(ctx context.Context, calls []call, indexes []int, cmds []*redis.Cmd, done func(part []int)) {
	list := make([]batch.Keyed, len(cmds))
	for k, i := range indexes {
		list[k] = batch.Keyed{Key: calls[i].keys[0], Cmd: cmds[k]}
	}
	batch.Pipeline(ctx, n.client, list, done)
}

// integer converts the reply of a script.
func integer(reply any) (int64, error) {
	number, ok := reply.(int64)
	if !ok {
		return 0, errUnexpectedReply
	}
	return number, nil
}

// integers converts the reply of a script that is a list of numbers.
func integers(reply any, count int) ([]int64, error) {
	list, ok := reply.([]any)
	if !ok || len(list) != count {
		return nil, errUnexpectedReply
	}
	numbers := make([]int64, count)
	for i, item := range list {
		number, err := integer(item)
		if err != nil {
			return nil, err
		}
		numbers[i] = number
	}
	return numbers, nil
}
