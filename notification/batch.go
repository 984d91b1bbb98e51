package notification

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"strings"
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

	// publishAttempts counts the first one, which is never repeated unseen, and one that go-redis repeats as often as
	// the client's settings say.
	publishAttempts = 2
	publishPause    = 8 * time.Millisecond
	// searchMargin is how much further than the first attempt a repetition looks back for its own events: go-redis
	// may repeat it again later, and another server with another clock may have taken over.
	searchMargin = 30 * time.Second
	// batchTimeout bounds a batch, whose callers may each have their own deadline or none.
	batchTimeout = 30 * time.Second
)

// request is one event on its way to Redis. Its outcome is written before done is closed.
type request struct {
	own        string // the publisher's own ID for it
	key, value string // what the journal keeps
	channels   []string

	gone  func() error // the caller's ctx.Err, for those that wait for a batch
	taken atomic.Bool  // set once, by the batch that sends it or by the caller who gave up first
	done  chan struct{}
	id    string
	err   error
}

// publisher sends events: alone when few are in flight, batched when many are.
type publisher struct {
	client  redis.UniversalClient
	set     settings
	keys    keys
	metrics *metrics
	journal *script
	plain   *script
	size    any // arguments of the script that never change
	ttl     any
	own     string        // prefix that makes the IDs of this publisher's events its own
	counter atomic.Uint64 // number of the last event prepared

	mu      sync.Mutex
	flying  int        // calls to Redis in flight; guarded by mu
	waiting []*request // events that wait for a place in a batch; guarded by mu
}

func newPublisher(client redis.UniversalClient, set settings, k keys, m *metrics) *publisher {
	return &publisher{
		client: client, set: set, keys: k, metrics: m,
		journal: newScript(publishSource), plain: newScript(publishPlainSource),
		size: set.history, ttl: set.historyTTL.Milliseconds(),
		own: rand.Text()[:16],
	}
}

func (p *publisher) nextOwnID() string {
	return p.own + "." + strconv.FormatUint(p.counter.Add(1), 10)
}

// one publishes a single event.
func (p *publisher) one(ctx context.Context, r *request) error {
	if err := ctx.Err(); err != nil {
		return p.failed(r, err, false)
	}
	start := time.Now()
	p.mu.Lock()
	if p.flying < maxDirect {
		p.flying++
		p.mu.Unlock()
		p.send(ctx, []*request{r})
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
		p.waiting = append(p.waiting[:0], p.waiting[count:]...)
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

// send executes the publish script for the requests and fills in their outcomes. It repeats after lost replies.
func (p *publisher) send(ctx context.Context, requests []*request) {
	if p.set.history == 0 {
		p.sendPlain(ctx, requests)
		return
	}
	start := time.Now()
	var err error
	var reply any
	for attempt := range publishAttempts {
		since := int64(0)
		if attempt > 0 {
			lookAround(ctx, p.client)
			if !sleep(ctx, backoff(attempt, publishPause, publishPause)) {
				break
			}
			since = (time.Since(start) + searchMargin).Milliseconds()
		}
		// The first attempt is executed once at most. Repetitions look for what earlier ones have left.
		run := p.journal.runOnce
		if attempt > 0 {
			run = p.journal.run
		}
		reply, err = run(ctx, p.client, p.command(since, requests))
		if err == nil || !retryable(ctx, err) {
			break
		}
	}
	p.settle(requests, reply, err)
}

func (p *publisher) command(since int64, requests []*request) []any {
	command := p.journal.call(3+6*len(requests), p.keys.journal)
	command = append(command, p.size, p.ttl, since)
	for _, r := range requests {
		command = append(command, r.key, r.value, len(r.channels))
		for _, channel := range r.channels {
			command = append(command, channel)
		}
	}
	return command
}

// settle writes the reply of the script, or the error, into the requests.
func (p *publisher) settle(requests []*request, reply any, err error) {
	ids, ok := reply.([]any)
	if !ok {
		ids = []any{reply}
	}
	if err == nil && len(ids) != len(requests) {
		err = fmt.Errorf("unexpected reply of the publish script: %T", reply)
	}
	for i, r := range requests {
		if err != nil {
			r.err = err
			continue
		}
		id, _ := ids[i].(string)
		if text, refused := strings.CutPrefix(id, "!"); refused {
			r.err = refusal(text)
			continue
		}
		r.id = id
	}
}

// refusal is an error the server answered inside the reply of the script.
type refusal string

func (e refusal) Error() string { return string(e) }

// RedisError marks it as an answer of the server: the event was certainly not published.
func (refusal) RedisError() {}

// sendPlain publishes without history. Nothing is repeated, as nothing could tell a repetition from the original.
func (p *publisher) sendPlain(ctx context.Context, requests []*request) {
	for _, r := range requests {
		command := append(p.plain.call(1+len(r.channels), p.keys.journal), seal(r.own, r.value))
		for _, channel := range r.channels {
			command = append(command, channel)
		}
		r.id = r.own
		_, r.err = p.plain.runOnce(ctx, p.client, command)
		if r.err != nil && retryable(ctx, r.err) {
			lookAround(ctx, p.client)
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
