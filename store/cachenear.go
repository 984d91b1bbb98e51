package store

import (
	"context"
	"fmt"
	"time"

	"github.com/compozy/cache/store/internal/entry"
	"github.com/compozy/cache/store/internal/load"
	"github.com/compozy/cache/store/internal/near"
)

// defaultStaleness bounds the age of values in near caches.
const defaultStaleness = time.Second

// nearSettings are those of the near cache of one Cache.
type nearSettings struct {
	entries   int   // 0 for no near cache
	bytes     int64 // 0 for the default
	staleness time.Duration
}

// WithNear keeps values that were read from Redis in the process, so that they can be had again without a round trip: at most
// so many entries, 0 for no near cache, which is the default; 10,000 is a good choice. While Redis answers, what a Cache returns
// from there was in Redis at some time within maxStaleness before the call; 0 stands for 1s, and it must be at least 10ms. When
// Redis fails, a value within its TTL, or beyond it by no more than [WithStale], is returned as stale; [Cache.GetItem] and
// [Cache.GetOrLoadItem] say so. See "Near cache" in the package comment. For [NewCache], and for [New] as the default of all
// Caches of the Store.
func WithNear(entries int, maxStaleness time.Duration) Option {
	err := refuse(entries < 0, "WithNear", "has a negative number of entries")
	if err == nil {
		err = refuse(maxStaleness < 0 || maxStaleness > 0 && maxStaleness < near.MinStaleness, "WithNear",
			fmt.Sprintf("has a maxStaleness below %v", near.MinStaleness))
	}
	return option("WithNear", inNew|inCache, err, func(s *settings) {
		if maxStaleness == 0 {
			maxStaleness = defaultStaleness
		}
		s.store.near.entries, s.store.near.staleness = entries, maxStaleness
	})
}

// WithNearBytes sets how much memory the values of a near cache may take, see [WithNear], overriding the default of 64 MiB. A
// value counts by its encoded size, its key and 240 bytes more, and at least as this divided by the number of entries. It must
// be positive. For [NewCache], and for [New] as the default of all Caches.
func WithNearBytes(bytes int64) Option {
	return option("WithNearBytes", inNew|inCache, refuse(bytes <= 0, "WithNearBytes", "is not positive"),
		func(s *settings) { s.store.near.bytes = bytes })
}

