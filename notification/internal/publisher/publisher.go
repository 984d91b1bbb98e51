// Package publisher encodes events and sends them to Redis: those of concurrent callers together, in one round trip each,
// and again when a reply is lost, without an event being published twice.
//
// It is an idempotent producer, as in Kafka and in the sessions of NFSv4.1: each request goes by a lane, with a number that
// grows by one, and the script that appends events remembers the last number of each lane with its result. A repetition gets
// that result; an attempt that arrives after the lane's next request does nothing. So a repetition costs what a first attempt
// costs, however long the journal is, and no clock is involved.
package publisher

import (
	"context"
	"crypto/rand"
	"errors"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/cache/internal/batch"
	"github.com/compozy/cache/internal/redisx"
	"github.com/compozy/cache/notification/internal/journal"
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

// Settings of a Publisher. All are required but for the channel prefix.
type Settings struct {
	Client        redis.UniversalClient
	Keys          journal.Keys
	ChannelPrefix string        // stands before every channel
	MaxEventSize  int           // bytes of JSON and channel names; a larger event is refused
	History       int           // events that the journal keeps, about; 0 for no journal
	HistoryTTL    time.Duration // how long it outlives its last event
	HistoryBytes  int64         // bytes that it keeps
}

// Publisher publishes events. It is safe for concurrent use; make one with New.
type Publisher struct {
	set     Settings
	scripts scripts
	drafts  drafts
	lanes   lanes
	expiry  expiry
	retries retries
	own     string        // what makes the IDs of this publisher's events and its lanes its own
	counter atomic.Uint64 // number of the last event encoded
	queue   *batch.Queue[*Event]
}

// New returns a Publisher that has sent nothing yet.
func New(set Settings) *Publisher {
	p := &Publisher{set: set, expiry: newExpiry(set.HistoryTTL), retries: retriesOf(set.Client), own: rand.Text()[:16]}
	p.scripts = newScripts(&set, p.expiry.milliseconds)
	p.lanes.prefix = set.Keys.Lanes + p.own + ":"
	var alone time.Duration
	if redisx.HeedsDeadlines(set.Client) { // or a caller would return with the client, long after its own deadline
		alone = batchTimeout
	}
	p.queue = batch.NewQueue(batch.Settings[*Event]{
		Send: p.send, Timeout: batchTimeout, Parallel: maxPipelines, Alone: alone,
		MaxItems: maxBatch, MaxSize: maxBatchBytes, Size: (*Event).bytes,
	})
	return p
}

// Own returns the random text that tells this publisher from all others.
func (p *Publisher) Own() string { return p.own }

// Publish sends an event that was encoded. It returns nil or an *Error.
func (p *Publisher) Publish(ctx context.Context, e *Event) error {
	if sent, err := p.queue.Do(ctx, e); err != nil {
		return e.failed(err, sent)
	}
	return e.outcome(ctx)
}

// PublishAll sends events that were encoded in their order, in as few round trips as possible. done is called for each
// that was published. PublishAll returns nil or the joined *Error of all others. When ctx ends, what has not been sent by
// then is not sent any more.
func (p *Publisher) PublishAll(ctx context.Context, events []*Event, done func()) error {
	var errs []error
	for len(events) > 0 {
		part := events[:fitting(events)]
		events = events[len(part):]
		if ctx.Err() != nil {
			for _, e := range part {
				errs = append(errs, e.failed(context.Cause(ctx), false))
			}
			continue
		}
		p.send(ctx, part)
		for _, e := range part {
			err := e.outcome(ctx)
			errs = append(errs, err)
			if err == nil {
				done()
			}
		}
	}
	return errors.Join(errs...)
}

// fitting returns how many of the events one script takes, none only if there are none.
func fitting(events []*Event) int {
	bytes := 0
	for i, e := range events[:min(maxBatch, len(events))] {
		if bytes += e.bytes(); bytes > maxBatchBytes && i > 0 {
			return i
		}
	}
	return min(maxBatch, len(events))
}
