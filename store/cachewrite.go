package store

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/compozy/cache/store/internal/entry"
	"github.com/compozy/cache/store/internal/server"
)

// Set stores a value, whatever was there before, in one round trip, or two if it has tags. What somebody loads at the moment is
// not stored after that. It begins a new TTL. A value that is too large, or cannot be encoded, changes nothing: what was there
// before stays, and [Cache.Delete] removes it.
//
// Options: [WithTTL], [WithJitter], [WithStale], [WithTags]. The error matches ErrTooLarge; ErrCodec if the value cannot be
// encoded, or something else is stored under the key, or that of a tag; ErrUnavailable, ErrUncertain, ErrClosed,
// ErrInvalidArgument, or is the error of ctx. If Redis has not confirmed the write, what is stored is taken to be outdated, and
// deleted as soon as Redis answers. Safe for concurrent use.
func (c *Cache[V]) Set(ctx context.Context, key string, v V, opts ...Option) (err error) {
	q, err := c.begin(ctx, "set", key, inSet, opts)
	if err != nil {
		return err
	}
	defer func() { q.wrote(err) }()
	err = errPanicked
	e, err := c.set.coder.encode(v)
	if err != nil {
		if errors.Is(err, ErrTooLarge) {
			c.counts.oversize.Inc()
		}
		return q.wrap(err)
	}
	c.sizes.saw(len(e.payload))
	q.began = c.core.shared.repeats.begin()
	q.removeNear() // what is read from now on may be the new value
	tags, err := q.epochs(q.ctx)
	switch {
	case errors.Is(err, ErrCodec):
		return err
	case err != nil:
		return q.replaced(server.Reply{Err: err})
	}
	return q.replaced(c.core.shared.put(q.ctx, server.Put{
		Key: q.keys.Value, Lease: q.keys.Lease, Kind: entry.Value, Codec: e.codec, Compression: e.compression,
		Payload: e.payload, Write: entry.NewID(), Version: server.Any, TTL: q.set.lifetime(), Keep: q.set.cache.stale,
		Tags: tags,
	}))
}

// Delete deletes the values of keys, each in one round trip, many together. What somebody loads at the moment is not stored
// after that. It is no error if there is nothing.
//
// If Redis has not confirmed a delete, it is an error, and the delete is repeated in the background until Redis answers, or
// the Store is closed, for up to 10,000 keys. The error matches ErrCodec if something else is stored under the key;
// ErrUnavailable, ErrUncertain, ErrClosed, ErrInvalidArgument, or is the error of ctx. For several keys it is a [*ManyError]
// that names those which may not be deleted. Safe for concurrent use.
func (c *Cache[V]) Delete(ctx context.Context, keys ...string) error {
	if err := c.usable(ctx); err != nil {
		return err
	}
	if slices.Contains(keys, "") {
		return checkKey("")
	}
	if len(keys) == 1 {
		return c.delete(ctx, keys[0])
	}
	return each(keys, func(key string) error { return c.delete(ctx, key) })
}

// delete deletes one value.
func (c *Cache[V]) delete(ctx context.Context, key string) (err error) {
	q, err := c.begin(ctx, "delete", key, 0, nil)
	if err != nil {
		return err
	}
	defer func() { q.wrote(err) }()
	err = errPanicked
	q.began = c.core.shared.repeats.begin()
	q.removeNear()
	return q.replaced(c.core.shared.drop(q.ctx, q.keys, q.set.cache.holdOff))
}

// replaced is what the caller learns of a write to its key. Calls of this process that read the key from now on do not get what
// was there before.
func (q *query[V]) replaced(r server.Reply) error {
	q.cache.calls.Forget(q.key)
	q.removeNear()
	keys, shared, holdOff := q.keys, q.cache.core.shared, q.set.cache.holdOff
	return q.written(r, keys.Value, func(ctx context.Context) server.Reply { return shared.drop(ctx, keys, holdOff) })
}

// written is what the caller learns of a write to what Redis calls by a name, which deletes has deleted later if it must.
func (q *query[V]) written(r server.Reply, name string, deletes func(ctx context.Context) server.Reply) error {
	repeats := q.cache.core.shared.repeats
	switch r.Outcome {
	case server.Written:
		repeats.remove(name, q.began)
		return nil
	case server.Foreign:
		err := q.foreign(entry.ErrForeign).err
		if r.Repeated {
			err = fmt.Errorf("%w: %w", ErrUncertain, err)
		}
		return err
	case server.Uncertain:
		repeats.add(name, deletes)
		if r.Err == nil {
			return q.wrap(ErrUncertain)
		}
		return fmt.Errorf("%w: %w", ErrUncertain, q.unavailable(q.ctx, r.Err))
	default:
		repeats.add(name, deletes)
		return q.unavailable(q.ctx, r.Err)
	}
}

// wrote counts a write.
func (q *query[V]) wrote(err error) {
	q.cache.core.gate.End()
	outcome := outcomeOf(err)
	q.cache.core.metrics.cache.writes.WithLabelValues(q.cache.name, q.op, outcome).Inc()
	q.span.finish(outcome, err)
}
