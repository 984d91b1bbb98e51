package server

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/cache/internal/batch"
	"github.com/compozy/cache/internal/redisx"
)

const (
	// maxTries is how often a command is sent when it fails.
	maxTries = 6
	// minRetryDelay and maxRetryDelay bound the pause before that.
	minRetryDelay = 5 * time.Millisecond
	maxRetryDelay = 500 * time.Millisecond
	// maxMoveDelay bounds it while the slot of a key moves, for which there is no limit but the caller's time.
	maxMoveDelay = 50 * time.Millisecond
	// aloneTime is by how much the end of a reader's context may go unnoticed when a quick server suddenly hangs.
	aloneTime = 200 * time.Millisecond
)

var errUnexpected = errors.New("unexpected reply of a script")

// Settings say how a Redis works. All are required.
type Settings struct {
	// Timeout bounds each round trip, however long the contexts of the callers last.
	Timeout time.Duration
	// Patience is by how much the end of a reader's context may go unnoticed at most.
	Patience time.Duration
	// Go starts a goroutine.
	Go func(func())
	// Channel is that of near caches.
	Channel string
}

// Redis is one Redis. It is safe for concurrent use; make one with [New].
type Redis struct {
	client   redis.UniversalClient
	cluster  *redis.ClusterClient // what is behind client, nil if that is no cluster
	timeout  time.Duration
	channel  string
	spawn    func(func())
	scripts  scripts
	commands *batch.Commands
	reads    *batch.Queue[*read] // nil in a Cluster
}

// New returns a Redis on a client, to which nothing is sent yet.
func New(client redis.UniversalClient, set Settings) *Redis {
	cluster, _ := redisx.Unwrap[*redis.ClusterClient](client)
	r := &Redis{
		client: client, cluster: cluster, timeout: set.Timeout, channel: set.Channel, spawn: set.Go, scripts: newScripts(),
		// Nothing is sent by its caller alone, for which there is little time: if a server stands still for a moment,
		// waiting for the reply says what became of a write, and a repetition may not.
		commands: batch.NewCommands(client, batch.CommandSettings{Timeout: set.Timeout, MaxWork: batch.MaxWork, Go: set.Go}),
	}
	if cluster == nil {
		alone := time.Duration(0)
		if redisx.HeedsDeadlines(client) {
			alone = min(aloneTime, set.Patience)
		}
		r.reads = batch.NewQueue(batch.Settings[*read]{
			Send: r.sendReads, Timeout: set.Timeout, Parallel: parallelReads, Alone: alone, Go: set.Go,
			Size: func(one *read) int { return one.size }, MaxSize: batch.MaxWork,
		})
	}
	return r
}

// Ping reports whether the server answers.
func (r *Redis) Ping(ctx context.Context) error {
	return r.await(ctx, func() error { return r.client.Ping(ctx).Err() })
}

// await calls f, and returns its error, or that of ctx if that ends first: some clients do not heed contexts. A panic of f
// is passed on.
func (r *Redis) await(ctx context.Context, f func() error) error {
	done := make(chan error, 1)
	r.spawn(func() {
		err := redisx.ErrExited
		defer func() { done <- err }()
		err = redisx.Catch(f)
	})
	select {
	case err := <-done:
		redisx.Raise(err)
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// pipeline sends commands in one round trip, and leaves the outcome in each. The client does not repeat them.
func (r *Redis) pipeline(ctx context.Context, client redis.UniversalClient, cmds []redis.Cmder) {
	pipe := client.Pipeline()
	for _, cmd := range cmds {
		_ = pipe.Process(ctx, redisx.Once(cmd)) // only queues
	}
	_, err := pipe.Exec(ctx)
	redisx.Unsent(cmds, err)
}

// Run runs a script, whose first key decides where, together with those of other callers, and again after a failure that
// may pass. It asks args for the arguments of each try: again says that an earlier one may have been executed, or be
// executed yet. lost says that of all tries when Run returns.
func (r *Redis) Run(
	ctx context.Context, script *redisx.Script, keys []string, args func(again bool) []any,
) (reply any, lost bool, err error) {
	return r.run(ctx, script, keys, 0, args)
}

// run is Run for a script that returns a value of about this size.
func (r *Redis) run(
	ctx context.Context, script *redisx.Script, keys []string, size int, args func(again bool) []any,
) (reply any, lost bool, err error) {
	process := func(ctx context.Context, cmd redis.Cmder) error {
		return r.commands.Process(ctx, keys[0], cmd, batch.Work(cmd.Args(), size))
	}
	for try := 1; ; try++ {
		began := time.Now()
		reply, err = script.Run(ctx, process, keys, args(lost)...)
		if err == nil {
			return reply, lost, nil
		}
		lost = lost || isLost(err)
		if !lost && tooLate(ctx, time.Since(began)) || !r.pause(ctx, try, err) {
			return nil, lost, err
		}
	}
}

// tooLate reports whether the context would end during another try that takes as long as the last one, which was not
// sent. Then nobody could know whether that try was sent.
func tooLate(ctx context.Context, took time.Duration) bool {
	deadline, ok := ctx.Deadline()
	return ok && time.Until(deadline) < 2*took
}

// pause waits before a command that has failed is sent again. It reports false if it should not be.
func (r *Redis) pause(ctx context.Context, try int, err error) bool {
	if _, abandoned := errors.AsType[*batch.AbandonedError](err); abandoned {
		return false
	}
	moving := redis.IsTryAgainError(err)
	if try >= maxTries && !moving || !redisx.IsTransient(err) {
		return false
	}
	if r.cluster != nil {
		r.cluster.ReloadState(ctx) // in the background: another node may be the master by now
	}
	longest := maxRetryDelay
	if moving {
		longest = maxMoveDelay
	}
	return redisx.Sleep(ctx, redisx.Backoff(try, minRetryDelay, longest)) == nil
}

// isLost reports whether a command that has failed so may have been executed, or be executed still. Scripts write last,
// so one that returns an error has changed nothing.
func isLost(err error) bool {
	if abandoned, ok := errors.AsType[*batch.AbandonedError](err); ok {
		return abandoned.Sent
	}
	return !redisx.IsReply(err) && !redisx.IsUnsent(err)
}

// microseconds converts the reply of TIME within that of a script.
func microseconds(reply any) (int64, error) {
	parts, ok := reply.([]any)
	if !ok || len(parts) != 2 {
		return 0, errUnexpected
	}
	var seconds, rest int64
	if _, err := fmt.Sscan(fmt.Sprint(parts[0], " ", parts[1]), &seconds, &rest); err != nil {
		return 0, errUnexpected
	}
	return seconds*1_000_000 + rest, nil
}
