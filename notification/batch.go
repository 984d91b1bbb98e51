package notification

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/cache/internal/batch"
)

const (
	// maxPipelines is how many batches are under way at the same time, where callers publish on their own.
	maxPipelines = 4
	// maxBatch is how many events one script publishes at most. Small ones keep the server from other work for about a
	// millisecond.
	maxBatch = 128
	// maxBatchBytes is how large they may be together, so that a caller with large events does not make those of others
	// fail, whom the client's timeouts would give up on together. A larger one goes alone.
	maxBatchBytes = 1 << 20

	// batchTimeout bounds a batch, whose callers may each have their own deadline or none.
	batchTimeout = 30 * time.Second
)

// request is one event on its way to Redis.
type request struct {
	key, value string    // what the journal keeps
	room       [3]string // for the channels, as no event of ours has more
	count      int       // how many it has
	at         time.Time // when it was prepared
	index      int       // its position in the batch of the caller
	err        error     // its outcome, once it was sent
}

// bytes is what an event adds to the size of a batch.
func (r *request) bytes() int { return len(r.key) + len(r.value) }

// channels returns the channels the event is published to.
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

// publisher sends events, those of concurrent callers together.
type publisher struct {
	client   redis.UniversalClient
	set      settings
	metrics  *metrics
	scripts  publishScripts
	drafts   drafts
	journal  string // its key
	size     any    // how many events it keeps, an argument that never changes
	expiry   expiry
	lateness lateness
	retries  retries
	own      string        // prefix that makes the IDs of this publisher's events its own
	counter  atomic.Uint64 // number of the last event prepared
	queue    *batch.Queue[*request]
}

func newPublisher(client redis.UniversalClient, set settings, k keys, m *metrics) *publisher {
	p := &publisher{
		client: client, set: set, metrics: m, journal: k.journal, size: set.history,
		expiry: newExpiry(set.historyTTL), retries: retriesOf(client), own: rand.Text()[:16],
	}
	p.lateness.allow(client)
	p.scripts = newPublishScripts(p.size, p.expiry.milliseconds)
	p.queue = batch.NewQueue(batch.Settings[*request]{
		Send:    func(ctx context.Context, requests []*request) { p.send(ctx, requests, time.Now()) },
		Timeout: batchTimeout, Parallel: maxPipelines, Alone: batchTimeout,
		MaxItems: maxBatch, MaxSize: maxBatchBytes, Size: (*request).bytes,
	})
	return p
}

// one publishes a single event.
func (p *publisher) one(ctx context.Context, r *request) error {
	if sent, err := p.queue.Do(ctx, r); err != nil {
		return p.failed(r, err, sent)
	}
	return p.outcome(ctx, r, r.at)
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
		if bytes += r.bytes(); bytes > maxBatchBytes && i > 0 {
			return i
		}
	}
	return min(maxBatch, len(requests))
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
