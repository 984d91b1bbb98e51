package store

import (
	"context"
	"errors"
	"time"

	"github.com/compozy/cache/internal/redisx"
	"github.com/compozy/cache/store/internal/server"
)

// minUpdatePause and maxUpdatePause bound the pause of an Update that others keep getting ahead of.
const (
	minUpdatePause = time.Millisecond
	maxUpdatePause = 100 * time.Millisecond
)

// Update reads a value, has fn change it, and writes it if nobody else has meanwhile; otherwise it starts over with what
// is there now, until ctx ends. So no change of others is lost, and fn may run several times, each time on a value of its
// own. It takes two round trips, and one more for each conflict.
//
// The value expires when it would have without the Update, unless the call or the State has a [WithTTL]. Options: that and
// [WithFence]. The item that comes back is what was written.
//
// An error of fn is returned as it is, and nothing is written; a panic passes through. Otherwise the error matches
// ErrNotFound if there is no value, or none any more: create it with [State.Create]. Or ErrFenced, ErrTooLarge, ErrCodec,
// ErrUnavailable, ErrClosed, ErrInvalidArgument, or the error of ctx. If it matches ErrUncertain as well, or alone, the
// change may have been written, or may be yet; fn is not run again then. Safe for concurrent use.
func (st *State[V]) Update(
	ctx context.Context, key string, fn func(v *V) error, opts ...Option,
) (item Item[V], err error) {
	if fn == nil {
		return Item[V]{}, &ArgumentError{Argument: "fn", Reason: "is nil"}
	}
	c, err := st.begin(ctx, "update", key, inUpdate, opts)
	if err != nil {
		return Item[V]{}, err
	}
	defer func() { c.end(err) }()
	err = errPanicked
	item, _, err = st.read(c)
	for conflicts := 0; err == nil; conflicts++ {
		if conflicts > 1 {
			_ = redisx.Sleep(c.ctx, redisx.Backoff(conflicts-1, minUpdatePause, maxUpdatePause))
		}
		if c.ctx.Err() != nil {
			return Item[V]{}, c.ended(c.ctx)
		}
		err = errPanicked
		if err := fn(&item.Value); err != nil {
			return Item[V]{}, err
		}
		var version Version
		version, err = st.replace(c, item)
		if err == nil {
			return Item[V]{Key: key, Value: item.Value, Version: version, Source: SourceRedis}, nil
		}
		var conflict *ConflictError[V]
		if !errors.As(err, &conflict) {
			break
		}
		if item, err = conflict.Current, nil; !conflict.Exists {
			err = c.wrap(ErrNotFound)
		}
	}
	return Item[V]{}, err
}

// replace writes the value of an item if its version is still there.
func (st *State[V]) replace(c *call, item Item[V]) (Version, error) {
	ttl := server.KeepTTL
	if c.set.ttlGiven {
		ttl = c.set.ttl
	}
	c.set.write.version = int64(item.Version)
	return st.write(c, item.Value, ttl)
}
