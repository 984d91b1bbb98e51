package store

import (
	"context"
	"errors"
	"time"

	"github.com/compozy/cache/store/internal/entry"
	"github.com/compozy/cache/store/internal/near"
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
	mark, asOf := q.beginNear(), time.Now()
	f := q.found(q.cache.core.shared.read(q.ctx, q.keys.Value), mark)
	f.asOf = asOf
	return f
}

// found makes of the content of the key what it means, and keeps it in the near cache.
func (q *query[V]) found(content server.Content, mark near.Mark) finding[V] {
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
		q.putNear(mark, f.result)
	}
	return f
}

// foreign says that something else is stored under the key.
func (q *query[V]) foreign(err error) finding[V] {
	return finding[V]{state: broken, err: keyError(q.op, q.key, codecError{"something else has written it", err})}
}

// slide makes a value last for its full TTL, if less than half of it is left. It does not matter if it fails: the next reader
// tries again.
func (q *query[V]) slide(r result[V]) {
	if !q.set.sliding || r.entry.Kind != entry.Value || r.left <= 0 || r.left >= q.set.ttl/2 {
		return
	}
	q.cache.core.shared.write(q.ctx, q.keys.Value, func(ctx context.Context) server.Reply {
		return q.cache.core.server.Touch(ctx, server.Touch{
			Key: q.keys.Value, Kind: entry.Value, Codec: q.keys.Codec, TTL: q.set.ttl, Least: q.set.ttl / 2, Keep: q.set.cache.stale,
		})
	})
}
