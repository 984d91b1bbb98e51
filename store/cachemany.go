package store

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/compozy/cache/store/internal/lease"
)

// ManyError says which of several keys have failed, and why. It matches what any of the errors matches.
type ManyError struct {
	// Errs has an error for each key that has failed.
	Errs map[string]error
}

// shownKeys is how many keys the text of a ManyError has.
const shownKeys = 3

// Error names some of the keys.
func (e *ManyError) Error() string {
	keys := e.keys()
	texts := make([]string, 0, shownKeys)
	for _, key := range keys[:min(len(keys), shownKeys)] {
		texts = append(texts, e.Errs[key].Error())
	}
	text := strings.Join(texts, "; ")
	if more := len(keys) - shownKeys; more > 0 {
		text += fmt.Sprintf("; and %d more", more)
	}
	return text
}

// Unwrap returns all errors.
func (e *ManyError) Unwrap() []error {
	errs := make([]error, 0, len(e.Errs))
	for _, key := range e.keys() {
		errs = append(errs, e.Errs[key])
	}
	return errs
}

func (e *ManyError) keys() []string {
	keys := make([]string, 0, len(e.Errs))
	for key := range e.Errs {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// manyError returns a ManyError, or nil if there is no error.
func manyError(errs map[string]error) error {
	if len(errs) == 0 {
		return nil
	}
	return &ManyError{Errs: errs}
}

// many is one call of a Cache about several keys.
type many[V any] struct {
	cache   *Cache[V]
	ctx     context.Context //nolint:containedctx // of the caller, for as long as the call lasts
	set     settings
	span    span
	queries []*query[V] // without repetitions
	values  map[string]V
	errs    map[string]error
	early   []*job[V] // that are to be run
}

// beginMany checks the arguments of a call about several keys and counts it. If there is no error, end must follow.
func (c *Cache[V]) beginMany(ctx context.Context, op string, keys []string, where scope, opts []Option) (*many[V], error) {
	if err := c.usable(ctx); err != nil {
		return nil, err
	}
	if slices.Contains(keys, "") {
		return nil, &ArgumentError{Argument: "keys", Reason: "contains an empty key"}
	}
	set, err := c.options(where, opts)
	if err != nil {
		return nil, err
	}
	m := &many[V]{cache: c, set: set, values: make(map[string]V, len(keys)), errs: make(map[string]error)}
	names := make(map[string]lease.Keys, len(keys))
	for _, key := range keys {
		names[key] = c.names(key) // which calls the function of WithGroup
	}
	if !c.core.gate.Begin() {
		return nil, ErrClosed
	}
	m.ctx, m.span = c.core.tracer.start(ctx, op, c.name)
	for _, key := range keys {
		if k, ok := names[key]; ok {
			m.queries = append(m.queries, &query[V]{subject: subject{c.name, op, key}, cache: c, ctx: m.ctx, keys: k, set: set})
			delete(names, key)
		}
	}
	return m, nil
}

// end counts how the call has ended.
func (m *many[V]) end(err error) {
	m.cache.core.gate.End()
	m.span.finish(outcomeOf(err), err)
}

// add takes note of what was found for a key.
func (m *many[V]) add(q *query[V], item Item[V], err error) {
	switch m.cache.count(item, err) {
	case sourceNone:
	case sourceError:
		m.errs[q.key] = err
	default:
		m.values[q.key] = item.Value
	}
}

// GetMany returns the values of keys, in one round trip, in a Cluster one to each master, or in more where the keys are more than
// 500 or the values large: about 1 MiB at a time, by the sizes that were seen lately. Keys without a value are missing in the
// map. If Redis does not answer, stale values of a near cache are among them, which the map does not show: use [Cache.GetItem]
// where that matters.
//
// If the values of some keys cannot be had, it returns the others, and a [*ManyError] that names those; their errors are as
// those of [Cache.Get]. Other errors match ErrClosed or ErrInvalidArgument. Safe for concurrent use.
func (c *Cache[V]) GetMany(ctx context.Context, keys []string) (_ map[string]V, err error) {
	m, err := c.beginMany(ctx, "get_many", keys, 0, nil)
	if err != nil {
		return nil, err
	}
	defer func() { m.end(err) }()
	err = errPanicked
	for q, f := range c.look(m.ctx, m.set, m.fromNear(nil)) {
		switch f.state {
		case found:
			q.slide(f.result)
			item, err := c.item(q, f.result, true)
			m.add(q, item, err)
		case unanswered:
			if stale, ok := q.staleNear(f.err); ok {
				item, err := c.item(q, stale, false)
				m.add(q, item, err)
				continue
			}
			fallthrough
		case broken:
			m.add(q, Item[V]{}, f.err)
		default:
			m.add(q, Item[V]{}, ErrNotFound)
		}
	}
	return m.values, manyError(m.errs)
}

// fromNear takes what the near cache has, and returns the rest. hit, unless it is nil, is called for each that it takes.
func (m *many[V]) fromNear(hit func(q *query[V], r result[V])) []*query[V] {
	rest := make([]*query[V], 0, len(m.queries))
	for _, q := range m.queries {
		if r, ok := q.fromNear(); ok {
			if hit != nil {
				hit(q, r)
			}
			item, err := m.cache.item(q, r, false)
			m.add(q, item, err)
			continue
		}
		rest = append(rest, q)
	}
	return rest
}

// look reads several keys from Redis.
func (c *Cache[V]) look(ctx context.Context, set settings, queries []*query[V]) map[*query[V]]finding[V] {
	asOf := time.Now()
	all := make([]*looked[V], len(queries))
	for i, q := range queries {
		all[i] = &looked[V]{q: q, mark: q.beginNear()}
	}
	if len(all) > 0 {
		c.read(ctx, set, all)
	}
	findings := make(map[*query[V]]finding[V], len(queries))
	for _, l := range all {
		l.f.asOf = asOf
		findings[l.q] = l.f
	}
	return findings
}
