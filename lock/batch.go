package lock

import (
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// directCommands is how many commands travel alone, each on a connection of its own, before others join up.
	// Sending them together saves system calls, which only pays when there are many: a single caller would wait.
	directCommands = 3
	// batchedPipelines is how many pipelines are under way at the same time.
	batchedPipelines = 2
	// maxBatch is how many commands a pipeline has at most.
	maxBatch = 128
)

// batcher sends commands of concurrent callers together. There is no goroutine for it: of the callers who wait, one
// sends for all. It works on any client, and does not touch the client's own autopipelining, which belongs to the
// application.
type batcher struct {
	client redis.UniversalClient

	mu      sync.Mutex // guards what follows
	alone   int        // commands under way alone
	leaders int        // pipelines under way, or about to be
	waiting []*ride
}

// ride is a command that waits to be sent.
type ride struct {
	cmd      redis.Cmder
	deadline time.Time
	// wake is told when the command was sent, or with lead set, that it is up to this caller to send what waits.
	wake chan struct{}
	lead bool // written before wake, read after it
}

// process sends a command and waits for the reply.
func (b *batcher) process(ctx bounded, cmd redis.Cmder) error {
	b.mu.Lock()
	if b.alone < directCommands {
		b.alone++
		b.mu.Unlock()
		err := b.client.Process(ctx, cmd)
		b.mu.Lock()
		b.alone--
		b.mu.Unlock()
		return err
	}
	r := &ride{cmd: cmd, deadline: ctx.deadline}
	if b.leaders >= batchedPipelines {
		r.wake = make(chan struct{}, 1)
		b.waiting = append(b.waiting, r)
		b.mu.Unlock()
		<-r.wake
		if !r.lead {
			return cmd.Err()
		}
		b.mu.Lock()
	} else {
		b.leaders++
	}
	b.lead(ctx, r)
	return cmd.Err()
}

// lead sends the caller's own command and what waits, and passes the lead on. It is called with mu held and releases it.
func (b *batcher) lead(ctx bounded, own *ride) {
	batch := b.take(own)
	b.mu.Unlock()
	pipe := b.client.Pipeline()
	for _, r := range batch {
		_ = pipe.Process(ctx, r.cmd) // only queues
		if r.deadline.After(ctx.deadline) {
			ctx.deadline = r.deadline // whoever has less time leaves earlier
		}
	}
	_, _ = pipe.Exec(ctx) // each command has its own error
	for _, r := range batch {
		if r != own {
			r.wake <- struct{}{}
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.waiting) == 0 {
		b.leaders--
		return
	}
	// Whoever leads waits no more: nobody else may send its command.
	next := b.waiting[0]
	b.waiting[0] = nil
	b.waiting = b.waiting[1:]
	next.lead = true
	next.wake <- struct{}{}
}

// take removes up to maxBatch commands from those that wait and puts own before them. The caller holds mu.
func (b *batcher) take(own *ride) []*ride {
	count := min(len(b.waiting), maxBatch-1)
	batch := append(append(make([]*ride, 0, count+1), own), b.waiting[:count]...)
	if count == len(b.waiting) {
		clear(b.waiting)
		b.waiting = b.waiting[:0]
	} else {
		clear(b.waiting[:count])
		b.waiting = b.waiting[count:]
	}
	return batch
}
