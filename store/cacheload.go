package store

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/compozy/cache/store/internal/entry"
	"github.com/compozy/cache/store/internal/load"
)

// GetOrLoad returns the value of a key, which loader loads if there is none. Of all callers in all processes that miss a key
// at the same time one runs its loader, and all get what it returns. It takes one round trip if there is a value, and three
// around the loader.
//
// The context of the loader has the values of ctx, but is nobody's: it ends with WithHardTimeout only, so that a caller that
// gives up spoils nothing for others. Each caller waits for as long as its own ctx lasts. A loader that returns an error
// matching ErrNotFound says that there is no value; see [WithNegative].
//
// When the loader fails, a stale value is returned if there is one, see [WithStale], and when Redis does, one that a near cache
// has; [Cache.GetOrLoadItem] says so. While Redis does not answer, 32 loaders of the Store run at a time, not counting
// those of calls that such a loader makes with its context, and what they return is not stored in Redis, but for 5s in the near
// cache.
//
// Options: those of [NewCache] that say so. Callers who share a load share the options and the loader of the first. The error
// is that of the loader, or matches ErrLoad if it ran in another process or a moment ago, ErrLoadTimeout, ErrPanic,
// ErrNotFound, ErrCodec, ErrOverloaded, ErrUnavailable, ErrClosed, ErrInvalidArgument, or is the error of ctx. Safe for
// concurrent use.
func (c *Cache[V]) GetOrLoad(
	ctx context.Context, key string, loader func(ctx context.Context) (V, error), opts ...Option,
) (V, error) {
	item, err := c.GetOrLoadItem(ctx, key, loader, opts...)
	return item.Value, err
}

// GetOrLoadItem is GetOrLoad with what is known of the value.
func (c *Cache[V]) GetOrLoadItem(
	ctx context.Context, key string, loader func(ctx context.Context) (V, error), opts ...Option,
) (item Item[V], err error) {
	if loader == nil {
		return Item[V]{}, &ArgumentError{Argument: "loader", Reason: "is nil"}
	}
	if len(opts) == 0 {
		if item, ok := c.nearHit(ctx, key, true); ok {
			return item, nil
		}
	}
	q, err := c.begin(ctx, "load", key, inLoad, opts)
	if err != nil {
		return Item[V]{}, err
	}
	defer func() { q.end(item, err) }()
	err = errPanicked
	return q.getOrLoad(c.guarded(loader))
}

// getOrLoad is a call of GetOrLoad.
func (q *query[V]) getOrLoad(loader func(context.Context) (V, error)) (Item[V], error) {
	if r, ok := q.fromNear(); ok {
		q.refresh(r, loader)
		return q.cache.item(q, r, false)
	}
	for came := time.Now(); ; {
		item, again, err := q.share(q.join(came), loader)
		if !again {
			return item, err
		}
	}
}

// join returns the part in the call for the key of a caller that came at a time.
func (q *query[V]) join(came time.Time) load.Member[result[V]] {
	m := q.cache.calls.Join(q.key, came)
	if q.cache.core.shared.limit.Covers(q.ctx) {
		m.Hasten()
	}
	return m
}

// share takes part in a call. again says that its outcome is of no use for this caller.
func (q *query[V]) share(
	m load.Member[result[V]], loader func(context.Context) (V, error),
) (item Item[V], again bool, err error) {
	defer m.Leave()
	if m.First {
		q.lead(m.Call, loader)
	}
	return q.await(m, q.softTimer(time.Now()), func() { q.update(m, q.look()) })
}

// lead finds out what is to be done about a key, for all who join the call. If something is to be loaded that is done in the
// background, and so is the rest if the caller gives up and others wait.
func (q *query[V]) lead(call *load.Call[result[V]], loader func(context.Context) (V, error)) {
	handed := false
	defer func() {
		if !handed { // also when a hook of the client, or a codec, panics
			call.Finish(load.Outcome[result[V]]{Abandoned: true})
		}
	}()
	f := q.look()
	unseen := q.gaveUp(f) && call.Shared()
	if !unseen && q.conclude(call, f) {
		q.slide(f.result)
		q.refresh(f.result, loader)
		return
	}
	j := q.job(call, f, loader)
	j.unseen = unseen
	handed = true
	q.cache.core.gate.Go(j.run)
}

// conclude ends the call if nothing is to be loaded.
func (q *query[V]) conclude(call *load.Call[result[V]], f finding[V]) bool {
	switch {
	case f.state == found:
		call.Finish(load.Outcome[result[V]]{Value: f.result, AsOf: f.asOf})
	case f.state == broken:
		call.Finish(load.Outcome[result[V]]{Err: f.err})
	case q.gaveUp(f):
		call.Finish(load.Outcome[result[V]]{Err: f.err, Abandoned: true})
	case q.kept == nil:
		return false
	case failureOfLoad(*q.kept) != nil:
		out := q.failed(f, failureOfLoad(*q.kept))
		if stale, ok := q.staleNear(failureOfLoad(*q.kept)); ok && f.state == unanswered && stale.entry.Kind == entry.Value {
			out.Value, out.Err = stale, nil
		}
		out.Passed = true
		call.Finish(out)
	case f.state == unanswered:
		call.Finish(load.Outcome[result[V]]{Value: q.kept.Value, AsOf: f.asOf, Alone: true})
	default:
		return false
	}
	return true
}

