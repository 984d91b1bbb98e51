package store

import (
	"context"
	"errors"
	"maps"
	"slices"
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
	invalid               // one of its tags was invalidated
	broken                // something that is none of this Cache
	unanswered            // Redis has not answered, or the caller's context has ended
)

// finding is what a read of a key has found.
type finding[V any] struct {
	state  foundState
	result result[V] // of found, outdated and invalid
	err    error     // of broken and unanswered
	asOf   time.Time // after which this was true
}

// look reads the key from Redis.
func (q *query[V]) look() finding[V] {
	asOf := time.Now()
	l := &looked[V]{q: q, mark: q.beginNear()}
	q.cache.read(q.ctx, q.set, []*looked[V]{l})
	l.f.asOf = asOf
	return l.f
}

// found makes of the content of the key what it means, whatever tags it has.
func (q *query[V]) found(content server.Content) finding[V] {
	switch {
	case errors.Is(content.Err, entry.ErrForeign):
		return q.foreign(content.Err)
	case content.Err != nil:
		return finding[V]{state: unanswered, err: q.unavailable(q.ctx, content.Err)}
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
	if !e.FreshAt(content.Now) {
		f.state = outdated
	}
	return f
}

// accept keeps what was found in the near cache.
func (q *query[V]) accept(f *finding[V], mark near.Mark) {
	if f.state != found {
		return
	}
	if q.cache.shares && f.result.entry.Kind == entry.Value { // once, for all who wait
		var v V
		if err := q.cache.set.coder.decode(&f.result.entry, &v); err == nil { // otherwise each finds that by itself
			f.result.value = &v
		}
	}
	q.putNear(mark, f.result)
}

// foreign says that something else is stored under the key.
func (q *query[V]) foreign(err error) finding[V] {
	return finding[V]{state: broken, err: q.wrap(codecError{"something else has written it", err})}
}

// slide makes a value last for its full TTL, in the background, if less than half of it is left, and be kept beyond that for as
// long as whoever stored it wanted.
func (q *query[V]) slide(r result[V]) {
	if !q.set.sliding || r.entry.Kind != entry.Value || r.left <= 0 || r.left >= r.entry.TTL/2 {
		return
	}
	core, touch := q.cache.core, server.Touch{
		Key: q.keys.Value, Kind: entry.Value, Codec: q.keys.Codec, TTL: server.KeepTTL, Keep: server.KeepTTL,
	}
	var tags []string // whose epochs have to last for as long
	if epochs, ok := parseEpochs(r.entry.Tags); ok && len(epochs) > 0 {
		tags = q.cache.tagKeys(slices.Collect(maps.Keys(epochs)))
	}
	core.slide(touch.Key, func(ctx context.Context) {
		reply := core.shared.write(ctx, touch.Key, func(ctx context.Context) server.Reply { return core.server.Touch(ctx, touch) })
		if reply.Outcome == server.Written && len(tags) > 0 {
			_, _ = core.shared.epochs(ctx, tags, r.entry.TTL+reply.Keep)
		}
	})
}
