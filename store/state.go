package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"reflect"
	"time"

	"github.com/compozy/cache/store/internal/entry"
	"github.com/compozy/cache/store/internal/server"
)

const (
	// fenceKept is how long a fence is kept beyond the value that it protects.
	fenceKept = 24 * time.Hour
	// deleteKept is how long at least a delete is remembered, so that its repetition is recognised.
	deleteKept = 10 * time.Second
)

// State keeps versioned values of type V, by key. A write can be made to depend on the version that it replaces
// ([IfVersion], [State.Update], [State.Create]), and on the lock that its writer holds ([WithFence]). It is safe for
// concurrent use. Make one with [NewState].
type State[V any] struct {
	core *core // nil if NewState did not make it
	name string
	keys keyspace
	set  settings

	sizes *valueSizes
}

// NewState makes a State on a Store. All processes that use the same name, on the same Redis and with the same key
// prefix, share the values. The name appears in the names of keys, and as a label of metrics; it may not be empty, that
// of a Cache of the Store, or contain control characters, invalid UTF-8 or any of :{}*?[]\
//
// Keys may be any strings that are not empty.
//
// It returns an error matching ErrInvalidArgument if an argument cannot be used, and ErrClosed after Close of the Store.
func NewState[V any](s *Store, name string, opts ...Option) (*State[V], error) {
	if err := s.ready(); err != nil {
		return nil, err
	}
	set := defaults()
	set.store = s.set
	if err := set.apply(inState, opts); err != nil {
		return nil, err
	}
	if set.sliding && set.ttl == 0 {
		return nil, &ArgumentError{Argument: "WithSliding", Reason: "needs WithTTL"}
	}
	if err := s.register(name, "State"); err != nil {
		return nil, err
	}
	set.coder = set.coder.forType(reflect.TypeFor[V]())
	return &State[V]{s.core, name, newKeyspace(set.store.prefix, name, set.group), set, new(valueSizes)}, nil
}

// call is one call of a State.
type call struct {
	subject

	core     *core
	ctx      context.Context //nolint:containedctx // of the caller, for as long as the call lasts
	redisKey string
	set      settings // with the options of the call
	span     span
}

// begin checks the arguments of a call and counts it. If there is no error, end must follow.
func (st *State[V]) begin(ctx context.Context, op, key string, where scope, opts []Option) (*call, error) {
	if err := st.usable(ctx); err != nil {
		return nil, err
	}
	if err := checkKey(key); err != nil {
		return nil, err
	}
	c := &call{subject: subject{st.name, op, key}, core: st.core, ctx: ctx, set: st.set}
	if err := c.set.apply(where, opts); err != nil {
		return nil, err
	}
	c.redisKey = st.keys.value(key) // which calls the function of WithGroup
	if !st.core.gate.Begin() {
		return nil, ErrClosed
	}
	c.ctx, c.span = st.core.tracer.start(ctx, op, st.name)
	return c, nil
}

// usable returns why no call with this context can succeed, if that is so.
func (st *State[V]) usable(ctx context.Context) error {
	switch {
	case st == nil || st.core == nil:
		return &ArgumentError{Argument: "State", Reason: "is nil or zero; NewState makes one"}
	case ctx == nil:
		return &ArgumentError{Argument: "ctx", Reason: "is nil"}
	}
	return nil
}

// errPanicked is how a call has ended that has not returned: the caller's function, a codec or a hook of the client has
// panicked, or called runtime.Goexit.
var errPanicked = errors.New("panicked")

// end counts how the call has ended.
func (c *call) end(err error) {
	c.core.gate.End()
	outcome := outcomeOf(err)
	c.core.metrics.stateCalls.WithLabelValues(c.name, c.op, outcome).Inc()
	if outcome == "too_large" {
		c.core.metrics.oversize.WithLabelValues(c.name).Inc()
	}
	c.span.finish(outcome, err)
}

// limited returns a context that ends when Redis has taken too long.
func (c *call) limited() (context.Context, context.CancelFunc) {
	return context.WithTimeout(c.ctx, c.set.store.stateTimeout)
}

// Get returns the value of a key, in one round trip. With [WithSliding] it has a second one made in the background when less
// than half of the TTL is left.
//
// The error matches ErrNotFound if there is no value, ErrCodec if what is there is none of this State, ErrTooLarge,
// ErrUnavailable, ErrClosed, ErrInvalidArgument, or is the error of ctx. Safe for concurrent use.
func (st *State[V]) Get(ctx context.Context, key string) (item Item[V], err error) {
	c, err := st.begin(ctx, "get", key, 0, nil)
	if err != nil {
		return Item[V]{}, err
	}
	defer func() { c.end(err) }()
	err = errPanicked
	item, halfOver, err := st.read(c)
	if err == nil && st.set.sliding && halfOver {
		st.slide(c)
	}
	return item, err
}