// gaveUp reports whether nothing was found because the caller's context had ended.
func (q *query[V]) gaveUp(f finding[V]) bool { return f.state == unanswered && q.ctx.Err() != nil }

// servesStale reports whether what was found is returned when the loader fails, or takes too long.
func (q *query[V]) servesStale(f finding[V]) bool {
	return f.state == outdated && f.result.entry.Kind == entry.Value && -f.result.left <= q.set.cache.stale
}

// failed is for a load that has no value: all who came before the finding get the stale value in it, if there is one, or else the
// error. Those who came later have to look again.
func (q *query[V]) failed(f finding[V], err error) load.Outcome[result[V]] {
	if q.servesStale(f) {
		return load.Outcome[result[V]]{Value: f.result.withCause(err), AsOf: f.asOf}
	}
	return load.Outcome[result[V]]{Err: err, AsOf: f.asOf}
}

// failureOfLoad returns why the outcome is an error or a stale value, nil if it is neither.
func failureOfLoad[V any](out load.Outcome[result[V]]) error { return cmp.Or(out.Err, out.Value.cause) }

// softTimer returns a timer for WithSoftTimeout of a call that began then, nil if there is none.
func (q *query[V]) softTimer(began time.Time) *time.Timer {
	if q.set.cache.soft <= 0 {
		return nil
	}
	return time.NewTimer(q.set.cache.soft - time.Since(began))
}

// await waits for the end of a call, as long as the caller's context and the soft time-out allow. look, which calls update, looks
// again for a caller that has come later than what it could get instead was found.
func (q *query[V]) await(
	m load.Member[result[V]], timer *time.Timer, look func(),
) (item Item[V], again bool, err error) {
	var soft <-chan time.Time
	if timer != nil {
		defer timer.Stop()
		soft = timer.C
	}
	for looked := false; ; {
		select {
		case <-m.Done():
			return q.outcome(m)
		default:
		}
		select {
		case <-m.Done():
		case <-q.ctx.Done():
			err := q.ended(q.ctx)
			if m.Queued() {
				err = fmt.Errorf("%w: %w", ErrOverloaded, err)
			}
			return Item[V]{Key: q.key}, false, err
		case <-soft:
			stale, late, ok := m.Fallback()
			if ok && late && !looked {
				looked = true
				look()
				stale, late, _ = m.Fallback()
			}
			select {
			case <-m.Done(): // look has found what there is now
				continue
			default:
			}
			if ok && !late {
				item, err := q.cache.item(q, stale.withCause(q.wrap(ErrLoadTimeout)), false)
				return item, false, err
			}
			if m.Queued() {
				return Item[V]{Key: q.key}, false, q.wrap(ErrOverloaded)
			}
			timer.Reset(askAgain) // it may be queued yet
		}
	}
}

// outcome returns what a caller gets of a call that has ended.
func (q *query[V]) outcome(m load.Member[result[V]]) (item Item[V], again bool, err error) {
	out := m.Outcome()
	switch {
	case m.Repeats():
		q.keep(out)
		return item, true, nil
	case out.Err != nil:
		return Item[V]{Key: q.key}, false, out.Err
	default:
		item, err = q.cache.item(q, out.Value, m.First)
		return item, false, err
	}
}

// update makes what was found later known to all who wait for a call.
func (q *query[V]) update(m load.Member[result[V]], f finding[V]) {
	switch {
	case f.state == found:
		m.Finish(load.Outcome[result[V]]{Value: f.result, AsOf: f.asOf})
	case q.servesStale(f):
		m.Offer(f.result, f.asOf)
	}
}

// keep takes note of what came of a load that began before this call, if that may be of use.
func (q *query[V]) keep(out load.Outcome[result[V]]) {
	if out.Abandoned || out.Passed || !out.Alone && failureOfLoad(out) == nil {
		return
	}
	if !q.cache.shares {
		out.Value.value = nil // which is the own one of the first caller
	}
	q.kept = &out
}

// refresh loads a value again in the background if it is not fresh for much longer.
func (q *query[V]) refresh(r result[V], loader func(context.Context) (V, error)) {
	if j := q.earlyJob(r, loader); j != nil {
		q.cache.core.gate.Go(j.run)
	}
}

// earlyJob returns what loads a value again if it is not fresh for much longer, and nobody in this process does so already. It has
// to be run.
func (q *query[V]) earlyJob(r result[V], loader func(context.Context) (V, error)) *job[V] {
	if r.entry.Kind != entry.Value || r.cause != nil || !q.set.isEarly(r.left, r.entry.TTL) {
		return nil
	}
	call, ok := q.cache.refreshes.TryStart(q.key)
	if !ok {
		return nil
	}
	j := q.job(call, finding[V]{}, loader)
	j.known, j.early = r.entry.Version, true
	return j
}
