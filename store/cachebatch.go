package store

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/compozy/cache/internal/redisx"
	"github.com/compozy/cache/store/internal/lease"
	"github.com/compozy/cache/store/internal/load"
)

// batchJob loads several values, apart from those who want them.
type batchJob[V any] struct {
	cache  *Cache[V]
	loader func(context.Context, []string) (map[string]V, error)
	jobs   []*job[V]
}

// run does what is to be done, and ends the calls.
func (b *batchJob[V]) run() {
	var granted, unstorable, alone []*job[V]
	protect(b.jobs, func() {
		var asking []*job[V]
		rest, early := see(b.jobs)
		if len(early) > 0 {
			b.cache.core.gate.Go((&batchJob[V]{cache: b.cache, loader: b.loader, jobs: early}).run)
		}
		for _, j := range rest {
			if j.found.state == unanswered {
				alone = append(alone, j)
			} else {
				asking = append(asking, j)
			}
		}
		var unanswered []*job[V]
		granted, unstorable, unanswered = b.ask(asking)
		alone = append(alone, unanswered...)
	})
	var all sync.WaitGroup
	for _, part := range []struct {
		jobs []*job[V]
		load func([]*job[V])
	}{{granted, b.load}, {unstorable, b.pass}, {alone, b.alone}} { // mostly one has all
		if len(part.jobs) > 0 {
			all.Go(func() { protect(part.jobs, func() { part.load(part.jobs) }) })
		}
	}
	all.Wait()
}

// ask asks for the leases on all keys at once. It returns the jobs that got them, those whose values cannot or must not be stored,
// and those for which Redis did not answer; the others go on by themselves.
func (b *batchJob[V]) ask(jobs []*job[V]) (granted, unstorable, unanswered []*job[V]) {
	if len(jobs) == 0 {
		return nil, nil, nil
	}
	leases := b.cache.core.shared.leases
	claims := make([]*lease.Claim, len(jobs))
	for i, j := range jobs {
		claims[i] = leases.Claim(j.keys, j.known)
	}
	asked := false
	defer func() {
		for _, claim := range claims {
			if !asked { // a hook of the client panics
				claim.Close()
			}
		}
	}()
	answers := leases.AskMany(jobs[0].ctx, claims)
	asked = true
	var others []func()
	late := &lateJobs[V]{batch: b}
	for i, a := range answers {
		j, claim := jobs[i], claims[i]
		switch {
		case a.Outcome == lease.Granted:
			claim.Close()
			j.held = a.Lease
			granted = append(granted, j)
		case !j.early && a.Outcome == lease.Refused && a.Failure.Class == lease.Unstorable:
			claim.Close()
			unstorable = append(unstorable, j)
		case !j.early && a.Outcome == lease.Unknown:
			claim.Close()
			j.found.err = j.unavailable(j.ctx, a.Err)
			unanswered = append(unanswered, j)
		default:
			j.late = late
			others = append(others, func() {
				protect([]*job[V]{j}, func() {
					defer claim.Close()
					ctx, cancel := j.limited(j.set.cache.hard)
					defer cancel()
					j.call.Finish(j.settle(ctx, claim, a))
				})
			})
		}
	}
	for _, other := range others {
		b.cache.core.gate.Go(other)
	}
	return granted, unstorable, unanswered
}

// call runs a loader for some keys, and returns what it says of each.
func (b *batchJob[V]) call(
	jobs []*job[V], loader func(context.Context, []string) (map[string]V, error),
) func(j *job[V]) plan[V] {
	keys := make([]string, len(jobs))
	for i, j := range jobs {
		keys[i] = j.key
		j.call.Queue(nil)
	}
	began := time.Now()
	values, err := execute(jobs[0].query, func(ctx context.Context) (map[string]V, error) { return loader(ctx, keys) })
	return func(j *job[V]) plan[V] {
		v, ok := values[j.key]
		switch {
		case err != nil:
			return j.plan(v, err, began)
		case !ok:
			return j.plan(v, ErrNotFound, began)
		default:
			return j.plan(v, nil, began)
		}
	}
}

