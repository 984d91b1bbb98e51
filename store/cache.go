package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"reflect"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/compozy/cache/store/internal/entry"
	"github.com/compozy/cache/store/internal/lease"
	"github.com/compozy/cache/store/internal/load"
	"github.com/compozy/cache/store/internal/near"
)

// Cache keeps values of type V that can be loaded again, by key. It is safe for concurrent use. Make one with [NewCache].
//
// What a call returns is the caller's own, unless [WithShared] is given.
type Cache[V any] struct {
	core *core // nil if NewCache did not make it
	name string
	keys keyspace
	set  settings
	// calls are the loads that callers share, refreshes those in the background.
	calls, refreshes *load.Group[result[V]]
	near             *near.Cache // nil for none
	shares           bool        // callers get the same value, or copies that clone makes
	clone            func(V) V   // nil for none
	sizes            *valueSizes
	counts           counts
}

// counts are the metrics of one Cache.
type counts struct {
	requests          map[Source]prometheus.Counter
	near              prometheus.Counter // of requests
	waits             prometheus.Counter
	refused, unfilled prometheus.Counter
	oversize          prometheus.Counter
	seconds           prometheus.Observer
}

// NewCache makes a Cache on a Store. All processes that use the same name, on the same Redis and with the same key prefix,
// share the values. The name appears in the names of keys, and as a label of metrics; it may not be empty, that of a State of
// the Store, or contain control characters, invalid UTF-8 or any of :{}*?[]\
//
// Keys may be any strings that are not empty.
//
// It returns an error matching ErrInvalidArgument if an argument cannot be used, and ErrClosed after Close of the Store.
func NewCache[V any](s *Store, name string, opts ...Option) (_ *Cache[V], err error) {
	if err := s.ready(); err != nil {
		return nil, err
	}
	set := defaults()
	set.store = s.set
	if err := set.apply(inCache, opts); err != nil {
		return nil, err
	}
	if set.ttl == 0 {
		set.ttl = defaultCacheTTL
	}
	set.coder = set.coder.forType(reflect.TypeFor[V]())
	clone, ok := set.cache.clone.(func(V) V)
	if set.cache.clone != nil && !ok {
		return nil, &ArgumentError{Argument: "WithClone", Reason: fmt.Sprintf("is for another type than %v", reflect.TypeFor[V]())}
	}
	if err := s.register(name, "Cache"); err != nil {
		return nil, err
	}
	m := &s.metrics.cache
	c := &Cache[V]{
		core: s.core, name: name, keys: newKeyspace(set.store.prefix, name, set.group), set: set,
		calls: new(load.Group[result[V]]), refreshes: new(load.Group[result[V]]),
		shares: set.cache.sharedValues || clone != nil || isFlat(reflect.TypeFor[V]()), clone: clone, sizes: new(valueSizes),
		counts: counts{
			requests: make(map[Source]prometheus.Counter), waits: m.waits.WithLabelValues(name),
			refused: m.refused.WithLabelValues(name), unfilled: m.unfilled.WithLabelValues(name),
			oversize: s.metrics.oversize.WithLabelValues(name),
			seconds:  m.seconds.WithLabelValues(name),
		},
	}
	for _, source := range []Source{SourceNear, SourceRedis, SourceLoaded, SourceStale, sourceNone, sourceError} {
		c.counts.requests[source] = m.requests.WithLabelValues(name, string(source))
	}
	c.counts.near = c.counts.requests[SourceNear]
	if c.near, err = s.newNear(name, c.keys, set.store.near); err != nil {
		return nil, err
	}
	return c, nil
}

// isFlat reports whether copies of a value of this type share nothing that can be changed.
func isFlat(t reflect.Type) bool {
	if t == reflect.TypeFor[time.Time]() { // which points to a location that nobody changes
		return true
	}
	switch t.Kind() {
	case reflect.Array:
		return isFlat(t.Elem())
	case reflect.Struct:
		for f := range t.Fields() {
			if !isFlat(f.Type) {
				return false
			}
		}
		return true
	case reflect.Chan, reflect.Func, reflect.Interface, reflect.Map, reflect.Pointer, reflect.Slice, reflect.UnsafePointer:
		return false
	default:
		return true
	}
}

// result is what is known of a key. It does not change once others have it.
type result[V any] struct {
	// entry is what is stored, or would be: a value, or that there is none. Its version is 0 if it is not stored.
	entry  entry.Entry
	age    time.Duration
	left   time.Duration // for which it is fresh; 0 if that is not known
	source Source
	cause  error // why it is returned although it is stale
	value  *V    // decoded, or as it was loaded
	large  bool  // too large to be stored
	alone  bool  // from the near cache, which has it although it was loaded without Redis
	over   bool  // and that is longer ago than keptAlone
}

// withCause returns a stale result.
func (r result[V]) withCause(cause error) result[V] {
	r.cause, r.source = cause, SourceStale
	return r
}

// query is one call of a Cache about one key.
type query[V any] struct {
	subject

	cache *Cache[V]
	ctx   context.Context //nolint:containedctx // of the caller, for as long as the call lasts
	keys  lease.Keys
	set   settings // with the options of the call
	span  span
	// kept is what came of a load that began before this call: a failure, which stands unless Redis has a value meanwhile, or what
	// was loaded without Redis, which is good enough if that still does not answer.
	kept  *load.Outcome[result[V]]
	began uint64 // of a write, for repeats
}

