package notification

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// maxDirect is how many publish calls go straight to Redis at the same time. With more in flight, events wait
	// for the next reply and then leave together: a batch costs the server and both network stacks far less.
	maxDirect = 5
	// maxFlights is how many batches are under way at the same time.
	maxFlights = 3
	// maxBatch is how many events one script publishes at most. Small ones keep the server from other work for about a
	// millisecond.
	maxBatch = 128
	// maxBatchBytes is how large they may be together, so that a caller with large events does not make those of others
	// fail, whom the client's timeouts would give up on together. A larger one goes alone.
	maxBatchBytes = 1 << 20

	// batchTimeout bounds a batch, whose callers may each have their own deadline or none.
	batchTimeout = 30 * time.Second
)

// request is one event on its way to Redis. Its outcome is written before done is closed.
type request struct {
	key, value string    // what the journal keeps
	room       [3]string // for the channels, as no event of ours has more
	count      int       // how many it has
	at         time.Time // when it was prepared
	index      int       // its position in the batch of the caller

	gone  func() error // the caller's ctx.Err, for those that wait for a batch
	taken atomic.Bool  // set once, by the batch that sends it or by the caller who gave up first
	done  chan struct{}
	err   error
}

// channels returns the channels the event is published to. They are not kept as a slice, since the request would
// then point to itself, and that would cost it its place on the stack.
func (r *request) channels() []string { return r.room[:r.count] }

// to sets the channels. A name is dropped when it is repeated, which IDs such as "events" produce: a channel must get
// one copy of an event.
func (r *request) to(names ...string) {
	for _, name := range names {
		if !slices.Contains(r.channels(), name) {
			r.room[r.count] = name
			r.count++
		}
	}
}

// waiting returns a copy that others may get hold of. An event that goes at once does without, and without the heap.
func (r *request) waiting(ctx context.Context) *request {
	return &request{
		key: r.key, value: r.value, room: r.room, count: r.count, at: r.at,
		gone: ctx.Err, done: make(chan struct{}),
	}
}

// publisher sends events: alone when few are in flight, batched when many are.
type publisher struct {
	client   redis.UniversalClient
	set      settings
	metrics  *metrics
	scripts  publishScripts
	drafts   drafts
	journal  any // its key, and
	size     any // how many events it keeps: arguments that never change
	expiry   expiry
	lateness lateness
	retries  retries
	own      string        // prefix that makes the IDs of this publisher's events its own
	counter  atomic.Uint64 // number of the last event prepared

	mu      sync.Mutex
	direct  int        // callers who publish by themselves; guarded by mu
	flights int        // goroutines that send batches; guarded by mu
	waiting []*request // events that wait for a place in a batch; guarded by mu
	givenUp int        // how many of those were given up, at most; guarded by mu
}

func newPublisher(client redis.UniversalClient, set settings, k keys, m *metrics) *publisher {
	p := &publisher{
		client: client, set: set, metrics: m, journal: k.journal, size: set.history,
		expiry: newExpiry(set.historyTTL), retries: retriesOf(client), own: rand.Text()[:16],
	}
	p.lateness.allow(client)
	p.scripts = newPublishScripts(p.size, p.expiry.milliseconds)
	return p
}

// one publishes a single event.
func (p *publisher) one(ctx context.Context, r *request) error {
	if ctx.Err() != nil {
		return p.failed(r, context.Cause(ctx), false)
	}
	p.mu.Lock()
	if p.flights == 0 && p.direct < maxDirect {
		p.direct++
		p.mu.Unlock()
		p.sendDirectly(ctx, r)
		return p.outcome(ctx, r, r.at)
	}
	w := r.waiting(ctx)
	p.waiting = append(p.waiting, w)
	if p.flights > 0 { // otherwise those who publish by themselves see to it
		p.depart()
	}
	p.mu.Unlock()
	select {
	case <-w.done:
		return p.outcome(ctx, w, w.at)
	case <-ctx.Done():
		// If no batch has taken the event yet it will never be sent; otherwise nobody can tell.
		taken := w.taken.Swap(true)
		if !taken {
			p.abandoned()
		}
		return p.failed(w, context.Cause(ctx), taken)
	}
}

