package lock

import (
	"context"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/compozy/cache/internal/redisx"
	"github.com/compozy/cache/internal/tasks"
	"github.com/compozy/cache/lock/internal/quorum"
	"github.com/compozy/cache/lock/internal/store"
)

const (
	// reservation is how long a lock that was released is kept for the first waiter; reservationOnNodes is the same on
	// several nodes, which may have different first waiters: then nobody gets a majority meanwhile.
	reservation        = 1500 * time.Millisecond
	reservationOnNodes = 200 * time.Millisecond
)

// locks is what a manager needs of Redis: one, or a quorum of them.
type locks interface {
	Acquire(ctx context.Context, c store.Claim) store.Reply
	Enqueue(ctx context.Context, c store.Claim, w store.Waiter) store.Reply
	Release(ctx context.Context, c store.Claim) store.Reply
	Refresh(ctx context.Context, c store.Claim) store.Reply
	Renew(claims []store.Claim, timeouts store.Timeouts, done func(i int, r store.Reply))
	ReleaseAll(ctx context.Context, claims []store.Claim, done func(i int, r store.Reply))
	Mend(c store.Claim, until time.Time)
	Reap(c store.Claim, why store.Reason)
	Leave(k store.Keys, name string)
	Inspect(ctx context.Context, k store.Keys) (store.State, error)
	Listen(ctx context.Context, channel string, l store.Listener)
	Ping(ctx context.Context) error
	Close(ctx context.Context) error
}

var (
	_ locks = (*store.Redis)(nil)
	_ locks = (*quorum.Quorum)(nil)
)

// RedisLockManager hands out locks on Redis. It is safe for concurrent use. Make one with [NewRedisLockManager].
type RedisLockManager struct {
	*core // shared with what With returns; nil if NewRedisLockManager did not make it

	call callSettings
	err  error // why no call can succeed
}

// core is a manager without the settings of its calls.
type core struct {
	name       string
	keeper     *keeper
	queue      *queue
	background *tasks.Tasks // goroutines of the store
}

// NewRedisLockManager makes a manager whose locks live on client, or on the nodes of [WithNodes]; client may be nil
// then. It sends nothing and starts nothing: both begin with the first lock. The clients stay the caller's and must be
// open until Close has returned.
//
// Locks are renewed on connections of the manager's own, to the same server with the same redis.Options, on which the hooks
// of client do not run. So what commands cannot do without must not be in a hook: say where the server is by
// redis.Options.Dialer instead of a DialHook, and what keys begin with by [WithKeyPrefix] instead of a ProcessHook;
// otherwise locks are lost with their first renewal. A client that wraps client, has a method Unwrap() redis.UniversalClient
// which returns it, and a method ConnectionHook() redis.Hook, has the renewals run through that hook as well. With Sentinel a
// connection of the manager's own is used for a second, so that renewals follow a failover. On a client of
// another kind, which hides a *redis.Client or *redis.ClusterClient by wrapping it without Unwrap, locks are renewed
// through that client, hooks and all, and on its pool.
//
// It returns an error matching ErrInvalidArgument if an argument cannot be used. A *redis.Ring cannot.
func NewRedisLockManager(client redis.UniversalClient, opts ...Option) (*RedisLockManager, error) {
	set, err := collect(client, opts)
	if err != nil {
		return nil, err
	}
	c := &core{name: set.name, background: tasks.New()}
	c.keeper = newKeeper(set, newStore(set, c.background.Spawn))
	c.queue = newQueue(c.keeper)
	set.call.class = c.keeper.metrics.class(set.call.className)
	return &RedisLockManager{core: c, call: set.call}, nil
}

// none reports whether NewRedisLockManager did not make m.
func (m *RedisLockManager) none() bool { return m == nil || m.core == nil }

// ready returns why no call can succeed, if that is so.
func (m *RedisLockManager) ready() error {
	if m.none() {
		return &ArgumentError{Argument: "RedisLockManager", Reason: "is nil or zero; NewRedisLockManager makes one"}
	}
	return m.err
}

