package near

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"

	"github.com/compozy/cache/internal/arguments"
)

const (
	// DefaultEntries is how many values a cache holds.
	DefaultEntries = 10_000
	// DefaultBytes is how much memory they take.
	DefaultBytes = 64 << 20
	// MinStaleness is the smallest MaxStaleness: three rounds to Redis have to fit.
	MinStaleness = 10 * time.Millisecond

	// overhead is about what a value costs beside its own size and its key.
	overhead = 240
)

// CacheSettings of a Cache.
type CacheSettings struct {
	// Prefix is what all keys of the cache begin with in Redis. It is not empty.
	Prefix string
	// Key returns the key of this Cache for what Redis calls by a name with the Prefix; ok is false if there can be none. It
	// must be quick. The default is that both are the same.
	Key func(name string) (key string, ok bool)
	// Depends are prefixes of other keys that values depend on, such as the epochs of tags, see Cache.Begin.
	Depends []string
	// Entries and Bytes are how much is kept: 0 means DefaultEntries and DefaultBytes. Every value counts as at least
	// Bytes/Entries, so that neither limit is exceeded; where some are larger than that and others smaller, less than
	// either limit is used, in the worst case half.
	Entries int
	Bytes   int64
	// MaxStaleness bounds the age of what Get returns. It is at least MinStaleness.
	MaxStaleness time.Duration
}

func (s *CacheSettings) validate() error {
	for _, check := range [...]struct {
		bad              bool
		argument, reason string
	}{
		{s.Prefix == "", "Prefix", "is empty"},
		{s.Entries < 0, "Entries", "is negative"},
		{s.Bytes < 0, "Bytes", "is negative"},
		{s.MaxStaleness < MinStaleness, "MaxStaleness", fmt.Sprintf("is below %v", MinStaleness)},
	} {
		if check.bad {
			return &arguments.Error{Argument: check.argument, Reason: check.reason}
		}
	}
	if s.Entries == 0 {
		s.Entries = DefaultEntries
	}
	if s.Bytes == 0 {
		s.Bytes = DefaultBytes
	}
	if s.Bytes/int64(s.Entries) >= math.MaxUint32 { // which is more than Redis stores in all of them
		s.Bytes = int64(s.Entries) * math.MaxUint32
	}
	if s.Key == nil {
		s.Key = func(name string) (string, bool) { return name, true }
	}
	return nil
}

// Cache holds values in the process. It is safe for concurrent use. Tracker.NewCache makes one.
type Cache struct {
	set     CacheSettings
	limit   int64 // MaxStaleness
	start   func()
	trust   *trust
	values  *otter.Cache[string, *entry]
	keys    *stripes
	depends *stripes

	dropped, invalidated atomic.Int64
}

// entry is a value, and what decides whether it may be served. It does not change.
type entry struct {
	value  any
	weight uint32
	epoch  uint64 // 0: nothing vouches for it
	read   int64  // instant before Redis was asked
	until  int64  // instant at which it stops being fresh
	on     []dependence
}

// dependence is a counter that must still be the same.
type dependence struct {
	stripe *stripe
	count  uint64
}

// Hit is a value that was found.
type Hit struct {
	Value any
	// Age is how long ago Redis was asked for it.
	Age time.Duration
	// Over is for how long it has not been fresh any more; 0 if it is.
	Over time.Duration
}

// Mark is what a read notes before it asks Redis. The zero Mark is of no use: nothing is put with it.
type Mark struct {
	epoch uint64 // 0: what is read now may not be put, as no changes are heard
	began int64
	count uint64
	on    []dependence
}

// newCache is called with settings that are valid. start begins the tracking on which the cache relies.
func newCache(set CacheSettings, t *trust, start func()) *Cache {
	c := &Cache{
		set: set, limit: int64(set.MaxStaleness), start: start, trust: t, keys: newStripes(), depends: newStripes(),
	}
	c.values = otter.Must(&otter.Options[string, *entry]{
		MaximumWeight: uint64(set.Bytes), //nolint:gosec // is positive
		Weigher:       func(_ string, e *entry) uint32 { return e.weight },
		Logger:        &otter.NoopLogger{},
	})
	return c
}

// Get returns a value that was in Redis at some time within MaxStaleness before the call, and is fresh. It allocates
// nothing.
func (c *Cache) Get(key string) (Hit, bool) {
	e, ok := c.values.GetIfPresent(key)
	if !ok {
		return Hit{}, false
	}
	now, ok := c.trust.serves(e.epoch, c.limit)
	if !ok || now >= e.until || e.outdated() {
		return Hit{}, false
	}
	return Hit{Value: e.value, Age: time.Duration(now - e.read)}, true
}

// Stale returns a value of which nobody knows whether it is still in Redis, fresh or not. It is for when Redis fails; the
// caller decides whether Age and Over will do, and marks it.
func (c *Cache) Stale(key string) (Hit, bool) {
	e, ok := c.values.GetIfPresent(key)
	if !ok || e.outdated() || e.epoch != 0 && e.epoch != c.trust.epoch.Load() {
		return Hit{}, false
	}
	now := c.trust.now()
	return Hit{Value: e.value, Age: time.Duration(now - e.read), Over: time.Duration(max(0, now-e.until))}, true
}

