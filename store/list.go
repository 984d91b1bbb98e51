package store

import (
	"context"
	"errors"
	"iter"
	"strings"

	"github.com/compozy/cache/store/internal/server"
)

// List yields the items whose keys begin with prefix, all for "", in no order. It asks each master for some 500 keys at a
// time and then reads their values, up to 4 MiB at a time, so that neither it nor Redis needs more memory however many
// there are. Each of these steps may take as long as [WithStateTimeout] says.
//
// It is no snapshot: each value is one that its key had while List ran. An item that exists from begin to end comes at
// least once, unless slots of a Cluster move meanwhile; one that is created or deleted meanwhile may come or not; while
// Redis resizes its table of keys an item may come twice. When a server is restarted or a replica takes over meanwhile the
// rest cannot be found: List ends with an error matching ErrUnavailable. To notice that it needs the permission for INFO.
//
// An item that cannot be read comes with an error matching ErrCodec or ErrTooLarge, and its Key; List goes on after it. Any
// other error, as those of [State.Get], comes with an item without Key and is the last thing that List yields. Each use of
// what List returns starts over. Safe for concurrent use.
func (st *State[V]) List(ctx context.Context, prefix string) iter.Seq2[Item[V], error] {
	return func(yield func(Item[V], error) bool) {
		if err := st.usable(ctx); err != nil {
			yield(Item[V]{}, err)
			return
		}
		l := &listing[V]{state: st, ctx: ctx, yield: yield, prefix: prefix}
		if !st.core.gate.Begin() {
			yield(Item[V]{}, ErrClosed)
			return
		}
		l.entered = true
		var end span
		l.ctx, end = st.core.tracer.start(ctx, "list", st.name)
		defer func() {
			if l.entered {
				st.core.gate.End()
			}
			outcome := outcomeOf(l.failed)
			st.core.metrics.stateCalls.WithLabelValues(st.name, "list", outcome).Inc()
			end.finish(outcome, l.failed)
		}()
		l.failed = errPanicked
		if l.failed = l.run(); l.failed != nil {
			l.entered = false
			st.core.gate.End()
			yield(Item[V]{}, l.failed)
		}
	}
}

// listing is one use of what List returns.
type listing[V any] struct {
	state   *State[V]
	ctx     context.Context //nolint:containedctx // of the caller, for as long as the listing lasts
	prefix  string
	yield   func(Item[V], error) bool
	entered bool // the gate counts this listing
	failed  error
}

// about returns what an error is about.
func (l *listing[V]) about(key string) subject { return subject{l.state.name, "list", key} }

// errStopped ends a listing that needs no more words.
var errStopped = errors.New("stopped")

// run yields all items. It returns what ended it, nil if nothing did but the caller.
func (l *listing[V]) run() error {
	pattern, step := l.state.keys.pattern(l.prefix), l.state.set.store.stateTimeout
	for names, err := range l.state.core.server.Scan(l.ctx, pattern, step) {
		if err != nil {
			return l.about(l.prefix).unavailable(l.ctx, err)
		}
		if err := l.page(names); errors.Is(err, errStopped) {
			return nil
		} else if err != nil {
			return err
		}
	}
	return nil
}

// page yields the items of some keys.
func (l *listing[V]) page(names []string) error {
	keys := make([]string, 0, len(names))
	ours := names[:0]
	for _, name := range names {
		if key, ok := l.state.keys.key(name); ok && strings.HasPrefix(key, l.prefix) {
			keys, ours = append(keys, key), append(ours, name)
		}
	}
	for contents := range l.state.core.server.ReadEach(l.ctx, ours, l.state.set.store.stateTimeout) {
		for i, content := range contents {
			if err := l.value(keys[i], content); err != nil {
				return err
			}
		}
		keys = keys[len(contents):]
	}
	return nil
}

// value yields the item of a key, if there is one.
func (l *listing[V]) value(key string, content server.Content) error {
	if l.ctx.Err() != nil {
		return l.about(l.prefix).ended(l.ctx)
	}
	item, _, err := l.state.item(l.ctx, l.about(key), content)
	switch {
	case errors.Is(err, ErrNotFound):
		return nil
	case err != nil && !errors.Is(err, ErrCodec) && !errors.Is(err, ErrTooLarge):
		return err
	case !l.emit(item, err):
		return errStopped
	}
	return nil
}

// emit yields an item. Meanwhile the gate does not count the listing, as the caller may take its time, or close the Store.
func (l *listing[V]) emit(item Item[V], err error) bool {
	l.entered = false
	l.state.core.gate.End()
	if !l.yield(item, err) {
		return false
	}
	if l.entered = l.state.core.gate.Begin(); !l.entered {
		l.yield(Item[V]{}, ErrClosed)
	}
	return l.entered
}
