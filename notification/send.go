package notification

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/cache/internal/redisx"
)

//go:embed publish.lua
var publishSource string

//go:embed publish_many.lua
var publishManySource string

//go:embed publish_plain.lua
var publishPlainSource string

//go:embed clock.lua
var clockSource string

// publishScripts are the ways to publish.
type publishScripts struct {
	one   *redisx.Script // one event, for the first time
	many  *redisx.Script // everything else
	plain *redisx.Script // without history
	clock *redisx.Script // the server's time, while it is not known
}

func newPublishScripts(size, lifetime any) publishScripts {
	numbers := strings.NewReplacer("'SIZE'", fmt.Sprintf("'%d'", size), "'LIFETIME'", fmt.Sprintf("'%d'", lifetime))
	return publishScripts{
		one:   redisx.NewScript(numbers.Replace(publishSource)),
		many:  redisx.NewScript(publishManySource),
		plain: redisx.NewScript(publishPlainSource),
		clock: redisx.NewScript(clockSource),
	}
}

// send publishes the requests with one script and fills in their outcomes.
func (p *publisher) send(ctx context.Context, requests []*request, now time.Time) {
	var failures []any
	var err error
	if p.set.history == 0 {
		failures, err = p.sendPlain(ctx, requests)
	} else {
		failures, err = p.sendSafely(ctx, requests, now)
	}
	settle(requests, failures, err)
}

// sendSafely repeats the requests as often as the client repeats what fails, which a single attempt is told not to do. As
// long as no attempt can have been executed, each one is a first attempt. All that follow look for what it has left.
func (p *publisher) sendSafely(ctx context.Context, requests []*request, start time.Time) (failures []any, err error) {
	var lost error // of the first attempt that may have been executed
	var since time.Time
	for attempt, now := 0, start; ; attempt, now = attempt+1, time.Now() {
		if lost == nil {
			failures, err = p.sendFirst(ctx, requests, now)
		} else {
			failures, err = p.sendMany(ctx, requests, now, now.Sub(since), noLimit)
		}
		switch {
		case err == nil:
			return failures, nil
		case redis.HasErrorPrefix(err, lateError):
			p.lateness.doubt()
		case lost == nil && !certain(err):
			lost, since = err, now
		}
		if attempt == p.retries.count || !retryable(ctx, err) {
			break
		}
		lookAround(ctx, p.client)
		if redisx.Sleep(ctx, p.retries.pause(attempt+1)) != nil {
			break
		}
	}
	if lost != nil && certain(err) {
		// It speaks of the last attempt. An earlier one may have been executed, so the error must not look like a refusal.
		err = fmt.Errorf("%w, and then: %s", lost, err.Error())
	}
	return nil, err
}

// sendFirst sends requests that no attempt before can have published.
func (p *publisher) sendFirst(ctx context.Context, requests []*request, now time.Time) (failures []any, err error) {
	limit, ok := p.lateness.limit(now)
	for !ok {
		// It costs a system's first event a round trip to ask what the time is: one without a limit could come after its
		// repetition.
		now = time.Now()
		clock, err := p.runOnce(ctx, p.scripts.clock)
		if err == nil {
			err = p.lateness.learn(clock, now)
		}
		if err != nil {
			return nil, notSentError{err}
		}
		now = time.Now()
		limit, ok = p.lateness.limit(now) // unless somebody else has forgotten it meanwhile
	}
	if len(requests) == 1 && !p.lateness.standing.Load() {
		return nil, p.sendOne(ctx, requests[0], now, limit)
	}
	return p.sendMany(ctx, requests, now, 0, limit)
}

// runOnce runs a script on the journal, which the client does not repeat by itself: a failure of the network leaves open
// whether it was executed.
func (p *publisher) runOnce(ctx context.Context, s *redisx.Script, args ...any) (any, error) {
	process := func(ctx context.Context, cmd redis.Cmder) error { return p.client.Process(ctx, redisx.Once(cmd)) }
	return s.Run(ctx, process, []string{p.journal}, args...)
}

