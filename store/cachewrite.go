package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/compozy/cache/store/internal/entry"
	"github.com/compozy/cache/store/internal/server"
)

// Set stores a value, in one round trip, whatever was there before. What somebody loads at the moment is not stored after
// that. It begins a new TTL.
//
// Options: [WithTTL], [WithJitter], [WithStale]. The error matches ErrTooLarge; ErrCodec if the value cannot be encoded, or
// something else is stored under the key; ErrUnavailable, ErrUncertain, ErrClosed, ErrInvalidArgument, or is the error of
// ctx. If Redis has not confirmed the write, what is stored is taken to be outdated, and deleted as soon as Redis answers.
// Safe for concurrent use.
func (c *Cache[V]) Set(ctx context.Context, key string, v V, opts ...Option) (err error) {
	q, err := c.begin(ctx, "set", key, inSet, opts)
	if err != nil {
		return err
	}
	defer func() { q.wrote(err) }()
	e, err := c.set.coder.encode(v)
	if err != nil {
		if errors.Is(err, ErrTooLarge) {
			c.counts.oversize.Inc()
		}
		return keyError(q.op, key, err)
	}
	q.removeNear() // what is read from now on may be the new value
	return q.written(c.core.shared.put(q.ctx, server.Put{
		Key: q.keys.Value, Lease: q.keys.Lease, Kind: entry.Value, Codec: e.codec, Compression: e.compression,
		Payload: e.payload, Write: server.NewWrite(), Version: server.Any, TTL: q.set.lifetime(), Keep: q.set.cache.stale,
	}))
}

// Delete deletes the values of keys, each in one round trip, many together. What somebody loads at the moment is not stored
// after that. It is no error if there is nothing.
//
// If Redis has not confirmed a delete, it is an error, and the delete is repeated in the background until Redis answers, or
// the Store is closed, for up to 10,000 keys. The error is as that of [Cache.Set]; for several keys it is a [*ManyError] that
// names those which may not be deleted. Safe for concurrent use.
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
	var mu sync.Mutex // guards errs
	errs := make(map[string]error)
	for part := range slices.Chunk(keys, parallelDeletes) {
		var all sync.WaitGroup
		for _, key := range part {
			all.Go(func() {
				if err := c.delete(ctx, key); err != nil {
					mu.Lock()
					defer mu.Unlock()
					errs[key] = err
				}
			})
		}
		all.Wait()
	}
	return manyError(errs)
}

// delete deletes one value.
func (c *Cache[V]) delete(ctx context.Context, key string) (err error) {
	q, err := c.begin(ctx, "delete", key, 0, nil)
	if err != nil {
		return err
	}
	defer func() { q.wrote(err) }()
	q.removeNear()
	return q.written(c.core.shared.drop(q.ctx, q.keys))
}

// written is what the caller learns of a write. Who reads the key from now on in this process does not get what was there
// before.
func (q *query[V]) written(r server.Reply) error {
	q.cache.calls.Forget(q.key)
	q.removeNear()
	repeats := q.cache.core.shared.repeats
	switch r.Outcome {
	case server.Written:
		repeats.remove(q.keys)
		return nil
	case server.Foreign:
		return q.foreign(entry.ErrForeign).err
	case server.Uncertain:
		repeats.add(q.keys)
		if r.Err == nil {
			return keyError(q.op, q.key, ErrUncertain)
		}
		return fmt.Errorf("%w: %w", ErrUncertain, failure(q.ctx, q.op, q.key, r.Err))
	default:
		repeats.add(q.keys)
		return failure(q.ctx, q.op, q.key, r.Err)
	}
}

// wrote counts a write.
func (q *query[V]) wrote(err error) {
	q.cache.core.gate.leave()
	outcome := outcomeOf(err)
	q.cache.core.metrics.cache.writes.WithLabelValues(q.cache.name, q.op, outcome).Inc()
	q.span.finish(outcome, err)
}
