package lock

import (
	"context"
	"net/url"
	"strings"
	"time"

	"github.com/compozy/cache/lock/internal/store"
)

// Info describes a lock, as [RedisLockManager.Inspect] found it.
type Info struct {
	// Resource is what is locked.
	Resource string
	// Held says that somebody holds the lock, or that it stays taken after its release, see WithHoldAtLeast.
	Held bool
	// Owner is what WithOwner gave to the holder's lock; without that, something random that all locks of the holder's
	// manager have in common. It is "" where nobody holds the lock.
	Owner string
	// Token is the last fencing token that was given out, 0 if none is known. Of several nodes one may be ahead.
	Token int64
	// TTL is after which time the lock ends unless it is renewed.
	TTL time.Duration
	// Waiting is how many wait in Redis: processes, not callers.
	Waiting int
}

// Inspect describes a lock, for people and dashboards: by the time it returns things may have changed. On several nodes
// it is what a majority says.
//
// The error matches exactly one of ErrInvalidArgument, ErrManagerClosed, the error of ctx, and ErrRedis. Safe for
// concurrent use.
func (m *RedisLockManager) Inspect(ctx context.Context, resource string) (Info, error) {
	if m.none() {
		return Info{}, errNoManager()
	}
	if err := check(ctx, resource, minTTL); err != nil {
		return Info{}, err
	}
	if ctx.Err() != nil {
		return Info{}, contextError(ctx, "inspect", resource)
	}
	if !m.calls.begin() {
		return Info{}, ErrManagerClosed
	}
	defer m.calls.end()
	inner, cancel := bounded(ctx, time.Now(), m.set.timeouts.release())
	defer cancel()
	s, err := m.store.Inspect(inner, store.NewKeys(m.set.prefix, resource))
	switch {
	case err == nil:
		return Info{
			Resource: resource, Held: s.Held, Owner: ownerOf(s.Value), Token: s.Token, TTL: s.TTL, Waiting: int(s.Waiting),
		}, nil
	case ended(ctx):
		return Info{}, contextError(ctx, "inspect", resource)
	default:
		return Info{}, &RedisError{Op: "inspect", Resource: resource, Err: err}
	}
}

// ownerOf returns whom a value names, see newValue. A value that is not ours names itself.
func ownerOf(value string) string {
	value, _, _ = strings.Cut(value, " ") // what a release adds that keeps the lock
	parts := strings.SplitN(value, ":", 3)
	if len(parts) < 3 {
		return parts[0]
	}
	owner, err := url.QueryUnescape(parts[2])
	if err != nil {
		return parts[2]
	}
	return owner
}
