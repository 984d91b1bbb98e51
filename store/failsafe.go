package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/compozy/cache/internal/redisx"
	"github.com/compozy/cache/store/internal/entry"
	"github.com/compozy/cache/store/internal/lease"
	"github.com/compozy/cache/store/internal/load"
)

const (
	// keptAlone is how long what was loaded without Redis stays in the near cache.
	keptAlone = 5 * time.Second
	// askAgain is how often those who wait for a slot ask Redis whether it answers again.
	askAgain = time.Second
	// maxMessage is how many bytes of an error other processes get.
	maxMessage = 200
)

// near gets a value from the near cache while Redis does not answer, however old it is. But what was loaded without Redis is
// kept for when the loader fails, once that is some time ago: an outage of Redis must not hide what the database has.
func (j *job[V]) near(cause error) (stale result[V], ok bool) {
	if j.found.state != unanswered {
		return stale, false // Redis has said what there is, and failed afterwards
	}
	stale, ok = j.staleNear(cause)
	if ok && stale.over {
		j.found = finding[V]{state: outdated, result: stale, err: cause, asOf: time.Now()}
		j.call.Offer(stale, j.found.asOf)
		return stale, false
	}
	return stale, ok
}

// alone gets a value while Redis does not answer: from the near cache, or by the loader, of which a limited number runs.
func (j *job[V]) alone(cause error) load.Outcome[result[V]] {
	if j.early {
		return load.Outcome[result[V]]{} // nobody waits for it
	}
	if stale, ok := j.near(cause); ok {
		return load.Outcome[result[V]]{Value: stale}
	}
	release, abandoned, err := slot([]*job[V]{j}, cause)
	if err != nil {
		out := j.failed(err)
		out.Abandoned = abandoned
		return out
	}
	if release == nil {
		j.unseen = true
		j.run()
		return j.call.Outcome()
	}
	j.call.Queue(nil)
	began := time.Now()
	v, err := execute(j.query, func(ctx context.Context) (V, error) {
		defer release() // later than the time-out, if the loader is
		return j.loader(ctx)
	})
	return j.keepNear(j.plan(v, err, began).outcome)
}

// errAnswers ends the wait for a slot.
var errAnswers = errors.New("redis answers again")

// tellWhenRedisAnswers asks Redis for the key each second, and ends ctx when it answers.
func (j *job[V]) tellWhenRedisAnswers(ctx context.Context, end context.CancelCauseFunc) error {
	q := *j.query
	q.ctx = ctx
	for redisx.Sleep(ctx, askAgain) == nil {
		if q.look().state != unanswered {
			end(errAnswers)
		}
	}
	return nil
}

// slot waits until the loader of some jobs may run without Redis, and returns what to call when it has ended, or nil if Redis
// answers again. It does not wait if a loader that runs so waits for one of the jobs. abandoned says that nobody waited any more.
func slot[V any](jobs []*job[V], cause error) (release func(), abandoned bool, err error) {
	j := jobs[0]
	s := j.cache.core.shared
	limit := j.set.cache.hard
	if soft := j.set.cache.soft; soft > 0 {
		limit = min(soft, limit)
	}
	ctx, cancel := j.limited(limit)
	defer cancel()
	hastened, hasten := context.WithCancel(context.Background())
	defer hasten()
	for _, j := range jobs {
		j.call.Queue(hasten)
	}
	if !redisx.IsReply(cause) { // one that refuses something does answer
		waiting, stop := context.WithCancelCause(ctx)
		defer stop(nil)
		j.cache.core.gate.Go(func() { // apart, as a hook of the client may panic
			_ = redisx.Apart(func() error { return j.tellWhenRedisAnswers(waiting, stop) })
		})
		ctx = waiting
	}
	if release, ok := s.limit.Acquire(ctx, j.call.Deserted(), hastened.Done()); ok {
		return release, false, nil
	}
	if errors.Is(context.Cause(ctx), errAnswers) {
		for _, j := range jobs {
			j.call.Queue(nil)
		}
		return nil, false, nil
	}
	if ended := context.Cause(ctx); errors.Is(ended, ErrClosed) {
		return nil, false, ErrClosed
	} else if ended == nil {
		abandoned = true
	}
	return nil, abandoned, fmt.Errorf("%w: %w", ErrOverloaded, cause)
}

// failureOf returns err if it says that Redis has failed, and not what was found there.
func failureOf(err error) error {
	if errors.Is(err, entry.ErrForeign) {
		return nil
	}
	return err
}

// explain makes of the error of a loader what callers of this process get, what others learn, and for how long nobody loads.
func (j *job[V]) explain(err error) (others lease.Failure, pause time.Duration, own error) {
	switch {
	case load.Panicked(err):
		if meansSomething(err) { // the panic does not: one with ErrNotFound has found out nothing
			err = errors.New(err.Error())
		}
		return lease.Failure{Class: lease.Panic}, 0, j.wrap(fmt.Errorf("%w: %w", ErrPanic, err))
	case errors.Is(err, load.ErrTimeout):
		return lease.Failure{Class: lease.Timeout}, j.set.cache.pause, j.wrap(fmt.Errorf("%w: %w", ErrLoadTimeout, err))
	case errors.Is(err, ErrClosed) && j.cache.core.gate.Closed(): // and not another Store, which the loader uses
		return lease.Failure{Class: lease.Gone}, 0, err
	}
	others = lease.Failure{Class: lease.Load}
	if j.set.cache.sharedErrors {
		others.Message = cut(err.Error())
	}
	return others, j.set.cache.pause, err
}

// cut returns at most maxMessage bytes of a text, as valid UTF-8.
func cut(text string) string {
	text = strings.ToValidUTF8(text, "\uFFFD")
	if len(text) <= maxMessage {
		return text
	}
	end := maxMessage
	for !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end]
}

// shared is the failure of a load in another process, or a moment ago.
func (s subject) shared(f lease.Failure) error {
	err := ErrLoad
	switch f.Class {
	case lease.Timeout:
		err = fmt.Errorf("%w: %w", ErrLoad, ErrLoadTimeout)
	case lease.Panic:
		err = fmt.Errorf("%w: %w", ErrLoad, ErrPanic)
	default:
	}
	if f.Message != "" {
		return fmt.Errorf("%w: %s", s.wrap(err), f.Message)
	}
	return s.wrap(err)
}

// causeOf names why a stale value was returned, for metrics.
func causeOf(err error) string {
	switch {
	case errors.Is(err, ErrUnavailable):
		return "redis"
	case errors.Is(err, ErrLoadTimeout):
		return "timeout"
	case errors.Is(err, ErrPanic):
		return "panic"
	default:
		return "load"
	}
}

// outcomeOfLoad names how a load has ended, for metrics.
func outcomeOfLoad(err error) string {
	switch {
	case err == nil:
		return "ok"
	case load.Panicked(err):
		return "panic"
	case errors.Is(err, ErrNotFound):
		return "not_found"
	case errors.Is(err, load.ErrTimeout):
		return "timeout"
	default:
		return "error"
	}
}
