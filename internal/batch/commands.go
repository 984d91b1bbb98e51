package batch

import (
	"context"
	"maps"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/cache/internal/redisx"
)

// Commands sends the commands of concurrent callers in pipelines. It repeats
// nothing by itself; in a Cluster redirections are followed. It is safe for
// concurrent use; make one with NewCommands.
type Commands struct {
	client redis.UniversalClient
	// cluster is what is behind client, or nil.
	cluster *redis.ClusterClient
	set     Settings[command]

	mu sync.Mutex // guards queues
	// queues has one for each server: by address in a Cluster, where "" is for
	// commands whose master is not known, and otherwise just the one called "".
	queues map[string]*Queue[command]
}

// command is a command and how much work it is for the server.
type command struct {
	redis.Cmder

	work int
}

// CommandSettings say how Commands work. Timeout is required.
type CommandSettings struct {
	// Timeout bounds each pipeline.
	Timeout time.Duration
	// Parallel is how many pipelines may be under way to a server at the same time,
	// 4 by default.
	Parallel int
	// MaxWork bounds how much work a pipeline is for its server, see Process and
	// [MaxWork]. The default, 0, is not to.
	MaxWork int
	// Alone is how much time a caller that finds nothing under way has to send its
	// command by itself, see Settings.
	Alone time.Duration
	// Go starts a goroutine; by default it is a go statement.
	Go func(func())
}

const (
	defaultParallel = 4
	// maxQueues is how many queues there are before those with nothing to send are
	// dropped, such as those of masters that went away. A Cluster has far fewer masters.
	maxQueues = 256
)

// NewCommands returns Commands on client that have sent nothing yet.
func NewCommands(client redis.UniversalClient, set CommandSettings) *Commands {
	if set.Parallel <= 0 {
		set.Parallel = defaultParallel
	}
	c := &Commands{client: client, queues: make(map[string]*Queue[command])}
	c.cluster, _ = redisx.Unwrap[*redis.ClusterClient](client)
	c.set = Settings[command]{
		Send: c.send, Timeout: set.Timeout, Parallel: set.Parallel, Alone: set.Alone, Go: set.Go,
		Size: func(cmd command) int { return cmd.work }, MaxSize: set.MaxWork,
	}
	return c
}

// send sends commands in one round trip, and leaves the outcome in each.
func (c *Commands) send(ctx context.Context, batch []command) {
	cmds := make([]redis.Cmder, len(batch))
	for i, cmd := range batch {
		cmds[i] = redisx.Once(cmd.Cmder)
	}
	send(ctx, c.client, cmds)
}

// send sends commands in one round trip. Each has its own error then.
func send(ctx context.Context, client redis.UniversalClient, cmds []redis.Cmder) {
	if len(cmds) == 1 {
		_ = client.Process(ctx, cmds[0])
		return
	}
	redisx.SetErrs(cmds, nil)
	pipe := client.Pipeline()
	for _, cmd := range cmds {
		_ = pipe.Process(ctx, cmd) // only queues
	}
	_, err := pipe.Exec(ctx)
	redisx.Unsent(cmds, err)
}

// Process sends a command together with those of other callers, and returns its
// error. When ctx ends first it returns an [*AbandonedError]; if that says Sent, the
// command must not be touched any more. A caller that sends its command by itself (see
// Settings.Alone) gets the error of the command in any case.
//
// key is the command's first key, by which a Cluster is asked for its master. work is how
// much work the command is for the server, 0 if little.
func (c *Commands) Process(ctx context.Context, key string, cmd redis.Cmder, work int) error {
	sent, err := c.queue(redisx.Master(c.cluster, key)).Do(ctx, command{cmd, work})
	if err != nil {
		return &AbandonedError{Sent: sent, Err: err}
	}
	return cmd.Err()
}

// queue returns the queue of a server.
func (c *Commands) queue(server string) *Queue[command] {
	c.mu.Lock()
	defer c.mu.Unlock()
	q := c.queues[server]
	if q == nil {
		if len(c.queues) >= maxQueues {
			// A caller may have got one of them a moment ago. It still works, but its
			// commands do not leave together with those of the next queue.
			maps.DeleteFunc(c.queues, func(_ string, q *Queue[command]) bool { return q.idle() })
		}
		q = NewQueue(c.set)
		c.queues[server] = q
	}
	return q
}

// AbandonedError says that a context ended before the reply came.
type AbandonedError struct {
	// Sent says that the command may have been, or may yet be, executed.
	Sent bool
	// Err is the cause of the context's end.
	Err error
}

// Error says whether the command may have been executed.
func (e *AbandonedError) Error() string {
	if e.Sent {
		return "no reply in time: " + e.Err.Error()
	}
	return "not sent in time: " + e.Err.Error()
}

// Unwrap returns the cause of the context's end.
func (e *AbandonedError) Unwrap() error { return e.Err }
