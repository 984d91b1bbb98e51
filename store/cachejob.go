package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/compozy/cache/internal/redisx"
	"github.com/compozy/cache/store/internal/entry"
	"github.com/compozy/cache/store/internal/lease"
	"github.com/compozy/cache/store/internal/load"
	"github.com/compozy/cache/store/internal/near"
	"github.com/compozy/cache/store/internal/server"
)

// job is what loads a value, apart from those who want it.
type job[V any] struct {
	*query[V] // whose context has the values of the caller's, and does not end

	call   *load.Call[result[V]]
	loader func(context.Context) (V, error)
	found  finding[V]
	known  int64        // the version that is to be replaced although it is fresh, 0 for none
	early  bool         // the load is in the background, as known is fresh, but not for much longer
	mark   near.Mark    // from before the load
	tags   string       // of what is loaded
	held   *lease.Lease // until it is ended
	late   *lateJobs[V] // what loads it together with others of its LoadMany, nil to load it alone
	unseen bool         // Redis is to be read first: the caller gave up before it had, or it answers again
	cutOff bool         // Redis has stopped to answer since it said what is in found; found.err says so
}

// job returns what loads the value for a call.
func (q *query[V]) job(call *load.Call[result[V]], f finding[V], loader func(context.Context) (V, error)) *job[V] {
	apart := *q
	apart.ctx, apart.kept = context.WithoutCancel(q.ctx), nil // which is of no use for others
	j := &job[V]{query: &apart, call: call, loader: loader, mark: q.beginNear()}
	j.know(f)
	return j
}

// know takes note of what was found.
func (j *job[V]) know(f finding[V]) {
	j.found, j.known = f, 0
	if j.servesStale(f) {
		j.call.Offer(f.result, f.asOf)
	}
	if f.state == invalid {
		j.known = f.result.entry.Version
	}
}

// see reads Redis for those jobs that are to begin with that. It returns the jobs without those whose calls that has ended, and
// those that load early what was found.
func see[V any](jobs []*job[V]) (rest, early []*job[V]) {
	var queries []*query[V]
	for _, j := range jobs {
		if j.unseen {
			queries = append(queries, j.query)
		}
	}
	if len(queries) == 0 {
		return jobs, nil
	}
	findings := jobs[0].cache.look(jobs[0].ctx, jobs[0].set, queries)
	for _, j := range jobs {
		if j.unseen {
			j.unseen = false
			j.know(findings[j.query])
			if j.conclude(j.call, j.found) {
				j.slide(j.found.result)
				if e := j.earlyJob(j.found.result, j.loader); e != nil {
					early = append(early, e)
				}
				continue
			}
		}
		rest = append(rest, j)
	}
	return rest, early
}

// run does what is to be done, and ends the call.
func (j *job[V]) run() {
	one := []*job[V]{j}
	protect(one, func() {
		rest, early := see(one)
		for _, e := range early {
			j.cache.core.gate.Go(e.run)
		}
		switch {
		case len(rest) == 0:
		case j.found.state == unanswered:
			j.call.Finish(j.alone(j.found.err))
		default:
			j.call.Finish(j.compete())
		}
	})
}

// protect runs f, which ends the calls of jobs. A codec or a hook of the client that panics ends these, and not the process.
func protect[V any](jobs []*job[V], f func()) {
	returned := false
	defer func() {
		if returned {
			return
		}
		v := recover()
		err := fmt.Errorf("%w: %s", ErrPanic, redisx.PanicText(v))
		jobs[0].cache.core.set.logger.Error("store: panic in codec or client hook", zap.Any("panic", v), zap.Stack("stack"))
		for _, j := range jobs {
			if j.held != nil {
				j.held.Abandon()
			}
			j.call.Finish(load.Outcome[result[V]]{Err: j.wrap(err)})
		}
	}()
	f()
	returned = true
}