// usable returns why no call with this context can succeed, if that is so.
func (c *Cache[V]) usable(ctx context.Context) error {
	switch {
	case c == nil || c.core == nil:
		return &ArgumentError{Argument: "Cache", Reason: "is nil or zero; NewCache makes one"}
	case ctx == nil:
		return &ArgumentError{Argument: "ctx", Reason: "is nil"}
	}
	return nil
}

// options returns the settings of a call.
func (c *Cache[V]) options(where scope, opts []Option) (settings, error) {
	set := c.set
	if err := set.apply(where, opts); err != nil {
		return set, err
	}
	if set.ttl == 0 {
		set.ttl = c.set.ttl
	}
	return set, nil
}

// names returns the keys in Redis.
func (c *Cache[V]) names(key string) lease.Keys {
	return lease.Keys{Value: c.keys.value(key), Lease: c.keys.lease(key), Codec: c.set.coder.codec.Letter()}
}

// begin checks the arguments of a call about one key and counts it. If there is no error, end must follow.
func (c *Cache[V]) begin(ctx context.Context, op, key string, where scope, opts []Option) (*query[V], error) {
	if err := c.usable(ctx); err != nil {
		return nil, err
	}
	if err := checkKey(key); err != nil {
		return nil, err
	}
	set, err := c.options(where, opts)
	if err != nil {
		return nil, err
	}
	q := &query[V]{subject: subject{c.name, op, key}, cache: c, keys: c.names(key), set: set} // which calls the function of WithGroup
	if !c.core.gate.Begin() {
		return nil, ErrClosed
	}
	q.ctx, q.span = c.core.tracer.start(ctx, op, c.name)
	return q, nil
}

// end counts how a call has ended that returns an item.
func (q *query[V]) end(item Item[V], err error) {
	q.cache.core.gate.End()
	q.span.finish(string(q.cache.count(item, err)), err)
}

// count counts an item that a call returns.
func (c *Cache[V]) count(item Item[V], err error) Source {
	source := item.Source
	switch {
	case errors.Is(err, ErrNotFound):
		source = sourceNone
	case err != nil:
		source = sourceError
	case item.Stale:
		c.core.metrics.cache.stale.WithLabelValues(c.name, causeOf(item.Cause)).Inc()
	}
	c.counts.requests[source].Inc()
	return source
}

// Get returns the value of a key, in one round trip. A stale one is returned only if Redis does not answer and a near cache has
// it; [Cache.GetItem] says so.
//
// The error matches ErrNotFound if there is no value, or it is known that there is none; ErrCodec if what is there is none of
// this Cache; ErrTooLarge, ErrUnavailable, ErrClosed, ErrInvalidArgument, or is the error of ctx. Safe for concurrent use.
func (c *Cache[V]) Get(ctx context.Context, key string) (V, error) {
	item, err := c.GetItem(ctx, key)
	return item.Value, err
}

// GetItem is Get with what is known of the value. If it is known that there is none, the item has the Version and Age of that
// knowledge, beside an error matching ErrNotFound.
func (c *Cache[V]) GetItem(ctx context.Context, key string) (item Item[V], err error) {
	if item, ok := c.nearHit(ctx, key, false); ok {
		return item, nil
	}
	q, err := c.begin(ctx, "get", key, 0, nil)
	if err != nil {
		return Item[V]{}, err
	}
	defer func() { q.end(item, err) }()
	err = errPanicked
	if r, ok := q.fromNear(); ok {
		return c.item(q, r, false)
	}
	f := q.look()
	switch f.state {
	case found:
		q.slide(f.result)
		return c.item(q, f.result, true)
	case unanswered:
		if stale, ok := q.staleNear(f.err); ok {
			return c.item(q, stale, false)
		}
		return Item[V]{Key: key}, f.err
	case broken:
		return Item[V]{Key: key}, f.err
	default:
		return Item[V]{Key: key, Source: SourceRedis}, q.wrap(ErrNotFound)
	}
}

// item makes of a result what a caller gets. own says that nobody else has the value that the result may contain.
func (c *Cache[V]) item(q *query[V], r result[V], own bool) (Item[V], error) {
	item := Item[V]{
		Key: q.key, Version: Version(r.entry.Version), Source: r.source, Age: r.age, Stale: r.cause != nil, Cause: r.cause,
	}
	switch {
	case r.entry.Kind == entry.Absent:
		return item, q.wrap(ErrNotFound)
	case r.value != nil && (own || c.shares):
		item.Value = c.copied(r.value)
		return item, nil
	}
	coder := c.set.coder
	if r.large {
		coder.maxSize = largestSize
	}
	if err := coder.decode(&r.entry, &item.Value); err != nil {
		if errors.Is(err, ErrTooLarge) {
			c.counts.oversize.Inc()
		}
		return Item[V]{Key: q.key}, q.wrap(err)
	}
	return item, nil
}

// String names the Cache for fmt. Safe for concurrent use.
func (c *Cache[V]) String() string {
	if c == nil || c.core == nil {
		return "cache that was never made"
	}
	return fmt.Sprintf("cache %q", c.name)
}

// Format writes String, whatever the verb.
func (c *Cache[V]) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, c.String()) }
