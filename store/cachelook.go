package store

import (
	"context"
	"errors"
	"time"

	"github.com/compozy/cache/store/internal/entry"
	"github.com/compozy/cache/store/internal/server"
)

// foundState is what a read has found.
type foundState uint8

const (
	missing    foundState = iota
	found                 // fresh, or fresh knowledge that there is nothing
	outdated              // past its TTL
	broken                // something that is none of this Cache
	unanswered            // Redis has not answered, or the caller's context has ended
)

// finding is what a read of a key has found.
type finding[V any] struct {
	state  foundState
	result result[V] // of found and outdated
	err    error     // of broken and unanswered
	asOf   time.Time // after which this was true
}

// look reads the key from Redis.
func (q *query[V]) look() finding[V] {
	mark, asOf := q.cache.beginNear(q.keys.Value), time.Now()
	f := q.found(q.cache.core.shared.read(q.ctx, q.keys.Value), mark)
	f.asOf = asOf
	return f
}

// found makes of the content of the key what it means, and keeps it in the near cache.
func (q *query[V]) found(content server.Content, mark any) finding[V] {
	switch {
	case errors.Is(content.Err, entry.ErrForeign):
		return q.foreign(content.Err)
	case content.Err != nil:
		return finding[V]{state: unanswered, err: failure(q.ctx, q.op, q.key, content.Err)}
	case content.Raw == nil:
		return finding[V]{}
	}
	e, err := entry.Parse(content.Raw)
	if err == nil && e.Kind != entry.Value && e.Kind != entry.Absent {
		err = entry.ErrForeign
	}
	if err != nil {
		return q.foreign(err)
	}
	left, _ := e.LeftAt(content.Now)
	f := finding[V]{state: found, result: result[V]{entry: e, age: e.AgeAt(content.Now), left: left, source: SourceRedis}}
	switch {
	case !e.FreshAt(content.Now):
		f.state = outdated
	case q.cache.shares && e.Kind == entry.Value: // once, for all who wait
		var v V
		if err := q.cache.set.coder.decode(&e, &v); err == nil { // otherwise each finds that by itself
			f.result.value = &v
		}
		fallthrough
	default:
		q.cache.putNear(mark, q.keys.Value, f.result)
	}
	return f
}

// foreign says that something else is stored under the key.
func (q *query[V]) foreign(err error) finding[V] {
	return finding[V]{state: broken, err: keyError(q.op, q.key, codecError{"something else has written it", err})}
}

// slide makes a value last for its full TTL, in the background, if less than half of it is left.
func (q *query[V]) slide(r result[V]) {
	if !q.set.sliding || r.entry.Kind != entry.Value || r.left <= 0 || r.left >= r.entry.TTL/2 {
		return
	}
	core, touch := q.cache.core, server.Touch{
		Key: q.keys.Value, Kind: entry.Value, Codec: q.keys.Codec, TTL: server.KeepTTL, Keep: q.set.cache.stale,
	}
	core.slide(touch.Key, func(ctx context.Context) {
		core.shared.write(ctx, touch.Key, func(ctx context.Context) server.Reply { return core.server.Touch(ctx, touch) })
	})
}

// fromNear returns what the near cache has, if that may be served.
func (q *query[V]) fromNear() (result[V], bool) {
	if q.cache.near == nil {
		return result[V]{}, false
	}
	v, age, ok := q.cache.near.get(q.keys.Value)
	kept, _ := v.(*result[V])
	if !ok || kept == nil {
		return result[V]{}, false
	}
	r := *kept
	r.age, r.left, r.source = r.age+age, max(r.left-age, 0), SourceNear
	return r, true
}

// staleNear returns what the near cache has although it may be stale, if it is no older than WithStale allows.
func (q *query[V]) staleNear(cause error) (result[V], bool) {
	if q.cache.near == nil || q.ctx.Err() != nil {
		return result[V]{}, false
	}
	v, age, over, ok := q.cache.near.stale(q.keys.Value)
	kept, _ := v.(*result[V])
	if !ok || kept == nil || over > 0 && over > q.set.cache.stale {
		return result[V]{}, false
	}
	r := kept.withCause(cause)
	r.age += age
	return r, true
}

// beginNear returns the mark for putNear.
func (c *Cache[V]) beginNear(key string) any {
	if c.near == nil {
		return nil
	}
	return c.near.begin(key)
}

// putNear keeps what was read.
func (c *Cache[V]) putNear(mark any, key string, r result[V]) {
	if c.near != nil && r.left > 0 {
		c.near.put(mark, key, &r, len(r.entry.Payload), r.left)
	}
}