// read reads the item. halfOver says that less than half of its TTL is left.
func (st *State[V]) read(c *call) (item Item[V], halfOver bool, err error) {
	ctx, cancel := c.limited()
	defer cancel()
	content := st.core.server.Read(ctx, c.redisKey, st.sizes.one())
	st.sizes.saw(len(content.Raw))
	return st.item(c.ctx, c.subject, content)
}

// item makes an item of the content of a key.
func (st *State[V]) item(
	ctx context.Context, about subject, content server.Content,
) (item Item[V], halfOver bool, err error) {
	none := Item[V]{Key: about.key, Source: SourceRedis}
	switch {
	case errors.Is(content.Err, entry.ErrForeign):
		return Item[V]{Key: about.key}, false, about.wrap(codecError{"the key has another type", content.Err})
	case content.Err != nil:
		return Item[V]{Key: about.key}, false, about.unavailable(ctx, content.Err)
	case content.Raw == nil:
		return none, false, about.wrap(ErrNotFound)
	}
	e, err := entry.Parse(content.Raw)
	switch {
	case err != nil:
		return Item[V]{Key: about.key}, false, about.wrap(codecError{"something else has written it", err})
	case e.Kind == entry.Deleted || e.Kind == entry.State && !e.FreshAt(content.Now):
		return none, false, about.wrap(ErrNotFound)
	case e.Kind != entry.State:
		return Item[V]{Key: about.key}, false, about.wrap(codecError{"it belongs to a Cache", entry.ErrForeign})
	}
	item = Item[V]{Key: about.key, Version: Version(e.Version), Source: SourceRedis, Age: e.AgeAt(content.Now)}
	if err := st.set.coder.decode(&e, &item.Value); err != nil {
		return Item[V]{Key: about.key}, false, about.wrap(err)
	}
	return item, e.HalfOver(content.Now), nil
}

// slide makes an item last for its full TTL, in the background, unless another reader has done so.
func (st *State[V]) slide(c *call) {
	touch := server.Touch{
		Key: c.redisKey, Kind: entry.State, Codec: c.set.coder.codec.Letter(), TTL: server.KeepTTL, Keep: fenceKept,
	}
	st.core.slide(touch.Key, func(ctx context.Context) { st.core.server.Touch(ctx, touch) })
}

// Create writes a value if there is none, in one round trip, and returns its version. So of several that create the same
// key one succeeds: requests become idempotent when each creates a key of its own first.
//
// Options: [WithTTL], [WithFence]. The error matches ErrExists, and is a [*ConflictError] with what is there; or
// ErrFenced, ErrTooLarge, ErrCodec if the value cannot be encoded or something else is stored under the key,
// ErrUnavailable, ErrClosed, ErrInvalidArgument, or the error of ctx. If it matches ErrUncertain as well, or alone, the
// value may have been written, or may be yet. Safe for concurrent use.
func (st *State[V]) Create(ctx context.Context, key string, v V, opts ...Option) (version Version, err error) {
	c, err := st.begin(ctx, "create", key, inCreate, opts)
	if err != nil {
		return 0, err
	}
	defer func() { c.end(err) }()
	err = errPanicked
	c.set.write.version = 0
	return st.write(c, v, c.set.ttl)
}

// Put writes a value, in one round trip, and returns its version.
//
// Options: [IfVersion], [WithFence], [WithTTL]. The error matches ErrConflict if the value is not in the version of
// IfVersion, and is a [*ConflictError] with what is there; otherwise it is as that of [State.Create]. A Put is never
// repeated in a way that could overwrite what another one has written meanwhile. Safe for concurrent use.
func (st *State[V]) Put(ctx context.Context, key string, v V, opts ...Option) (version Version, err error) {
	c, err := st.begin(ctx, "put", key, inPut, opts)
	if err != nil {
		return 0, err
	}
	defer func() { c.end(err) }()
	err = errPanicked
	return st.write(c, v, c.set.ttl)
}

// write writes a value as the settings of the call say.
func (st *State[V]) write(c *call, v V, ttl time.Duration) (Version, error) {
	e, err := c.set.coder.encode(v)
	if err != nil {
		return 0, c.wrap(err)
	}
	ctx, cancel := c.limited()
	defer cancel()
	reply := st.core.server.Put(ctx, server.Put{
		Key: c.redisKey, Kind: entry.State, Codec: e.codec, Compression: e.compression, Payload: e.payload,
		Write: entry.NewID(), Version: c.set.write.version, Fence: c.set.write.fence, TTL: ttl, Keep: fenceKept,
	})
	return st.outcome(c, reply)
}