// limited returns a context that ends with WithHardTimeout, or when the Store is closed.
func (j *job[V]) limited(limit time.Duration) (context.Context, context.CancelFunc) {
	ctx, end := load.Limited(j.ctx, j.cache.core.shared.loads, limit, ErrLoadTimeout)
	if !j.early {
		return ctx, end
	}
	stop := context.AfterFunc(j.cache.core.gate.Closing(), end) // nobody waits for it
	return ctx, func() {
		stop()
		end()
	}
}

// compete gets the value from whichever process loads it, which may be this one.
func (j *job[V]) compete() load.Outcome[result[V]] {
	ctx, cancel := j.limited(j.set.cache.hard)
	defer cancel()
	claim := j.cache.core.shared.leases.Claim(j.keys, j.known)
	defer claim.Close()
	return j.settle(ctx, claim, claim.Ask(ctx))
}

// settle does what the answer to a claim demands.
func (j *job[V]) settle(ctx context.Context, claim *lease.Claim, a lease.Answer) load.Outcome[result[V]] {
	if j.early && a.Outcome != lease.Granted {
		j.pause(ctx, claim, a)
		return load.Outcome[result[V]]{}
	}
	if a.Outcome == lease.Busy {
		j.cache.counts.waits.Inc()
		a = claim.Await(ctx, a, false)
	}
	switch a.Outcome {
	case lease.Granted:
		j.held = a.Lease
		return j.load()
	case lease.Fresh:
		f := j.fresh(ctx, a)
		switch f.state {
		case broken:
			return load.Outcome[result[V]]{Err: f.err}
		case unanswered:
			return j.unanswered(ctx, f.err)
		case invalid:
			claim.Replace(f.result.entry.Version)
			return j.settle(ctx, claim, claim.Ask(ctx))
		default:
			return load.Outcome[result[V]]{Value: f.result, AsOf: a.AsOf}
		}
	case lease.Refused:
		if a.Failure.Class == lease.Absent && !j.stillAbsent(ctx, a.Failure.Message) {
			return j.settle(ctx, claim, claim.Ask(ctx))
		}
		return j.refused(a)
	case lease.Foreign:
		return load.Outcome[result[V]]{Err: j.foreign(entry.ErrForeign).err}
	default:
		return j.unanswered(ctx, j.unavailable(j.ctx, a.Err))
	}
}

// unanswered is for when Redis does not answer, unless that is because ctx has ended.
func (j *job[V]) unanswered(ctx context.Context, err error) load.Outcome[result[V]] {
	if ctx.Err() != nil {
		return j.failed(j.wrap(context.Cause(ctx)))
	}
	if j.late != nil {
		j.cutOff, j.found.err = true, err
		return j.together()
	}
	return j.alone(err)
}

// fresh is for a value that somebody else has stored.
func (j *job[V]) fresh(ctx context.Context, a lease.Answer) finding[V] {
	l := &looked[V]{q: j.query, f: j.query.found(server.Content{Raw: a.Raw, Now: a.Now})}
	j.cache.check(ctx, []*looked[V]{l}, nil)
	return l.f
}

// stillAbsent reports whether what another process has just found out, that there is no value, is no older than any tag was
// invalidated. tags are those that the value would have had.
func (j *job[V]) stillAbsent(ctx context.Context, tags string) bool {
	if tags == "" {
		return len(j.set.tags) == 0
	}
	l := &looked[V]{q: j.query, f: finding[V]{
		state: found, result: result[V]{entry: entry.Entry{Kind: entry.Absent, Tags: tags}},
	}}
	j.cache.check(ctx, []*looked[V]{l}, nil)
	return l.f.state == found
}

// refused is for a failure in another process, or a moment ago.
func (j *job[V]) refused(a lease.Answer) load.Outcome[result[V]] {
	switch a.Failure.Class {
	case lease.Absent:
		return load.Outcome[result[V]]{
			Value: result[V]{entry: entry.Entry{Kind: entry.Absent}, source: SourceRedis}, AsOf: a.AsOf,
		}
	case lease.Unstorable:
		return j.load()
	default:
		return j.untouched(j.failed(j.shared(a.Failure)), a.AsOf)
	}
}

