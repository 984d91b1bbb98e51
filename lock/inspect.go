package lock

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/compozy/cache/internal/redisx"
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
// it is what a majority says, and nobody holds the lock when no majority agrees on a holder. Nodes that do not answer are
// waited for when the others disagree, for the node timeout at most (see WithNodeTimeout; 2s without it).
//
// The error matches exactly one of ErrInvalidArgument, ErrManagerClosed, the error of ctx, and ErrRedis. Safe for
// concurrent use.
func (m *RedisLockManager) Inspect(ctx context.Context, resource string) (Info, error) {
	if err := m.ready(); err != nil {
		return Info{}, err
	}
	if err := check(ctx, resource, minTTL); err != nil {
		return Info{}, err
	}
	if err := m.keeper.begin(ctx, "inspect", resource); err != nil {
		return Info{}, err
	}
	defer m.keeper.calls.End()
	inner, cancel := bounded(ctx, time.Now(), m.keeper.timeouts.release())
	defer cancel()
	s, err := m.keeper.store.Inspect(inner, store.NewKeys(m.keeper.prefix, resource))
	switch {
	case err == nil:
		return Info{
			Resource: resource, Held: s.Held, Owner: ownerOf(s.Value), Token: s.Token, TTL: s.TTL, Waiting: int(s.Waiting),
		}, nil
	case redisx.Ended(ctx):
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

// HealthCheck reports whether locks can be acquired: a majority of the nodes answers a PING before ctx ends, and within
// 2s. It returns an error matching ErrRedis if not, and ErrManagerClosed after Close. Safe for concurrent use.
func (m *RedisLockManager) HealthCheck(ctx context.Context) error {
	if m.none() {
		return m.ready()
	}
	if ctx == nil {
		return &ArgumentError{Argument: "ctx", Reason: "is nil"}
	}
	if !m.keeper.calls.Begin() {
		return ErrManagerClosed
	}
	defer m.keeper.calls.End()
	ctx, cancel := context.WithTimeout(redisx.Background(ctx), maxNodeTimeout) // Close waits for all that were asked
	defer cancel()
	if err := m.keeper.store.Ping(ctx); err != nil {
		return fmt.Errorf("%w: %w", ErrRedis, err)
	}
	return nil
}

// Alive reports whether the manager's own goroutines run; it asks nothing of Redis. It returns nil before the first
// lock and after Close. Safe for concurrent use.
func (m *RedisLockManager) Alive() error {
	if m.none() {
		return m.ready()
	}
	if late := m.keeper.renewer.late(); late > 0 {
		return fmt.Errorf("lock: renewal is %v late", late.Round(time.Millisecond))
	}
	return nil
}