// Begin is called before Redis is asked for a key. depends are further keys, with a prefix of CacheSettings.Depends: the
// value is not served any more once one of these changes.
func (c *Cache) Begin(key string, depends ...string) Mark {
	m := Mark{count: c.keys.of(key).changes.Load()}
	if c.trust.open.Load() {
		m.epoch = c.trust.epoch.Load()
	} else {
		c.start()
	}
	if len(depends) > 0 {
		m.on = c.dependences(depends)
	}
	m.began = c.trust.now()
	return m
}

// Depend adds to a Mark what else the value depends on, of which its reader has learned by now: Redis has to be asked for it
// after that.
func (c *Cache) Depend(m Mark, depends ...string) Mark {
	m.on = append(slices.Clip(m.on), c.dependences(depends)...)
	return m
}

// dependences returns what things are like that a value depends on.
func (c *Cache) dependences(depends []string) []dependence {
	on := make([]dependence, len(depends))
	for i, name := range depends {
		s := c.depends.of(name)
		on[i] = dependence{s, s.changes.Load()}
	}
	return on
}

// Put keeps what was read from Redis after Begin had returned the Mark, unless it has changed since. size is the size of
// the value in bytes, fresh for how long it is fresh, counted from Begin. Put reports whether the value was put.
func (c *Cache) Put(m Mark, key string, value any, size int, fresh time.Duration) bool {
	e := c.entry(key, value, size, m.began, fresh)
	if m.epoch == 0 || e == nil {
		return false
	}
	e.epoch, e.on = m.epoch, m.on
	put := c.keys.of(key).unchanged(m.count, func() bool {
		if c.trust.epoch.Load() != m.epoch || e.outdated() {
			return false
		}
		c.values.Set(key, e)
		return true
	})
	if !put {
		c.dropped.Add(1)
	}
	return put
}

// Keep keeps a value that nothing vouches for, such as one that was loaded while Redis failed, unless a change was heard, or
// Delete called, since Begin had returned the Mark. Only Stale returns it. fresh is counted from now.
func (c *Cache) Keep(m Mark, key string, value any, size int, fresh time.Duration) {
	if e := c.entry(key, value, size, c.trust.now(), fresh); e != nil {
		e.on = m.on
		c.keys.of(key).unchanged(m.count, func() bool {
			if e.outdated() {
				return false
			}
			c.values.Set(key, e)
			return true
		})
	}
}

// Delete removes a value, also one that is being read. Who changes a key calls it before and after, so as not to read
// afterwards what was there before.
func (c *Cache) Delete(key string) {
	c.keys.of(key).changed(func() { c.values.Invalidate(key) })
}

// Changed says that what Redis calls by a name has changed, or is about to: a key, or what values depend on.
func (c *Cache) Changed(name string) {
	if strings.HasPrefix(name, c.set.Prefix) {
		if key, ok := c.set.Key(name); ok {
			c.invalidated.Add(1)
			c.Delete(key)
		}
	}
	for _, prefix := range c.set.Depends {
		if strings.HasPrefix(name, prefix) {
			c.depends.of(name).changed(func() {})
			return
		}
	}
}

// Clear removes all values, also those that are being read.
func (c *Cache) Clear() {
	for i := range c.keys.all {
		c.keys.all[i].changed(func() {})
	}
	c.values.InvalidateAll()
}

// Stats are numbers for metrics.
type Stats struct {
	Entries int   // values in the cache
	Bytes   int64 // about the memory that they take
	// Dropped counts values that were not put because they had changed while they were read.
	Dropped int64
	// Invalidated counts changes of keys that were heard, whether or not there was a value.
	Invalidated int64
}

// Stats returns the present numbers. Every value counts as Bytes/Entries at least.
func (c *Cache) Stats() Stats {
	return Stats{
		Entries: c.values.EstimatedSize(), Bytes: int64(c.values.WeightedSize()), //nolint:gosec // is bounded
		Dropped: c.dropped.Load(), Invalidated: c.invalidated.Load(),
	}
}

// String returns the prefix and no values.
func (c *Cache) String() string {
	if c == nil {
		return "<nil>"
	}
	return "near.Cache(" + c.set.Prefix + ")"
}

// Format writes String, whatever the verb.
func (c *Cache) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, c.String()) }

// entry returns a new one, or nil for what is not kept.
func (c *Cache) entry(key string, value any, size int, began int64, fresh time.Duration) *entry {
	total := int64(max(size, 0)) + int64(len(key)) + overhead
	least := (c.set.Bytes-1)/int64(c.set.Entries) + 1
	weight := max(total, least)
	if fresh <= 0 || total < 0 || weight > min(c.set.Bytes, math.MaxUint32) {
		return nil
	}
	until := int64(math.MaxInt64)
	if left := until - began; int64(fresh) < left {
		until = began + int64(fresh)
	}
	return &entry{value: value, weight: uint32(weight), read: began, until: until}
}

// outdated reports whether something that the value depends on has changed.
func (e *entry) outdated() bool {
	for i := range e.on {
		if on := &e.on[i]; on.stripe.changes.Load() != on.count {
			return true
		}
	}
	return false
}