// newStore makes the store: of one Redis, or of a quorum.
func newStore(set settings, spawn func(func()) bool) locks {
	var panics redisx.Repeated
	s := store.Settings{
		Timeout: max(set.timeouts.node, maxNodeTimeout), Reservation: reservation, Go: spawn,
		Panicked: func(err error) {
			panics.Log(set.logger, zap.ErrorLevel, "lock: a hook of a client has panicked", zap.Error(err))
		},
	}
	if len(set.nodes) == 1 {
		return store.New(set.nodes[0], s)
	}
	s.Several, s.Reservation = true, reservationOnNodes
	nodes := make([]*store.Redis, len(set.nodes))
	for i, client := range set.nodes {
		s.Index = i
		nodes[i] = store.New(client, s)
	}
	return quorum.New(nodes, spawn, set.logger)
}

// String names the manager for fmt, which would otherwise read what is changing. Safe for concurrent use.
func (m *RedisLockManager) String() string {
	if m.none() {
		return "lock manager that was never made"
	}
	return fmt.Sprintf("lock manager %q on %d nodes", m.name, m.keeper.nodes)
}

// Format writes String, whatever the verb.
func (m *RedisLockManager) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, m.String()) }

// Close stops acquisitions, wakes those who wait with ErrManagerClosed, notifies the holders of locks that these are lost,
// and releases them. It returns when all is done and no goroutine is left, or when ctx ends: then with an error matching
// that of ctx. It returns an error matching ErrRedis if keys may be left, of locks or of attempts that failed; they end
// with their TTL. A minority of nodes that hangs may take it as long as the node timeout of releases, see
// [WithNodeTimeout], or 2s if that is more, and is no error. It does not close the clients. A command that the
// network holds back for longer than Close takes may leave a key all the same, for 10s at most. A hook of a client that
// panics meanwhile, or ends its goroutine, is logged, and is a failure of Redis like any other.
//
// Close may be called without a lock ever acquired, concurrently, and again; later calls wait for the first one's end.
func (m *RedisLockManager) Close(ctx context.Context) error {
	if m.none() {
		return m.ready()
	}
	if ctx == nil {
		return &ArgumentError{Argument: "ctx", Reason: "is nil"}
	}
	var err error
	if m.keeper.calls.Close() {
		err = m.releaseAll(ctx)
		m.keeper.calls.Wait(ctx)
		if left := m.keeper.store.Close(ctx); left != nil && err == nil {
			err = fmt.Errorf("lock: close: %w: %w", ErrRedis, left)
		}
		m.background.Close()
	}
	if !m.background.Wait(ctx) {
		return fmt.Errorf("lock: close: %w", ctx.Err())
	}
	return err
}

// releaseAll ends all locks and releases them. It goes on as long as that makes progress.
func (m *RedisLockManager) releaseAll(ctx context.Context) error {
	var claims []store.Claim
	for _, l := range m.keeper.all() {
		if l.lose(ErrManagerClosed) { // otherwise its holder releases it right now
			claims = append(claims, l.claim)
		}
	}
	if len(claims) == 0 {
		return nil
	}
	ctx, cancel := context.WithCancel(redisx.Background(ctx))
	defer cancel()
	stuck := time.AfterFunc(m.keeper.timeouts.release(), cancel)
	defer stuck.Stop()
	var released atomic.Int64
	m.keeper.store.ReleaseAll(ctx, claims, func(_ int, r store.Reply) {
		if r.Outcome != store.Failed {
			released.Add(1)
			stuck.Reset(m.keeper.timeouts.release())
		}
	})
	m.keeper.metrics.releases.Add(int64(len(claims)))
	left := int64(len(claims)) - released.Load()
	if left == 0 {
		return nil
	}
	m.keeper.metrics.releasesFailed.Add(left)
	return fmt.Errorf("lock: close: %d of %d locks not released: %w", left, len(claims), ErrRedis)
}
