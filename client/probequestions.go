package client

import (
	"context"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/cache/internal/redisx"
)

// answers are those to the questions of a check.
type answers struct {
	server, state *redis.StringCmd // of INFO
	table         *redis.Cmd       // of COMMAND, which only a Cluster is asked for
	byHash        *redis.Cmd       // of the probe's script
	whole         *redis.Cmd       // of the same, sent in full; nil if it was not
}

// broken reports whether there was a connection, which failed before the first answer.
func (a answers) broken() bool {
	err := a.server.Err()
	return err != nil && !redisx.IsReply(err) && !redisx.IsUnsent(err)
}

// ask sends all questions at once on one connection of the pool, so that a distant server
// needs no longer for them than for a PING, and a pool of one connection is enough. (A
// pipeline of the client itself would use a connection beside the pool, which nothing has
// opened in advance.)
func (s *server) ask(ctx context.Context, t target) answers {
	var a answers
	first := !s.fit.Load()
	conn := t.node.Conn()
	defer func() { _ = conn.Close() }() // gives the connection back
	cmds, err := conn.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		a.server = pipe.Info(ctx, "server")
		a.state = pipe.Info(ctx, "memory", "replication")
		if s.endpoint.mode == modeCluster {
			a.table = pipe.Do(ctx, "command", "count")
		}
		a.byHash = s.script.EvalSha(ctx, pipe, []string{t.key}, s.channel(), 0)
		if first { // both ways need to work, and all commands
			a.whole = s.script.Eval(ctx, pipe, []string{t.key}, s.channel(), 1)
		}
		return nil
	})
	redisx.Unsent(cmds, err)
	return a
}

// channel is where the probe's script publishes to; a lock node has no events.
func (s *server) channel() string {
	if s.lockNode {
		return ""
	}
	return strings.TrimSuffix(s.prefix, ":")
}

// probed returns what the server said to the probe's script. A server that does not know
// it by its hash gets it in full, and a slot that is on its way to another node of the
// Cluster is found by the client of the application.
func (s *server) probed(ctx context.Context, t target, said answers) error {
	err := said.byHash.Err()
	if said.whole != nil {
		if whole := said.whole.Err(); whole != nil || redisx.IsUnknownScript(err) {
			err = whole
		}
	}
	if redisx.IsUnknownScript(err) || s.endpoint.mode == modeCluster && isRedirect(err) {
		thorough := 0
		if said.whole != nil {
			thorough = 1
		}
		err = s.script.Eval(ctx, t.commands, []string{t.key}, s.channel(), thorough).Err()
	}
	return err
}

// isRedirect reports whether a node of a Cluster says that others serve the key.
func isRedirect(err error) bool {
	_, moved := redis.IsMovedError(err)
	_, ask := redis.IsAskError(err)
	return moved || ask || redis.IsTryAgainError(err)
}

// listen subscribes to a name that nobody publishes to, in each way that locks and events
// do, unsubscribes and sends a PING, and returns what the server refuses. It does not report
// a connection that breaks or takes too long, as the questions of ask do that.
func (s *server) listen(ctx context.Context, t target) error {
	ps := t.node.Subscribe(ctx) // connects with the first command
	defer context.AfterFunc(ctx, func() { _ = ps.Close() })()
	defer func() { _ = ps.Close() }()
	ways := []func(context.Context, ...string) error{ps.Subscribe, ps.PSubscribe}
	if s.endpoint.mode == modeCluster {
		ways = append(ways, ps.SSubscribe)
	}
	// All leave before the first answer is read.
	ways = append(ways, ps.Unsubscribe, ps.PUnsubscribe, ps.Ping)
	for _, send := range ways {
		if err := send(ctx, t.key); err != nil {
			return onlyReply(err)
		}
	}
	for range ways {
		// A glob is granted only in these very words, so that one of ours says nothing about
		// those of the application.
		if _, err := ps.Receive(ctx); err != nil && !isChannelRefusal(err) {
			return onlyReply(err)
		}
	}
	return nil
}

// onlyReply returns err if a server said it, and did not name another server for the name.
func onlyReply(err error) error {
	if redisx.IsReply(err) && !isRedirect(err) {
		return err
	}
	return nil
}

// isChannelRefusal reports whether the user may run a command, but not with this channel.
func isChannelRefusal(err error) bool {
	return redis.IsPermissionError(err) && !strings.Contains(err.Error(), "run the '") && strings.Contains(err.Error(), "channel")
}
