package store

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/compozy/cache/store/internal/lease"
	"github.com/compozy/cache/store/internal/load"
)

// LoadMany returns the values of keys, and has loader load those that are missing, by one call if nobody else loads any of
// them. It returns values by key; keys that are missing in what it returns have no value, see [WithNegative]. Its error is
// that of all keys that it was called for. Cold keys take three round trips, in a Cluster to each master, or more where they are
// more than 500, or their values more than 1 MiB.
//
// Callers of [Cache.GetOrLoad] and LoadMany who want the same key share its load, in this process and others, and what that
// says of contexts, failures and stale values applies here; the map does not show which values are stale: use
// [Cache.GetOrLoadItem] where that matters. If a key is being loaded elsewhere and that comes to nothing, loader is called for
// it again.
//
// If the values of some keys cannot be had, LoadMany returns the others, and a [*ManyError] that names those; their errors are
// as those of GetOrLoad. Options are those of GetOrLoad. Other errors match ErrClosed or ErrInvalidArgument. Safe for
// concurrent use.
func (c *Cache[V]) LoadMany(
	ctx context.Context, keys []string, loader func(ctx context.Context, missing []string) (map[string]V, error), opts ...Option,
) (_ map[string]V, err error) {
	if loader == nil {
		return nil, &ArgumentError{Argument: "loader", Reason: "is nil"}
	}
	m, err := c.beginMany(ctx, "load_many", keys, inLoadMany, opts)
	if err != nil {
		return nil, err
	}
	defer func() { m.end(err) }()
	err = errPanicked
	loader = c.guardedMany(loader)
	rest := m.fromNear(func(q *query[V], r result[V]) { q.refresh(r, single(q.key, loader)) })
	for came := time.Now(); len(rest) > 0; {
		rest = m.share(rest, came, loader)
	}
	return m.values, manyError(m.errs)
}

// share takes part in the calls for keys. It returns those whose outcome is of no use for a caller that came at the given time.
func (m *many[V]) share(
	queries []*query[V], came time.Time, loader func(context.Context, []string) (map[string]V, error),
) (again []*query[V]) {
	members, left := make([]load.Member[result[V]], len(queries)), 0
	for i, q := range queries {
		members[i] = q.join(came)
	}
	defer func() { // also when the function of WithClone panics
		for _, member := range members[left:] {
			member.Leave()
		}
	}()
	began := time.Now()
	m.lead(queries, members, loader)
	for i, q := range queries {
		item, repeats, err := q.await(members[i], q.softTimer(began), func() { m.update(queries[i:], members[i:]) })
		members[i].Leave()
		left = i + 1
		if repeats {
			again = append(again, q)
			continue
		}
		m.add(q, item, err)
	}
	return again
}

// update is query.update for those who have come later than what they could get was found.
func (m *many[V]) update(queries []*query[V], members []load.Member[result[V]]) {
	var rest []*query[V]
	late := make(map[*query[V]]load.Member[result[V]])
	for i, q := range queries {
		if _, isLate, ok := members[i].Fallback(); ok && isLate {
			late[q] = members[i]
			rest = append(rest, q)
		}
	}
	for q, f := range m.look(rest) {
		q.update(late[q], f)
	}
}

// single returns a loader for one key.
func single[V any](
	key string, loader func(context.Context, []string) (map[string]V, error),
) func(context.Context) (V, error) {
	return func(ctx context.Context) (V, error) {
		values, err := loader(ctx, []string{key})
		v, ok := values[key]
		if err == nil && !ok {
			err = ErrNotFound
		}
		return v, err
	}
}

// lead finds out what is to be done about the keys whose calls this caller has started, for all who join them.
func (m *many[V]) lead(
	queries []*query[V], members []load.Member[result[V]], loader func(context.Context, []string) (map[string]V, error),
) {
	handed := false
	calls := make(map[*query[V]]*load.Call[result[V]])
	var own []*query[V]
	for i, q := range queries {
		if members[i].First {
			calls[q] = members[i].Call
			own = append(own, q)
		}
	}
	defer func() {
		for _, call := range calls {
			if !handed { // also when a hook of the client, or a codec, panics
				call.Finish(load.Outcome[result[V]]{Abandoned: true})
			}
		}
	}()
	if len(own) == 0 {
		return
	}
	b := &batchJob[V]{cache: m.cache, loader: loader}
	findings := m.look(own)
	for _, q := range own {
		f := findings[q]
		if !q.conclude(calls[q], f) {
			b.jobs = append(b.jobs, q.job(calls[q], f, single(q.key, loader)))
			continue
		}
		q.slide(f.result)
		q.refresh(f.result, single(q.key, loader))
	}
	handed = true
	if len(b.jobs) > 0 {
		m.cache.core.gate.Go(b.run)
	}
}

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
		for _, j := range b.jobs {
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
	for i, a := range answers {
		j, claim := jobs[i], claims[i]
		switch {
		case a.Outcome == lease.Granted:
			claim.Close()
			j.held = a.Lease
			granted = append(granted, j)
		case a.Outcome == lease.Refused && a.Failure.Class == lease.Unstorable:
			claim.Close()
			unstorable = append(unstorable, j)
		case a.Outcome == lease.Unknown:
			claim.Close()
			j.found.err = failure(j.ctx, j.op, j.key, a.Err)
			unanswered = append(unanswered, j)
		default:
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
	asked := time.Now()
	for i, r := range leases.FillMany(jobs[0].ctx, fills, values) {
		j := fill[i]
		j.held = nil
		j.call.Finish(j.stored(plans[j], r, asked))
	}
	if len(fail) == 0 {
		return
	}
	asked = time.Now()
	for i, ended := range leases.FailMany(jobs[0].ctx, fails, failures, pauses) {
		j := fail[i]
		j.held = nil
		j.call.Finish(j.unstored(plans[j], ended, asked))
	}
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
		j.held, j.found.err = nil, failure(j.ctx, j.op, j.key, err)
	}
	b.alone(jobs)
}

// alone loads the values of keys for which Redis does not answer.
func (b *batchJob[V]) alone(jobs []*job[V]) {
	var rest []*job[V]
	for _, j := range jobs {
		if stale, ok := j.staleNear(j.found.err); ok {
			j.call.Finish(load.Outcome[result[V]]{Value: stale})
			continue
		}
		rest = append(rest, j)
	}
	if len(rest) == 0 {
		return
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
	planned := b.call(rest, func(ctx context.Context, missing []string) (map[string]V, error) {
		defer release() // later than the time-out, if the loader is
		return b.loader(b.cache.core.shared.limit.With(ctx), missing)
	})
	for _, j := range rest {
		j.call.Finish(j.keepNear(planned(j).outcome))
	}
}