// Delete deletes a value, in one round trip. It is no error if there is none.
//
// Options: [IfVersion], [WithFence]. The error matches ErrConflict if the value is not in the version of IfVersion, and is
// a [*ConflictError] with what is there; or ErrFenced, ErrCodec if something else is stored under the key, ErrUnavailable,
// ErrClosed, ErrInvalidArgument, or the error of ctx. If it matches ErrUncertain as well, or alone, the value may have
// been deleted, or may be yet. Safe for concurrent use.
//
// The version and the largest fencing token of a value are kept for a day if it had a token, so that the holder of an
// older one is refused. Other deletes are remembered for some seconds.
func (st *State[V]) Delete(ctx context.Context, key string, opts ...Option) (err error) {
	c, err := st.begin(ctx, "delete", key, inDelete, opts)
	if err != nil {
		return err
	}
	defer func() { c.end(err) }()
	err = errPanicked
	limited, cancel := c.limited()
	defer cancel()
	_, err = st.outcome(c, st.core.server.Delete(limited, server.Delete{
		Key: c.redisKey, Codec: c.set.coder.codec.Letter(), Write: entry.NewID(),
		Version: c.set.write.version, Fence: c.set.write.fence,
		Remember: max(deleteKept, 2*c.set.store.stateTimeout), RememberFence: fenceKept,
	}))
	return err
}

// Touch makes a value last for ttl from now, in one round trip: 0 for always, at least 1ms otherwise. Its version stays.
//
// The error matches ErrNotFound if there is no value, ErrCodec if something else is stored under the key, ErrUnavailable,
// ErrClosed, ErrInvalidArgument, or is the error of ctx. If it matches ErrUncertain as well, or alone, it may have been
// done, or may be yet. Safe for concurrent use.
func (st *State[V]) Touch(ctx context.Context, key string, ttl time.Duration) (err error) {
	if err := checkDuration("ttl", ttl); err != nil {
		return err
	}
	c, err := st.begin(ctx, "touch", key, 0, nil)
	if err != nil {
		return err
	}
	defer func() { c.end(err) }()
	err = errPanicked
	limited, cancel := c.limited()
	defer cancel()
	_, err = st.outcome(c, st.core.server.Touch(limited, server.Touch{
		Key: c.redisKey, Kind: entry.State, Codec: c.set.coder.codec.Letter(), TTL: ttl, Keep: fenceKept,
	}))
	return err
}

// outcome makes of the reply to a write what its caller is to know.
func (st *State[V]) outcome(c *call, r server.Reply) (Version, error) {
	switch r.Outcome {
	case server.Written, server.Enough:
		return Version(r.Version), nil
	case server.Conflict:
		c.core.metrics.conflicts.WithLabelValues(c.name).Inc()
		return 0, st.conflict(c, r)
	case server.Fenced:
		return 0, fmt.Errorf("%w: %v: token %d, after %d", ErrFenced, c.subject, c.set.write.fence, r.Fence)
	case server.Foreign:
		err := c.wrap(codecError{"something else has written it", entry.ErrForeign})
		if r.Repeated { // before that, or not at all
			err = fmt.Errorf("%w: %w", ErrUncertain, err)
		}
		return 0, err
	case server.NotFound:
		return 0, c.wrap(ErrNotFound)
	case server.Uncertain:
		if r.Err == nil {
			return 0, c.wrap(ErrUncertain)
		}
		return 0, fmt.Errorf("%w: %w", ErrUncertain, c.unavailable(c.ctx, r.Err))
	default:
		return 0, c.unavailable(c.ctx, r.Err)
	}
}

// conflict describes a conflict. If what is there cannot be read, the error matches ErrCodec too and has no item.
func (st *State[V]) conflict(c *call, r server.Reply) error {
	conflict := &ConflictError[V]{Name: c.name, Key: c.key, Exists: r.Raw != nil, create: c.op == "create"}
	if !conflict.Exists {
		return conflict
	}
	item, _, err := st.item(c.ctx, c.subject, server.Content{Raw: r.Raw, Now: r.Now})
	if err != nil {
		sentinel := ErrConflict
		if conflict.create {
			sentinel = ErrExists
		}
		return fmt.Errorf("%w: %w", sentinel, err)
	}
	conflict.Current = item
	return conflict
}

// String names the State for fmt. Safe for concurrent use.
func (st *State[V]) String() string {
	if st == nil || st.core == nil {
		return "state that was never made"
	}
	return fmt.Sprintf("state %q", st.name)
}

// Format writes String, whatever the verb.
func (st *State[V]) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, st.String()) }
