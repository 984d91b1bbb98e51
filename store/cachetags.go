package store

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/compozy/cache/store/internal/entry"
	"github.com/compozy/cache/store/internal/near"
	"github.com/compozy/cache/store/internal/server"
)

const (
	maxTags      = 32
	maxTagLength = 256
)

// WithTags tags values, so that [Cache.InvalidateTag] can make all of them invalid at once: those of [NewCache] all values of
// the Cache, those of a call in addition the ones that it stores. A value can have 32 tags of up to 256 bytes, which may not be
// empty. Each costs a read with each read of the value; those of a value that neither NewCache nor the call names, a round trip
// more. To store tagged values takes a round trip more too. For [NewCache], loads and [Cache.Set].
func WithTags(tags ...string) Option {
	tags = slices.Clone(tags)
	return Option{"WithTags", inCache | inLoad | inSet, func(s *settings) error {
		if err := checkTags("WithTags", tags); err != nil {
			return err
		}
		all := slices.Concat(s.tags, tags)
		slices.Sort(all)
		s.tags = slices.Compact(all)
		return refuse(len(s.tags) > maxTags, "WithTags", fmt.Sprintf("are more than %d", maxTags))
	}}
}

// checkTags refuses tags that cannot be used.
func checkTags(argument string, tags []string) error {
	for _, tag := range tags {
		if tag == "" || len(tag) > maxTagLength {
			return &ArgumentError{Argument: argument, Reason: fmt.Sprintf("has a tag that is empty or longer than %d bytes", maxTagLength)}
		}
	}
	return nil
}

// InvalidateTag makes all values with one of the tags invalid, each tag in one round trip, whatever number of values has it.
// They are as good as deleted: no call of any process that begins later returns one, [WithStale] or not, but for a near cache
// within its maxStaleness or, marked as stale, in a process that cannot reach Redis. What is being loaded at the moment is
// stored in vain. It is no error if no value has the tag.
//
// If Redis has not confirmed it that is an error, and is repeated in the background like a [Cache.Delete]. Errors are as those
// of Delete; the keys of [ManyError.Errs], and the Key of an [UnavailableError], are tags. Safe for concurrent use.
func (c *Cache[V]) InvalidateTag(ctx context.Context, tags ...string) error {
	if err := c.usable(ctx); err != nil {
		return err
	}
	if err := checkTags("tags", tags); err != nil {
		return err
	}
	if len(tags) == 1 {
		return c.invalidate(ctx, tags[0])
	}
	return each(tags, func(tag string) error { return c.invalidate(ctx, tag) })
}

// each calls f for each of some names, many at a time. It returns a ManyError of what f returns.
func each(names []string, f func(name string) error) error {
	errs := make(map[string]error)
	for part := range slices.Chunk(names, parallelDeletes) {
		for i, err := range parallel(len(part), func(i int) error { return f(part[i]) }) {
			if err != nil {
				errs[part[i]] = err
			}
		}
	}
	return manyError(errs)
}

// invalidate makes all values with a tag invalid.
func (c *Cache[V]) invalidate(ctx context.Context, tag string) (err error) {
	q := &query[V]{subject: subject{c.name, "invalidate_tag", tag}, cache: c}
	if !c.core.gate.Begin() {
		return ErrClosed
	}
	q.ctx, q.span = c.core.tracer.start(ctx, q.op, c.name)
	defer func() { q.wrote(err) }()
	err = errPanicked
	name, shared := c.keys.tag(tag), c.core.shared
	if c.near != nil {
		c.near.Changed(name)
		defer c.near.Changed(name)
	}
	q.began = shared.repeats.begin()
	deletes := func(ctx context.Context) server.Reply { return shared.invalidate(ctx, name) }
	reply := deletes(q.ctx)
	c.calls.ForgetAll() // whatever tags they have: those who come now ask Redis who loads
	return q.written(reply, name, deletes)
}

// epochs are those of tags, by tag: an ID, "" for none.
type epochs map[string]string

// String returns the text form that entries have: visible ASCII characters.
func (e epochs) String() string {
	parts := make([]string, 0, len(e))
	for _, tag := range slices.Sorted(maps.Keys(e)) {
		parts = append(parts, url.QueryEscape(tag)+"="+e[tag])
	}
	return strings.Join(parts, ",")
}

