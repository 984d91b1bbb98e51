package lock

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// maxBatch is how many commands a pipeline has at most.
	maxBatch = 128
	// nearPipelines and farPipelines are how many pipelines are under way at the same time. To a near node few, as
	// fuller ones cost less; to a far one enough that nobody waits for the return of another's.
	nearPipelines = 2
	farPipelines  = 8
	// nearTime is how fast a node has to answer to count as near.
	nearTime = 10 * time.Millisecond

	// maxInline is how many callers may use a connection by themselves at the same time.
	maxInline = 3
	// inlineTime is how long they try, and by how much the end of a caller's context may go unnoticed when a near
	// node suddenly hangs.
	inlineTime = 200 * time.Millisecond
)

// batcher sends the commands of concurrent callers, on any client, and lets each of them leave when it likes.
//
// A command usually rides in a pipeline, with whatever else waits to be sent: a goroutine writes and reads, and the
// caller waits for it or for the end of its interest. Waking goroutines costs as much as a round trip on the same
// machine, however. So a caller that is alone with a near node does the writing and reading itself, without being
// able to leave, but for a short time only.
//
// go-redis' AutoPipeline, which is experimental, was as fast with 64 callers, but minds neither deadlines nor the end of
// contexts, and repeats a batch as a whole.
type batcher struct {
	node   *node
	single bool // the commands must not be sent again by go-redis

	mu      sync.Mutex // guards what follows
	near    bool
	inline  int // callers that use a connection by themselves
	flying  int // pipelines under way, or about to be
	waiting []*ride
}

// ride is a command that waits for its reply.
type ride struct {
	cmd   *redis.Cmd
	round *round
	state atomic.Uint32
	done  chan struct{} // closed when the command was answered or has failed
}

// A ride ends once: with the reply, or with its caller leaving.
const (
	riding uint32 = iota
	arrived
	left
)

// process sends a command and waits for the reply, at most until the round's deadline or the end of its interest.
func (b *batcher) process(r *round, cmd *redis.Cmd) error {
	b.mu.Lock()
	if b.near && b.inline < maxInline && b.flying == 0 && b.node.heeds {
		b.inline++
		b.mu.Unlock()
		err := b.processInline(r, cmd)
		if err == nil || b.single || redis.HasErrorPrefix(err, "NOSCRIPT") || r.ended() != nil {
			return err
		}
		cmd.SetErr(nil) // once more, with the patience and the repetitions of a pipeline
		b.mu.Lock()
	}
	own := &ride{cmd: cmd, round: r, done: make(chan struct{})}
	b.waiting = append(b.waiting, own)
	limit := farPipelines
	if b.near {
		limit = nearPipelines
	}
	if b.flying < limit && b.node.manager.tasks.spawn(b.fly) {
		b.flying++
	}
	b.mu.Unlock()
	return own.wait()
}

// processInline sends a command from the caller's goroutine.
func (b *batcher) processInline(r *round, cmd *redis.Cmd) error {
	start := time.Now()
	deadline := start.Add(inlineTime)
	if r.deadline.Before(deadline) {
		deadline = r.deadline
	}
	ctx := r.ctx
	if r.quit == nil {
		ctx = context.WithoutCancel(ctx)
	}
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	err := b.node.client.Process(ctx, once{cmd})
	b.mu.Lock()
	defer b.mu.Unlock()
	b.inline--
	b.near = time.Since(start) < nearTime
	return err
}

// fly sends what waits, until nothing does.
func (b *batcher) fly() {
	for {
		b.mu.Lock()
		batch := b.take()
		if len(batch) == 0 {
			b.flying--
			b.mu.Unlock()
			return
		}
		b.mu.Unlock()
		start := time.Now()
		b.send(batch)
		took := time.Since(start)
		for _, r := range batch {
			r.arrive(b.node)
		}
		b.mu.Lock()
		b.near = took < nearTime
		b.mu.Unlock()
	}
}

// take removes up to maxBatch rides from those that wait and returns them, less those whose callers have left. The
// caller holds mu.
func (b *batcher) take() []*ride {
	for len(b.waiting) > 0 {
		count := min(len(b.waiting), maxBatch)
		batch := make([]*ride, 0, count)
		for _, r := range b.waiting[:count] {
			if r.state.Load() == riding {
				batch = append(batch, r)
			}
		}
		rest := copy(b.waiting, b.waiting[count:])
		clear(b.waiting[rest:])
		b.waiting = b.waiting[:rest]
		if len(batch) > 0 {
			return batch
		}
	}
	return nil
}

// send executes the commands of a batch. Each has its own error then.
func (b *batcher) send(batch []*ride) {
	var deadline time.Time
	for _, r := range batch {
		if r.round.deadline.After(deadline) {
			deadline = r.round.deadline // whoever has less time leaves earlier
		}
	}
	// What the first one's context carries, such as a trace, goes for all; its end for none.
	ctx, cancel := context.WithDeadline(context.WithoutCancel(batch[0].round.ctx), deadline)
	defer cancel()
	if len(batch) == 1 {
		_ = b.node.client.Process(ctx, b.command(batch[0]))
		return
	}
	pipe := b.node.client.Pipeline()
	for _, r := range batch {
		_ = pipe.Process(ctx, b.command(r)) // only queues
	}
	_, _ = pipe.Exec(ctx)
}

// command returns the command as go-redis gets it.
func (b *batcher) command(r *ride) redis.Cmder {
	if b.single {
		return once{r.cmd}
	}
	return r.cmd
}

// wait returns when the command was answered or its caller's interest has ended; then its fate is unknown.
func (r *ride) wait() error {
	timer := time.NewTimer(r.round.left())
	defer timer.Stop()
	select {
	case <-r.done:
		return r.cmd.Err()
	case <-r.round.quit:
	case <-r.round.closing:
	case <-r.round.hurry:
	case <-r.round.manager.ctx.Done(): // Close has returned: a node that is late with a release is given up
	case <-timer.C:
	}
	if r.state.CompareAndSwap(riding, left) {
		return errNoAnswer
	}
	<-r.done
	return r.cmd.Err()
}

// arrive tells the caller that the command was answered, or its round if the caller has left.
func (r *ride) arrive(n *node) {
	if r.state.CompareAndSwap(riding, arrived) {
		close(r.done)
		return
	}
	r.round.answeredLate(n)
}