// notSentError is what kept an event from being sent.
type notSentError struct{ error }

func (e notSentError) Unwrap() error { return e.error }

// sendOne is a first attempt for an event that goes alone.
func (p *publisher) sendOne(ctx context.Context, r *request, now time.Time, limit any) error {
	channels := r.channels()
	args := make([]any, 0, 4+len(channels))
	args = append(args, r.key, r.value, limit)
	for _, channel := range channels {
		args = append(args, channel)
	}
	renew := p.expiry.due(now)
	if renew {
		args = append(args, "")
	}
	id, err := p.runOnce(ctx, p.scripts.one, args...)
	if err != nil {
		return err
	}
	if renew {
		p.expiry.renewed(now)
	}
	p.lateness.placed(id, now)
	return nil
}

// sendMany sends events that may have been published in the time since an earlier attempt, 0 if there was none. It returns
// which have failed.
func (p *publisher) sendMany(
	ctx context.Context, requests []*request, now time.Time, since time.Duration, limit any,
) (failures []any, err error) {
	elapsed := int64(0)
	if since > 0 {
		elapsed = since.Milliseconds() + 2 // both ends are rounded down
	}
	args := make([]any, 0, 4+6*len(requests))
	args = append(args, p.size, p.expiry.milliseconds, elapsed, limit)
	for _, r := range requests {
		args = append(args, r.key, r.value, len(r.channels()))
		for _, channel := range r.channels() {
			args = append(args, channel)
		}
	}
	reply, err := p.runOnce(ctx, p.scripts.many, args...)
	if err != nil {
		return nil, err
	}
	values, ok := reply.([]any)
	if !ok || len(values) < 2 {
		return nil, fmt.Errorf("%w: %T to a batch of events", errProtocol, reply)
	}
	p.lateness.compare(values[0], values[1], now)
	return values[2:], nil
}

// sendPlain publishes without history. Nothing is repeated, as nothing could tell a repetition from the original.
func (p *publisher) sendPlain(ctx context.Context, requests []*request) (failures []any, err error) {
	args := make([]any, 0, 5*len(requests))
	for _, r := range requests {
		args = append(args, seal(ownID(r.key), r.value), len(r.channels()))
		for _, channel := range r.channels() {
			args = append(args, channel)
		}
	}
	reply, err := p.runOnce(ctx, p.scripts.plain, args...)
	if err != nil && retryable(ctx, err) {
		lookAround(ctx, p.client)
	}
	failures, ok := reply.([]any)
	if err == nil && !ok {
		err = fmt.Errorf("%w: %T to events", errProtocol, reply)
	}
	return failures, err
}

// settle writes the failures that a script tells, index by index, or the error, into the requests.
func settle(requests []*request, failures []any, err error) {
	for ; err == nil && len(failures) > 0; failures = failures[2:] {
		index, ok := failures[0].(int64)
		if !ok || index < 0 || index >= int64(len(requests)) || len(failures) == 1 {
			err = fmt.Errorf("%w: failures %v", errProtocol, failures)
			break
		}
		text, _ := failures[1].(string)
		requests[index].err = refusal(text)
	}
	if err != nil {
		for _, r := range requests {
			r.err = err
		}
	}
}

// refusal is an error the server answered inside the reply of a script.
type refusal string

func (e refusal) Error() string { return string(e) }

// RedisError marks it as an answer of the server.
func (refusal) RedisError() {}

// How errors of scripts begin that do not say that an event was not published.
const (
	partialError = "PARTIAL " // it was, to some of its channels only
	trimmedError = "TRIMMED " // nobody can tell, as the journal has forgotten too much
)

// certain reports whether an error tells that the event was not published: the server said so, or nothing was sent.
func certain(err error) bool {
	if !redisx.IsReply(err) {
		return unsent(err)
	}
	return !redis.HasErrorPrefix(err, partialError) && !redis.HasErrorPrefix(err, trimmedError)
}

// unsent reports whether an error came before the event was sent.
func unsent(err error) bool {
	var before notSentError
	return errors.As(err, &before) || redisx.IsUnsent(err)
}