// newNear returns the near cache of a Cache, nil if it is to have none.
func (c *core) newNear(name string, keys keyspace, set nearSettings) (*near.Cache, error) {
	if set.entries == 0 {
		return nil, nil //nolint:nilnil // none is no error
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gate.Closed() {
		return nil, ErrClosed
	}
	if c.tracker == nil {
		tracker, err := near.New(near.Settings{
			Client: c.client, Channel: near.Channel(c.set.prefix), Logger: c.set.logger,
		})
		if err != nil {
			return nil, &ArgumentError{Argument: "WithNear", Reason: "needs a client that is, or wraps, a *redis.Client or a " +
				"*redis.ClusterClient"}
		}
		c.tracker = tracker
	}
	made := near.CacheSettings{
		Prefix: keys.values, Depends: []string{keys.tags}, Entries: set.entries, Bytes: set.bytes, MaxStaleness: set.staleness,
	}
	if keys.group == nil {
		made.Key = keys.key
	}
	n, err := c.tracker.NewCache(made)
	if err != nil {
		return nil, err
	}
	c.metrics.cache.near.add(name, c.tracker, n)
	return n, nil
}

// closeTracker ends what tells near caches of changes.
func (c *core) closeTracker(ctx context.Context) error {
	c.mu.Lock()
	tracker := c.tracker // no other one comes after close of the gate
	c.mu.Unlock()
	if tracker == nil {
		return nil
	}
	return tracker.Close(ctx)
}

// nearKey returns what the near cache calls the key: as the callers do, so that a hit need not make up a name, unless
// WithGroup's function would have to be called to find that out from the name.
func (q *query[V]) nearKey() string {
	if q.cache.keys.group != nil {
		return q.keys.Value
	}
	return q.key
}

// nearHit is a call that finds a value in the near cache which callers may share. It allocates nothing; all other calls
// take the longer way. loads says that the value may have to be loaded again early.
func (c *Cache[V]) nearHit(ctx context.Context, key string, loads bool) (item Item[V], ok bool) {
	if c == nil || c.near == nil || !c.shares || c.keys.group != nil || c.core.tracer.Tracer != nil ||
		ctx == nil || c.core.gate.Closed() {
		return item, false
	}
	hit, ok := c.near.Get(key)
	if !ok {
		return item, false
	}
	r, _ := hit.Value.(*result[V])
	if r == nil || r.value == nil || loads && c.set.isEarly(r.left-hit.Age, r.entry.TTL) {
		return item, false
	}
	c.counts.near.Inc()
	return Item[V]{
		Key: key, Value: c.copied(r.value), Version: Version(r.entry.Version), Source: SourceNear, Age: r.age + hit.Age,
	}, true
}

// copied returns a value that callers share, or a copy of it.
func (c *Cache[V]) copied(v *V) V {
	if c.clone != nil {
		return c.clone(*v)
	}
	return *v
}

// fromNear returns what the near cache has, if that may be served.
func (q *query[V]) fromNear() (result[V], bool) {
	if q.cache.near == nil {
		return result[V]{}, false
	}
	hit, ok := q.cache.near.Get(q.nearKey())
	kept, _ := hit.Value.(*result[V])
	if !ok || kept == nil {
		return result[V]{}, false
	}
	r := *kept
	r.age, r.left, r.source = r.age+hit.Age, max(r.left-hit.Age, 0), SourceNear
	return r, true
}

// staleNear returns what the near cache has although it may be stale, if it is no older than WithStale allows.
func (q *query[V]) staleNear(cause error) (result[V], bool) {
	if q.cache.near == nil || q.ctx.Err() != nil {
		return result[V]{}, false
	}
	hit, ok := q.cache.near.Stale(q.nearKey())
	kept, _ := hit.Value.(*result[V])
	if !ok || kept == nil {
		return result[V]{}, false
	}
	limit := q.set.cache.stale
	if kept.entry.Kind == entry.Absent {
		limit = 0 // that there is no value is never stale
	}
	if hit.Over > limit {
		return result[V]{}, false
	}
	r := kept.withCause(cause)
	r.age += hit.Age
	r.over = r.alone && hit.Over > 0
	return r, true
}

// beginNear returns the mark for putNear and keepNear.
func (q *query[V]) beginNear() near.Mark {
	if q.cache.near == nil {
		return near.Mark{}
	}
	return q.cache.near.Begin(q.nearKey(), q.cache.tagKeys(q.set.tags)...)
}

// putNear keeps what was read.
func (q *query[V]) putNear(mark near.Mark, r result[V]) {
	if q.cache.near == nil || r.left <= 0 {
		return
	}
	fresh := r.left
	if q.set.sliding && r.entry.Kind == entry.Value {
		fresh -= r.entry.TTL / 2 // so that Redis is asked when the value has to be made to last
	}
	size := plainSize(&r.entry) // about that of a decoded value too
	if r.value != nil {
		r.entry.Payload = nil
	}
	q.cache.near.Put(mark, q.nearKey(), &r, size, fresh)
}

// keepNear keeps what was loaded without Redis in the near cache for a while. Who came after the load had begun may know that
// somebody has replaced the value meanwhile, as it may be this process alone that has no answer. So such callers ask Redis
// once, and take the value only if there is still no answer: a loader that runs again for each of them would be the worse evil.
func (j *job[V]) keepNear(out load.Outcome[result[V]]) load.Outcome[result[V]] {
	if j.cache.near != nil && out.Err == nil && out.Value.cause == nil {
		kept := out.Value
		kept.alone = true
		size := plainSize(&kept.entry)
		if j.cache.shares {
			kept.entry.Payload = nil
		} else {
			kept.value = nil // which is the caller's own
		}
		j.cache.near.Keep(j.mark, j.nearKey(), &kept, size, keptAlone)
	}
	out.Alone = true
	return out
}

// removeNear removes the key from the near cache.
func (q *query[V]) removeNear() {
	if q.cache.near != nil {
		q.cache.near.Delete(q.nearKey())
	}
}
