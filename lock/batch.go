package lock

import (
	"cmp"
	"context"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// maxBatch is how many commands a pipeline has at most.
	maxBatch = 128
	// nearPipelines and farPipelines are how many pipelines are under way at the same time. To a near node few, as
	// fuller ones cost less; to a far one enough that nobody waits for the return of another's.
	nearPipelines = 3
	farPipelines  = 8
	// nearTime is how fast a node has to answer to count as near.
	nearTime = 10 * time.Millisecond
)

// batcher sends the commands of concurrent callers, on any client, and lets each of them leave when it likes.
//
// A command usually rides in a pipeline, with whatever else waits to be sent: a goroutine writes and reads, and the
// caller waits for it or for the end of its interest. Waking goroutines costs as much as a round trip on the same
// machine, however. So while few calls to a near node are under way their callers do the writing and reading
// themselves, see inline.go, without being able to leave, but for a short time only.
//
// go-redis' AutoPipeline, which is experimental, minds neither deadlines nor the end of contexts, and repeats a batch as a
// whole. With its defaults and 64 callers it had a third of the throughput.
type batcher struct {
	node *node
	// channels keeps those of former rides, empty, for further ones.
	channels sync.Pool

	mu      sync.Mutex // guards what follows
	near    bool
	inline  []*inlineCall   // callers that use a connection by themselves
	ends    []chan struct{} // open, from former ones
	waiting []*ride
	flying  int                   // pipelines under way, or about to be
	flights [farPipelines]*flight // what they carry; nil where there is none
	alarm   alarm
	closing bool // who acquires does not wait any more
	closed  bool // nobody does
}

// flight is what a pipeline carries, one after the other.
type flight struct {
	rides []*ride // guarded by batcher.mu, but for the flight itself, which changes them under it only
	calls []call  // of the rides that are executed; kept to be used again
	alone []*ride // those that were refused together with others; likewise
}

// process makes a call and waits for the reply, at most until the round's deadline or the end of its interest.
func (b *batcher) process(r *round, call call) (any, error) {
	b.mu.Lock()
	if b.near && b.underWay() < maxInline && b.node.heeds {
		c := b.startInline(r)
		b.mu.Unlock()
		return b.processInline(c, call)
	}
	if !b.awaits(r) {
		b.mu.Unlock()
		return nil, errNoAnswer
	}
	own := b.ride(r, call)
	b.waiting = append(b.waiting, own)
	b.alarm.set(r.deadline)
	b.depart()
	b.mu.Unlock()
	return own.wait(b)
}

// underWay returns how many calls are.
func (b *batcher) underWay() int {
	count := len(b.inline) + len(b.waiting)
	for _, f := range b.flights {
		if f != nil {
			count += len(f.rides)
		}
	}
	return count
}

// awaits reports whether a round is still interested in answers, as far as the manager's closing is concerned. The caller
// holds mu.
func (b *batcher) awaits(r *round) bool { return !b.closed && (!b.closing || r.closing == nil) }

// close ends the waiting of those who acquire, or of all.
func (b *batcher) close(all bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closing, b.closed = true, b.closed || all
	for own := range b.rides {
		if !b.awaits(own.round) {
			own.giveUp()
		}
	}
	if all {
		b.alarm.stop()
	}
}

// expire is called by the alarm: it ends what has used up its time.
func (b *batcher) expire() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.alarm.at = time.Time{}
	now := time.Now()
	for _, c := range b.inline {
		switch {
		case c.ended:
		case now.Before(c.deadline):
			b.alarm.set(c.deadline)
		default:
			c.ended = true
			close(c.end)
		}
	}
	for own := range b.rides {
		if own.state.Load() != riding {
			continue
		}
		if now.Before(own.round.deadline) {
			b.alarm.set(own.round.deadline)
		} else {
			own.giveUp()
		}
	}
}

// rides goes through all that have not arrived. The caller holds mu.
func (b *batcher) rides(yield func(*ride) bool) {
	for _, own := range b.waiting {
		if !yield(own) {
			return
		}
	}
	for _, f := range b.flights {
		if f == nil {
			continue
		}
		for _, own := range f.rides {
			if !yield(own) {
				return
			}
		}
	}
}

// depart starts another pipeline if there may be one. The caller holds mu.
func (b *batcher) depart() {
	limit := farPipelines
	if b.near {
		limit = nearPipelines
	}
	if b.flying >= limit {
		return
	}
	for i := range b.flights {
		if b.flights[i] == nil {
			f := &flight{}
			if b.node.manager.tasks.spawn(func() { b.fly(f, i) }) {
				b.flights[i] = f
				b.flying++
			}
			return
		}
	}
}

// fly sends what waits, until nothing does.
func (b *batcher) fly(f *flight, place int) {
	for {
		// Let others go first who are about to send something, such as those who have just got their answers: fuller
		// pipelines make 64 callers a tenth faster.
		runtime.Gosched()
		b.mu.Lock()
		if f.rides = b.take(f.rides[:0]); len(f.rides) == 0 {
			b.flying--
			b.flights[place] = nil
			b.mu.Unlock()
			return
		}
		b.mu.Unlock()
		start := time.Now()
		b.send(f)
		took := time.Since(start)
		for _, own := range f.rides {
			own.arrive(b.node)
		}
		b.mu.Lock()
		b.near = took < nearTime
		b.mu.Unlock()
	}
}

// take appends to batch, which is empty, up to maxBatch rides of those that wait, less those whose callers have left. The
// caller holds mu.
func (b *batcher) take(batch []*ride) []*ride {
	for len(b.waiting) > 0 && len(batch) == 0 {
		count := min(len(b.waiting), maxBatch)
		for _, own := range b.waiting[:count] {
			if own.state.Load() == riding {
				batch = append(batch, own)
			}
		}
		rest := copy(b.waiting, b.waiting[count:])
		clear(b.waiting[rest:])
		b.waiting = b.waiting[:rest]
	}
	// Those of one script next to each other, as they go together.
	slices.SortStableFunc(batch, func(one, other *ride) int { return cmp.Compare(one.call.script.index, other.call.script.index) })
	return batch
}

// send makes the calls of a flight. Each has its own result then.
func (b *batcher) send(f *flight) {
	var deadline time.Time
	for _, own := range f.rides {
		if own.round.deadline.After(deadline) {
			deadline = own.round.deadline // whoever has less time leaves earlier
		}
	}
	// What the first one's context carries, such as a trace, goes for all; its end for none.
	ctx, cancel := context.WithDeadline(context.WithoutCancel(f.rides[0].round.ctx), deadline)
	defer cancel()
	f.execute(ctx, b.node, f.rides, false)
	f.alone = f.alone[:0]
	for _, own := range f.rides {
		if own.result.refusedTogether() {
			f.alone = append(f.alone, own)
		}
	}
	if len(f.alone) > 0 {
		f.execute(ctx, b.node, f.alone, true)
	}
}

// execute makes the calls of rides.
func (f *flight) execute(ctx context.Context, n *node, rides []*ride, singly bool) {
	f.calls = f.calls[:0]
	for _, own := range rides {
		f.calls = append(f.calls, own.call)
	}
	n.execute(ctx, f.calls, singly, unrepeatable, func(place int, r result) { rides[place].result = r })
}

// unrepeatable keeps go-redis from repeating a command by itself.
func unrepeatable(cmd *redis.Cmd) redis.Cmder { return once{cmd} }
