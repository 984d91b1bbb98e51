package notification

import (
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// maxDirect is how many publish calls go straight to Redis at the same time. With more in flight, events wait
	// for the next reply and then leave together: a batch costs the server and both network stacks far less.
	maxDirect = 2
	// maxBatch bounds how long one script keeps the server from other work, to about a millisecond.
	maxBatch = 128

	// batchTimeout bounds a batch, whose callers may each have their own deadline or none.
	batchTimeout = 30 * time.Second
)

// request is one event on its way to Redis. Its outcome is written before done is closed.
type request struct {
	key, value []byte // what the journal keeps
	channels   []string

	gone  func() error // the caller's ctx.Err, for those that wait for a batch
	taken atomic.Bool  // set once, by the batch that sends it or by the caller who gave up first
	done  chan struct{}
	err   error
}

// publisher sends events: alone when few are in flight, batched when many are.
type publisher struct {
	client  redis.UniversalClient
	set     settings
	keys    keys
	metrics *metrics
	scripts publishScripts
	size    any // of the journal, an argument that never changes
	expiry  expiry
	own     string        // prefix that makes the IDs of this publisher's events its own
	counter atomic.Uint64 // number of the last event prepared

	mu      sync.Mutex
	flying  int        // calls to Redis in flight; guarded by mu
	waiting []*request // events that wait for a place in a batch; guarded by mu
}

func newPublisher(client redis.UniversalClient, set settings, k keys, m *metrics) *publisher {
	return &publisher{
		client: client, set: set, keys: k, metrics: m,
		scripts: newPublishScripts(), size: set.history, expiry: newExpiry(set.historyTTL),
		own: rand.Text()[:16],
	}
}

func (p *publisher) nextKey(channels []string) []byte {
	return makeKey(p.own, p.counter.Add(1), channels)
}

// one publishes a single event, which comes as a list of one.
func (p *publisher) one(ctx context.Context, requests []*request) error {
	r := requests[0]
	if ctx.Err() != nil {
		return p.failed(r, context.Cause(ctx), false)
	}
	start := time.Now()
	p.mu.Lock()
	if p.flying < maxDirect {
		p.flying++
		p.mu.Unlock()
		p.send(ctx, requests)
		p.landed()
		return p.outcome(r, start)
	}
	r.done, r.gone = make(chan struct{}), ctx.Err
	p.waiting = append(p.waiting, r)
	p.mu.Unlock()
	select {
	case <-r.done:
		return p.outcome(r, start)
	case <-ctx.Done():
		// If no batch has taken the event yet it will never be sent; otherwise nobody can tell.
		return p.failed(r, context.Cause(ctx), r.taken.Swap(true))
	}
}

// many publishes a batch the caller put together.
func (p *publisher) many(ctx context.Context, requests []*request) error {
	var errs []error
	start := time.Now()
	for len(requests) > 0 {
		part := requests[:min(maxBatch, len(requests))]
		requests = requests[len(part):]
		if ctx.Err() != nil {
			for _, r := range part {
				errs = append(errs, p.failed(r, context.Cause(ctx), false))
			}
			continue
		}
		p.send(ctx, part)
		for _, r := range part {
			errs = append(errs, p.outcome(r, start))
		}
	}
	return errors.Join(errs...)
}

// landed gives the place of a finished call to the events that wait, if there are any.
func (p *publisher) landed() {
	p.mu.Lock()
	if len(p.waiting) == 0 {
		p.flying--
		p.mu.Unlock()
		return
	}
	p.mu.Unlock()
	// A goroutine of its own: the caller whose reply made room is done and must not work for the others.
	go p.flush()
}

// flush sends waiting events until there are none.
func (p *publisher) flush() {
	for {
		p.mu.Lock()
		count := min(maxBatch, len(p.waiting))
		if count == 0 {
			p.flying--
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
		p.send(ctx, batch)
		cancel()
		for _, r := range batch {
			close(r.done)
		}
	}
}

// outcome counts what became of an event and returns its error.
func (p *publisher) outcome(r *request, start time.Time) error {
	if r.err != nil {
		var reply interface{ RedisError() }
		return p.failed(r, r.err, !errors.As(r.err, &reply))
	}
	p.metrics.published.Add(1)
	p.metrics.publishTook(time.Since(start))
	return nil
}

func (p *publisher) failed(r *request, err error, uncertain bool) error {
	p.metrics.publishErrors.Add(1)
	return &PublishError{Channel: r.channels[0], Uncertain: uncertain, Err: err}
}
