package publisher

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/cache/internal/redisx"
	"github.com/compozy/cache/notification/internal/journal"
)

// send publishes events with one script and fills in their outcomes.
func (p *Publisher) send(ctx context.Context, events []*Event) {
	if deadline, ok := ctx.Deadline(); ok && !time.Now().Before(deadline) {
		// A context may notice later than a connection with the same deadline.
		settle(events, "", notSentError{context.DeadlineExceeded})
		return
	}
	var failures string
	var err error
	if p.set.History == 0 {
		failures, err = p.plain(ctx, events)
	} else {
		failures, err = p.safely(ctx, events)
	}
	settle(events, failures, err)
}

// safely repeats a request as often as the client repeats what fails, which a single attempt must not do by itself. A repetition
// has the lane and the number of the first attempt.
func (p *Publisher) safely(ctx context.Context, events []*Event) (failures string, err error) {
	l := p.lanes.take()
	defer p.lanes.give(l)
	var lost error // of the first attempt that may have been executed
	for attempt := 1; ; attempt++ {
		failures, err = p.append(ctx, l, events, lost != nil)
		if err == nil {
			return failures, nil
		}
		if lost == nil && !certain(err) {
			lost = err
		}
		if attempt > p.retries.count || !p.retries.repeats(ctx, err) {
			break
		}
		p.lookAround(ctx)
		if redisx.Sleep(ctx, p.retries.pause(attempt)) != nil {
			break
		}
	}
	if lost != nil && p.annulled(ctx, l, events) {
		return "", notSentError{lost}
	}
	if lost != nil && certain(err) {
		// It speaks of the last attempt. An earlier one may have been executed, so the error must not look like a refusal.
		err = fmt.Errorf("%w, and then: %s", lost, err.Error())
	}
	return "", err
}

// append is one attempt. If one before may have been executed, this one is marked: should the server have lost what it knows
// of that, in a failover, the events may come twice.
func (p *Publisher) append(ctx context.Context, l *lane, events []*Event, redelivered bool) (failures string, err error) {
	now := time.Now()
	args := make([]any, 2, 3+6*len(events))
	total := 0
	for i, e := range events {
		value := e.value
		if redelivered {
			value = journal.Redeliver(value)
		}
		total += len(e.key) + len(value) + journal.EntryOverhead
		if i > 0 {
			args = append(args, "")
		}
		args = append(args, e.key, value)
		for _, channel := range e.channels() {
			args = append(args, channel)
		}
	}
	args[0], args[1] = l.number, total
	renew := p.expiry.due(now)
	if renew {
		args = append(args, "")
	}
	reply, err := p.once(ctx, p.scripts.append, []string{p.set.Keys.Journal, p.set.Keys.State, l.key}, args)
	if err != nil {
		return "", err
	}
	failures, ok := reply.(string)
	if !ok {
		return "", fmt.Errorf("%w: %T to a request to publish", journal.ErrProtocol, reply)
	}
	if renew {
		p.expiry.renewed(now)
	}
	return failures, nil
}

// once runs a script, which the client does not repeat by itself: a failure of the network leaves open whether it was
// executed.
func (p *Publisher) once(ctx context.Context, s *redisx.Script, keys []string, args []any) (any, error) {
	return s.Run(ctx, func(ctx context.Context, cmd redis.Cmder) error {
		return p.set.Client.Process(ctx, redisx.Once(cmd))
	}, keys, args...)
}

// laneLifetime is how long the server remembers a lane, as in append.lua.
const laneLifetime = 10 * time.Minute

// alwaysAccepted is how large an argument may be for every server: proto-max-bulk-len is never less.
const alwaysAccepted = 1 << 20

// annulled reports whether a request was not executed and never will be. It is for an event that is larger than its server
// accepts, of which nothing but a broken connection may be seen: the number is taken, so that no attempt can use it.
func (p *Publisher) annulled(ctx context.Context, l *lane, events []*Event) bool {
	if ctx.Err() != nil || len(events) > 1 || len(events[0].value) <= alwaysAccepted {
		return false
	}
	number := strconv.FormatInt(l.number, 10)
	before, err := p.set.Client.SetArgs(ctx, l.key, number, redis.SetArgs{Get: true, TTL: laneLifetime}).Result()
	executed := before == number || len(before) > len(number) && before[:len(number)+1] == number+" "
	return (err == nil || err == redis.Nil) && !executed //nolint:errorlint // an error that is exactly that
}

// plain publishes without history. Nothing is repeated, as nothing could tell a repetition from the original.
func (p *Publisher) plain(ctx context.Context, events []*Event) (failures string, err error) {
	args := make([]any, 0, 5*len(events))
	for i, e := range events {
		if i > 0 {
			args = append(args, "")
		}
		args = append(args, journal.Seal(journal.OwnID(e.key), e.value))
		for _, channel := range e.channels() {
			args = append(args, channel)
		}
	}
	reply, err := p.once(ctx, p.scripts.plain, []string{p.set.Keys.Journal}, args)
	if err != nil {
		if p.retries.repeats(ctx, err) {
			p.lookAround(ctx)
		}
		return "", err
	}
	failures, ok := reply.(string)
	if !ok {
		return "", fmt.Errorf("%w: %T to a request to publish", journal.ErrProtocol, reply)
	}
	return failures, nil
}

// lookAround makes a cluster client ask who the masters are now. By itself it does so when a node sends it elsewhere, which a
// dead one never does, or when what it knows is ten seconds old.
func (p *Publisher) lookAround(ctx context.Context) {
	type reloader interface{ ReloadState(ctx context.Context) }
	if cluster, ok := redisx.Unwrap[reloader](p.set.Client); ok {
		cluster.ReloadState(ctx)
	}
}