// failed is for a load that has no value, see query.failed.
func (j *job[V]) failed(err error) load.Outcome[result[V]] { return j.query.failed(j.found, err) }

// together loads the value with others of its LoadMany.
func (j *job[V]) together() load.Outcome[result[V]] {
	j.late.add(j)
	<-j.call.Done()
	return j.call.Outcome()
}

// load runs the loader, and stores what it returns if this process holds the lease.
func (j *job[V]) load() load.Outcome[result[V]] {
	if j.late != nil {
		return j.together()
	}
	if j.held != nil {
		tags, err := j.epochs(j.ctx)
		if err != nil {
			return j.untagged(err)
		}
		j.tags = tags
	}
	began := time.Now()
	v, err := execute(j.query, j.loader)
	p := j.plan(v, err, began)
	if j.held == nil {
		return p.outcome
	}
	defer func() { j.held = nil }()
	ended := time.Now()
	if p.store {
		return j.stored(p, j.held.Fill(j.ctx, p.value), ended)
	}
	return j.unstored(p, j.held.Fail(j.ctx, p.failure, p.pause), ended)
}

// untagged is for a value that cannot be stored, as the epochs of its tags are not known.
func (j *job[V]) untagged(err error) load.Outcome[result[V]] {
	held := j.held
	j.held = nil
	if errors.Is(err, ErrCodec) {
		held.Fail(j.ctx, lease.Failure{Class: lease.Gone}, 0)
		return load.Outcome[result[V]]{Err: err}
	}
	held.Abandon()
	return j.alone(j.unavailable(j.ctx, err))
}

// execute runs a loader of one or many keys, and counts it.
func execute[V, R any](q *query[V], loader func(context.Context) (R, error)) (R, error) {
	s := q.cache.core.shared
	began := time.Now()
	r, err := load.Run(q.ctx, s.loads, q.set.cache.hard, q.cache.core.gate.Go, func(ctx context.Context) (R, error) {
		return loader(s.limit.With(ctx))
	})
	q.cache.counts.seconds.Observe(time.Since(began).Seconds())
	q.cache.core.metrics.cache.loads.WithLabelValues(q.cache.name, outcomeOfLoad(err)).Inc()
	return r, err
}

// plan is what follows from what a loader has returned.
type plan[V any] struct {
	outcome load.Outcome[result[V]]
	store   bool
	value   lease.Value   // to store
	failure lease.Failure // or else what others learn,
	pause   time.Duration // and for how long nobody loads
}

// plan decides what is to be done with what the loader, which began then, has returned for the key.
func (j *job[V]) plan(v V, err error, began time.Time) plan[V] {
	p := j.planned(v, err)
	if p.outcome.AsOf = began; failureOfLoad(p.outcome) != nil {
		p.outcome.AsOf = j.found.asOf
	}
	return p
}

func (j *job[V]) planned(v V, err error) plan[V] {
	none := result[V]{entry: entry.Entry{Kind: entry.Absent, Codec: entry.Plain, Compression: entry.Plain}, source: SourceLoaded}
	switch {
	case err == nil:
		return j.planValue(v)
	case load.Panicked(err): // whatever the panic matches
	case errors.Is(err, ErrNotFound) && j.set.cache.negative > 0:
		return plan[V]{
			outcome: load.Outcome[result[V]]{Value: none}, store: true,
			value: lease.Value{Kind: entry.Absent, Codec: entry.Plain, Compression: entry.Plain, TTL: j.set.cache.negative, Tags: j.tags},
		}
	case errors.Is(err, ErrNotFound):
		return plan[V]{outcome: load.Outcome[result[V]]{Value: none}, failure: lease.Failure{Class: lease.Absent, Message: j.tags}}
	}
	failure, pause, err := j.explain(err)
	return plan[V]{outcome: j.failed(err), failure: failure, pause: pause}
}

