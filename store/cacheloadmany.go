package store

import (
	"context"
	"time"

	"github.com/compozy/cache/store/internal/load"
)

// LoadMany returns the values of keys, and has loader load those that are missing, by one call if nobody else loads any of
// them. It returns values by key; keys that are missing in what it returns have no value, see [WithNegative]. Its error is
// that of all keys that it was called for. Cold keys take three round trips, in a Cluster to each master, or more where they are
// more than 500, or their values more than 1 MiB.
//
// Callers of [Cache.GetOrLoad] and LoadMany who want the same key share its load, in this process and others, and what that
// says of contexts, failures and stale values applies here; the map does not show which values are stale: use
// [Cache.GetOrLoadItem] where that matters. If keys are being loaded elsewhere and that comes to nothing, loader is called for
// these again, by few calls at a time. [WithEarly] has one more call of loader for all keys that it applies to.
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
	defer func() { m.refresh(loader) }() // also when the function of WithClone panics
	rest := m.fromNear(func(q *query[V], r result[V]) { m.addEarly(q, r, loader) })
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
	m.refresh(loader)
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
	for q, f := range m.cache.look(m.ctx, m.set, rest) {
		q.update(late[q], f)
	}
}

// addEarly takes note of a value that is to be loaded again in the background, if it is not fresh for much longer.
func (m *many[V]) addEarly(q *query[V], r result[V], loader func(context.Context, []string) (map[string]V, error)) {
	if j := q.earlyJob(r, single(q.key, loader)); j != nil {
		m.early = append(m.early, j)
	}
}

// refresh loads what addEarly has taken note of, together.
func (m *many[V]) refresh(loader func(context.Context, []string) (map[string]V, error)) {
	if len(m.early) > 0 {
		b := &batchJob[V]{cache: m.cache, loader: loader, jobs: m.early}
		m.early = nil
		m.cache.core.gate.Go(b.run)
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
	findings := m.cache.look(m.ctx, m.set, own)
	for _, q := range own {
		f := findings[q]
		unseen := q.gaveUp(f) && calls[q].Shared()
		if unseen || !q.conclude(calls[q], f) {
			j := q.job(calls[q], f, single(q.key, loader))
			j.unseen = unseen
			b.jobs = append(b.jobs, j)
			continue
		}
		q.slide(f.result)
		m.addEarly(q, f.result, loader)
	}
	handed = true
	if len(b.jobs) > 0 {
		m.cache.core.gate.Go(b.run)
	}
}