// parseEpochs reads the text form. It reports false if that is none.
func parseEpochs(text string) (epochs, bool) {
	if text == "" {
		return nil, true
	}
	e := make(epochs)
	for part := range strings.SplitSeq(text, ",") {
		name, epoch, ok := strings.Cut(part, "=")
		tag, err := url.QueryUnescape(name)
		if !ok || err != nil || tag == "" || epoch == "" {
			return nil, false
		}
		e[tag] = epoch
	}
	return e, true
}

// tagKeys names the keys of tags.
func (c *Cache[V]) tagKeys(tags []string) []string {
	keys := make([]string, len(tags))
	for i, tag := range tags {
		keys[i] = c.keys.tag(tag)
	}
	return keys
}

// epochs returns the text of the epochs that the tags of a value have now, which is to be stored: what the loader reads from
// now on is not older than any that ended before. The error matches ErrCodec, or is one of Redis.
func (q *query[V]) epochs(ctx context.Context) (string, error) {
	if len(q.set.tags) == 0 {
		return "", nil
	}
	lasts := max(q.set.ttl, q.set.cache.negative) + q.set.cache.stale
	found, err := q.cache.core.shared.epochs(ctx, q.cache.tagKeys(q.set.tags), lasts)
	switch {
	case errors.Is(err, entry.ErrForeign):
		return "", q.wrap(codecError{"something else has written the key of a tag", err})
	case err != nil:
		return "", err
	}
	e := make(epochs, len(found))
	for i, tag := range q.set.tags {
		e[tag] = found[i]
	}
	return e.String(), nil
}

// looked is one key that was read.
type looked[V any] struct {
	q    *query[V]
	mark near.Mark // from before
	f    finding[V]
	tags epochs // of the entry
}

// read reads keys, and the tags of set, and returns what it has found. The marks are from before.
func (c *Cache[V]) read(ctx context.Context, set settings, all []*looked[V]) {
	shared, single := c.core.shared, len(all) == 1
	if single && len(set.tags) == 0 { // by far the most frequent
		all[0].f = all[0].q.found(shared.read(ctx, all[0].q.keys.Value, c.sizes))
		c.check(ctx, all, nil)
		return
	}
	keys := make([]string, len(all))
	for i, l := range all {
		keys[i] = l.q.keys.Value
	}
	contents := shared.readMany(ctx, keys, c.tagKeys(set.tags), single, c.sizes)
	for i, l := range all {
		l.f = l.q.found(contents[i])
	}
	known := make(map[string]server.Content)
	for i, tag := range set.tags {
		known[tag] = contents[len(all)+i]
	}
	c.check(ctx, all, known)
}

// check finds out which entries are invalid as the epoch of one of their tags has ended, and keeps the others in the near cache.
// known are tags that were read, after the marks were taken.
func (c *Cache[V]) check(ctx context.Context, all []*looked[V], known map[string]server.Content) {
	unknown := make(map[string]bool)
	for _, l := range all {
		if (l.f.state != found && l.f.state != outdated) || l.f.result.entry.Tags == "" {
			continue
		}
		var ok bool
		if l.tags, ok = parseEpochs(l.f.result.entry.Tags); !ok {
			l.f = l.q.foreign(entry.ErrForeign)
			continue
		}
		for tag := range l.tags {
			if _, ok := known[tag]; ok {
				continue
			}
			unknown[tag] = true
			if c.near != nil {
				l.mark = c.near.Depend(l.mark, c.keys.tag(tag))
			}
		}
	}
	if len(unknown) > 0 {
		known = maps.Clone(known)
		if known == nil {
			known = make(map[string]server.Content)
		}
		tags := slices.Collect(maps.Keys(unknown))
		for i, content := range c.core.shared.readMany(ctx, nil, c.tagKeys(tags), false, nil) {
			known[tags[i]] = content
		}
	}
	for _, l := range all {
		l.compare(known)
		l.q.accept(&l.f, l.mark)
	}
}

// compare makes the finding invalid if the epoch of a tag has ended. It may also have been lost, which looks the same.
func (l *looked[V]) compare(known map[string]server.Content) {
	for tag, epoch := range l.tags {
		switch now := known[tag]; {
		case failureOf(now.Err) != nil:
			l.f = finding[V]{state: unanswered, err: l.q.unavailable(l.q.ctx, now.Err)}
			return
		case string(now.Raw) != epoch:
			l.f.state = invalid
		}
	}
}