// planValue is plan for a value.
func (j *job[V]) planValue(v V) plan[V] {
	coder := j.cache.set.coder
	e, err := coder.encode(v)
	large := errors.Is(err, ErrTooLarge)
	if large {
		j.cache.counts.oversize.Inc()
		coder.maxSize = largestSize
		e, err = coder.encode(v)
	}
	if err != nil {
		return plan[V]{
			outcome: load.Outcome[result[V]]{Err: j.wrap(err)},
			failure: lease.Failure{Class: lease.Load, Message: "the value cannot be encoded"}, pause: j.set.cache.pause,
		}
	}
	r := result[V]{
		entry:  entry.Entry{Kind: entry.Value, Codec: e.codec, Compression: e.compression, Payload: e.payload},
		source: SourceLoaded, value: &v, large: large,
	}
	j.cache.sizes.saw(len(e.payload))
	p := plan[V]{outcome: load.Outcome[result[V]]{Value: r}, store: !large}
	if large {
		p.failure, p.pause = lease.Failure{Class: lease.Unstorable}, j.set.cache.pause
		return p
	}
	p.value = lease.Value{
		Kind: entry.Value, Codec: e.codec, Compression: e.compression, Payload: e.payload,
		TTL: j.set.lifetime(), Keep: j.set.cache.stale, Tags: j.tags,
	}
	return p
}

// unstored is what callers get of a load that has nothing to store, for which the lease was ended at a time, unless it had
// ended before.
func (j *job[V]) unstored(p plan[V], lasted bool, ended time.Time) load.Outcome[result[V]] {
	if !lasted {
		return p.outcome
	}
	return j.untouched(p.outcome, ended)
}

// untouched is an outcome if nobody has written the key during the lease, which lasted until a time; that is zero if it is not
// known. A tag may have been invalidated, and a stale value was read before the lease began.
func (j *job[V]) untouched(out load.Outcome[result[V]], until time.Time) load.Outcome[result[V]] {
	if !until.IsZero() && len(j.set.tags) == 0 && out.Value.entry.Tags == "" && out.Value.cause == nil {
		out.AsOf = until
	}
	return out
}

// stored is what callers get of a value that Redis was asked to store, at a time. If it did, nobody has written meanwhile,
// but a tag may have been invalidated.
func (j *job[V]) stored(p plan[V], r lease.Result, asked time.Time) load.Outcome[result[V]] {
	out := p.outcome
	switch {
	case r.Err != nil:
		j.cache.counts.unfilled.Inc()
		return j.keepNear(out)
	case r.Foreign:
		return load.Outcome[result[V]]{Err: j.foreign(entry.ErrForeign).err}
	case r.Stored:
		out.Value.entry.Version = r.Version
		if j.tags == "" {
			out.AsOf = asked
		}
		j.removeNear() // which has what an early refresh has replaced
	default:
		j.cache.counts.refused.Inc()
	}
	return out
}

// maxPause is how long a process waits at most until it asks again whether it may load a value early. A Set may have ended what it
// waits for.
const maxPause = time.Second

// pause waits until a value that is still fresh may be loaded by this process, if another one loads it, or has failed. So this one
// does not ask again all the time.
func (j *job[V]) pause(ctx context.Context, claim *lease.Claim, a lease.Answer) {
	switch a.Outcome {
	case lease.Busy:
		if got := claim.Await(ctx, a, true); got.Outcome == lease.Granted { // what was to be replaced is gone: who wants it may ask
			got.Lease.Fail(j.ctx, lease.Failure{Class: lease.Gone}, 0)
		}
	case lease.Refused:
		_ = redisx.Sleep(ctx, min(a.Left, maxPause))
	default:
	}
}