// abandoned is called when a caller has given up. While Redis does not answer, nobody else would clear up, and there may be
// ever more of them.
func (p *publisher) abandoned() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.givenUp++; 2*p.givenUp < len(p.waiting) {
		return // not each time for one
	}
	p.waiting = slices.DeleteFunc(p.waiting, func(r *request) bool { return r.taken.Load() })
	p.givenUp = 0
}

// sendDirectly sends an event from a place that the caller has taken. The place is given back even if a hook of the client
// panics.
func (p *publisher) sendDirectly(ctx context.Context, r *request) {
	defer p.landed()
	p.send(ctx, []*request{r}, r.at)
}

// many publishes a batch the caller put together.
func (p *publisher) many(ctx context.Context, requests []*request) error {
	var errs []error
	start := time.Now()
	for len(requests) > 0 {
		part := requests[:fitting(requests)]
		requests = requests[len(part):]
		if ctx.Err() != nil {
			for _, r := range part {
				errs = append(errs, p.failed(r, context.Cause(ctx), false))
			}
			continue
		}
		p.send(ctx, part, time.Now())
		for _, r := range part {
			errs = append(errs, p.outcome(ctx, r, start))
		}
	}
	return errors.Join(errs...)
}

// fitting returns how many of the requests one script takes, none only if there are none.
func fitting(requests []*request) int {
	bytes := 0
	for i, r := range requests[:min(maxBatch, len(requests))] {
		bytes += len(r.key) + len(r.value)
		if bytes > maxBatchBytes && i > 0 {
			return i
		}
	}
	return min(maxBatch, len(requests))
}

// landed is called when a caller who has published by himself has the reply. Events may have waited for that.
func (p *publisher) landed() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.direct--
	if len(p.waiting) > 0 {
		p.depart()
	}
}

// depart sends batches, if not enough of them are under way. A goroutine does so: the caller is done and must not work
// for the others. The caller holds mu.
func (p *publisher) depart() {
	if p.flights < maxFlights {
		p.flights++
		go p.flush()
	}
}

// flush sends waiting events until there are none.
func (p *publisher) flush() {
	for {
		// Let others go first who are about to publish, such as those whose last event has just arrived: fuller batches
		// make 64 callers a tenth faster.
		runtime.Gosched()
		p.mu.Lock()
		count := fitting(p.waiting)
		if count == 0 {
			p.flights--
			p.mu.Unlock()
			return
		}
		batch := make([]*request, 0, count)
		for _, r := range p.waiting[:count] {
			// A caller who is about to give up shall know for certain that nothing was sent.
			if r.gone() == nil && !r.taken.Swap(true) {
				batch = append(batch, r)
			}
		}
		p.waiting = slices.Delete(p.waiting, 0, count)
		p.mu.Unlock()
		if len(batch) == 0 {
			continue
		}
		// The batch outlives each of its callers' contexts, since it carries the others' events too.
		ctx, cancel := context.WithTimeout(context.Background(), batchTimeout)
		p.send(ctx, batch, time.Now())
		cancel()
		for _, r := range batch {
			close(r.done)
		}
	}
}

// outcome counts what became of an event and returns its error.
func (p *publisher) outcome(ctx context.Context, r *request, start time.Time) error {
	if r.err != nil {
		return p.failed(r, blame(ctx, r.err), !certain(r.err))
	}
	p.metrics.published.Add(1)
	p.metrics.publishTook(time.Since(start))
	return nil
}

// blame adds to an error why the caller's context has ended, if it has: the error may be that of a connection which was
// given up for that reason. What the server refused for good, it has refused in any case.
func blame(ctx context.Context, err error) error {
	cause := context.Cause(ctx)
	if deadline, ok := ctx.Deadline(); cause == nil && ok && !time.Now().Before(deadline) {
		cause = context.DeadlineExceeded // the connection knows the deadline too, and may be faster
	}
	if cause == nil || permanent(err) || errors.Is(err, cause) {
		return err
	}
	return fmt.Errorf("%w: %w", cause, err)
}

func (p *publisher) failed(r *request, err error, uncertain bool) error {
	p.metrics.publishErrors.Add(1)
	return &PublishError{Channel: r.room[0], Index: r.index, Uncertain: uncertain, Err: err}
}