// load loads the values of keys whose leases this process holds, and stores them.
func (b *batchJob[V]) load(jobs []*job[V]) {
	tags, err := jobs[0].epochs(jobs[0].ctx) // which are those of all
	if err != nil {
		b.untagged(jobs, err)
		return
	}
	for _, j := range jobs {
		j.tags = tags
	}
	planned := b.call(jobs, b.loader)
	var (
		fill, fail []*job[V]
		fills      []*lease.Lease
		fails      []*lease.Lease
		values     []lease.Value
		failures   []lease.Failure
		pauses     []time.Duration
	)
	plans := make(map[*job[V]]plan[V], len(jobs))
	for _, j := range jobs {
		p := planned(j)
		plans[j] = p
		if p.store {
			fill, fills, values = append(fill, j), append(fills, j.held), append(values, p.value)
		} else {
			fail, fails = append(fail, j), append(fails, j.held)
			failures, pauses = append(failures, p.failure), append(pauses, p.pause)
		}
	}
	leases := b.cache.core.shared.leases
	// Once Redis has not answered in time nobody waits for what is still to be stored, which goes on.
	var late sync.Once
	wake := func() {
		for _, j := range fill {
			j.call.Finish(j.keepNear(plans[j].outcome))
		}
		for _, j := range fail {
			j.call.Finish(plans[j].outcome)
		}
	}
	asked := time.Now()
	leases.FillMany(jobs[0].ctx, fills, values, func(i int, r lease.Result) {
		j := fill[i]
		j.held = nil
		j.call.Finish(j.stored(plans[j], r, asked))
		if r.Err != nil {
			late.Do(wake)
		}
	})
	if len(fail) == 0 {
		return
	}
	asked = time.Now()
	leases.FailMany(jobs[0].ctx, fails, failures, pauses, func(i int, ended bool, err error) {
		j := fail[i]
		j.held = nil
		j.call.Finish(j.unstored(plans[j], ended, asked))
		if err != nil {
			late.Do(wake)
		}
	})
}

// pass loads the values of keys for those who wait, and stores nothing.
func (b *batchJob[V]) pass(jobs []*job[V]) {
	planned := b.call(jobs, b.loader)
	for _, j := range jobs {
		j.call.Finish(planned(j).outcome)
	}
}

// untagged is for values that cannot be stored, as the epochs of their tags are not known.
func (b *batchJob[V]) untagged(jobs []*job[V], err error) {
	if errors.Is(err, ErrCodec) {
		for _, j := range jobs {
			j.call.Finish(j.untagged(err))
		}
		return
	}
	for _, j := range jobs {
		j.held.Abandon()
		j.held, j.found.err = nil, j.unavailable(j.ctx, err)
	}
	b.alone(jobs)
}

// alone loads the values of keys for which Redis does not answer.
func (b *batchJob[V]) alone(jobs []*job[V]) {
	var rest []*job[V]
	for _, j := range jobs {
		if j.early {
			j.call.Finish(load.Outcome[result[V]]{})
			continue
		}
		if stale, ok := j.near(j.found.err); ok {
			j.call.Finish(load.Outcome[result[V]]{Value: stale})
			continue
		}
		rest = append(rest, j)
	}
	if len(rest) == 0 {
		return
	}
	silent := func(j *job[V]) bool { return !redisx.IsReply(j.found.err) }
	if i := slices.IndexFunc(rest, silent); i > 0 { // slot asks for the first key whether Redis answers again
		rest[0], rest[i] = rest[i], rest[0]
	}
	release, abandoned, err := slot(rest, rest[0].found.err)
	if err != nil {
		for _, j := range rest {
			out := j.failed(err)
			out.Abandoned = abandoned // somebody may want other keys than the first
			j.call.Finish(out)
		}
		return
	}
	if release == nil {
		for _, j := range rest {
			j.unseen = true
		}
		(&batchJob[V]{cache: b.cache, loader: b.loader, jobs: rest}).run()
		return
	}
	planned := b.call(rest, func(ctx context.Context, missing []string) (map[string]V, error) {
		defer release() // later than the time-out, if the loader is
		return b.loader(ctx, missing)
	})
	for _, j := range rest {
		j.call.Finish(j.keepNear(planned(j).outcome))
	}
}
