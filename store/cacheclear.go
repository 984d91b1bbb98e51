package store

import (
	"context"
	"slices"
	"strings"

	"github.com/compozy/cache/store/internal/lease"
	"github.com/compozy/cache/store/internal/server"
)

// Clear deletes all values of the Cache. What somebody loads at the moment is not stored after that, and no value that was there
// when Clear was called is there when it returns. Values that are stored meanwhile may stay or not.
//
// It looks at all keys in Redis twice, in small steps that do not hold up others, so use it rarely: a tag that all values have
// is invalidated in one round trip. Where a slot moves to another master of a Cluster meanwhile, values in it may be missed. What
// something else has written stays. The error is that of [Cache.Delete] without repetition: call Clear again. Safe for concurrent
// use.
func (c *Cache[V]) Clear(ctx context.Context) (err error) {
	if err := c.usable(ctx); err != nil {
		return err
	}
	q := &query[V]{subject: subject{name: c.name, op: "clear"}, cache: c}
	if !c.core.gate.Begin() {
		return ErrClosed
	}
	q.ctx, q.span = c.core.tracer.start(ctx, q.op, c.name)
	defer func() { q.wrote(err) }()
	err = errPanicked
	defer c.calls.ForgetAll()
	if c.near != nil {
		c.near.Clear()
		defer c.near.Clear()
	}
	// Leases first: what was being loaded when Clear was called is stored by the time they have been revoked, or never. So it is
	// there when the search for values begins, and is found.
	for _, kind := range []string{c.keys.leases, c.keys.values} {
		if err := q.clear(kind); err != nil {
			return err
		}
	}
	return nil
}

// clear deletes the values, and revokes the leases, of which either has a name that begins so.
func (q *query[V]) clear(kind string) error {
	keys := q.cache.keys
	for page, err := range q.cache.core.server.Scan(q.ctx, server.Escape(kind)+"{*", q.cache.set.store.timeout) {
		if err != nil {
			return q.unavailable(q.ctx, err)
		}
		for part := range slices.Chunk(page, parallelDeletes) {
			for _, err := range parallel(len(part), func(i int) error {
				rest := strings.TrimPrefix(part[i], kind)
				r := q.cache.core.shared.drop(q.ctx, lease.Keys{
					Value: keys.values + rest, Lease: keys.leases + rest, Codec: q.cache.set.coder.codec.Letter(),
				}, q.cache.set.cache.holdOff)
				if r.Outcome != server.Written && r.Outcome != server.Foreign {
					return r.Err
				}
				return nil
			}) {
				if err != nil {
					return q.unavailable(q.ctx, err)
				}
			}
		}
	}
	return nil
}
