package lock

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"sync"
	"time"

	"github.com/go-redsync/redsync/v4"
	redsyncredis "github.com/go-redsync/redsync/v4/redis"
	"github.com/redis/go-redis/v9"

	"github.com/compozy/cache/internal/redisx"
)

// RedisLockManager hands out locks on Redis. It is safe for concurrent use. Make one with [NewRedisLockManager].
type RedisLockManager struct {
	set         settings
	id          string // tells the processes' values apart; the name of the inbox
	inboxPrefix string
	nodes       []*node
	redsync     *redsync.Redsync
	metrics     *metrics
	renewer     *renewer
	janitor     *janitor
	leftovers   *leftovers
	waiters     *waiters

	tasks   tasks
	closing context.Context // ends when Close begins: wakes whoever waits
	close   context.CancelFunc
	// ctx ends when Close has done what it could; calls in the background descend from it.
	ctx    context.Context
	cancel context.CancelFunc

	held     held
	expiries expiries

	// What may go wrong many times in a row.
	renewing, listening redisx.Repeated
}

// NewRedisLockManager makes a manager whose locks live on client, or on the nodes of [WithNodes]; client may be nil
// then. It sends nothing and starts nothing: both begin with the first lock. The clients stay the caller's and must be
// open until Close has returned.
//
// It returns an error matching ErrInvalidArgument if an argument cannot be used. A *redis.Ring cannot.
func NewRedisLockManager(client redis.UniversalClient, opts ...Option) (*RedisLockManager, error) {
	set, err := collect(client, opts)
	if err != nil {
		return nil, err
	}
	m := &RedisLockManager{
		set: set, id: random(9), inboxPrefix: set.prefix + "lock:inbox:",
		tasks: tasks{idle: make(chan struct{})},
	}
	m.closing, m.close = context.WithCancel(context.Background())
	m.ctx, m.cancel = context.WithCancel(redisx.Background(context.Background()))
	m.metrics = newMetrics(m)
	m.renewer = newRenewer(m)
	m.janitor = newJanitor(m)
	m.leftovers = newLeftovers(len(set.nodes))
	m.waiters = &waiters{manager: m, byResource: make(map[string]*contender), byName: make(map[string]*contender)}
	pools := make([]redsyncredis.Pool, len(set.nodes))
	for i, c := range set.nodes {
		n := newNode(m, i, c)
		m.nodes = append(m.nodes, n)
		pools[i] = pool{node: n}
	}
	m.redsync = redsync.New(pools...)
	return m, nil
}

// String names the manager for fmt, which would otherwise read what is changing. Safe for concurrent use.
func (m *RedisLockManager) String() string {
	if m.none() {
		return "lock manager that was never made"
	}
	return fmt.Sprintf("lock manager %q on %d nodes", m.set.name, len(m.nodes))
}

// random returns n random bytes as text without colons, which separate the parts of a value.
func random(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return base64.RawURLEncoding.EncodeToString(b)
}

// newValue returns what distinguishes one acquisition from all others, anywhere. It begins with the manager's ID, by
// which a release finds the inbox of a waiter.
func (m *RedisLockManager) newValue() string {
	var unique [16]byte
	_, _ = rand.Read(unique[:]) // never fails
	value := make([]byte, 0, 64)
	value = append(append(value, m.id...), ':')
	return string(base64.RawURLEncoding.AppendEncode(value, unique[:]))
}

// newMutex returns redsync's view of a lock. It serves one call only, as it is not safe for concurrent use.
func (m *RedisLockManager) newMutex(k keys, value string, ttl time.Duration) *redsync.Mutex {
	return m.redsync.NewMutex(k.lock(),
		redsync.WithExpiry(ttl),
		redsync.WithValue(value),
		redsync.WithGenValueFunc(func() (string, error) { return value, nil }),
		redsync.WithTries(1),
		// Return when the quorum is decided; the round takes care of the nodes that are late.
		redsync.WithFailFast(true),
	)
}

// forget removes a lock from the books.
func (m *RedisLockManager) forget(l *RedisLock) {
	m.renewer.remove(l)
	m.held.remove(l)
}

// Close stops acquisitions, wakes those who wait with ErrManagerClosed, tells the holders of locks that these are lost,
// and releases them, in pipelines. It returns when all is done and no goroutine is left, or when ctx ends: then with an
// error matching that of ctx, while keys that could not be deleted end with their TTL. A minority of nodes that hangs may
// take it as long as the node timeout of releases, see [WithNodeTimeout], or 2s if that is more, and is no error. It does
// not close the clients.
//
// Close may be called without a lock ever acquired, concurrently, and again; later calls wait for the first one's end.
func (m *RedisLockManager) Close(ctx context.Context) error {
	if m.none() {
		return errNoManager()
	}
	if ctx == nil {
		return &ArgumentError{Argument: "ctx", Reason: "is nil"}
	}
	var err error
	// What Close does itself counts as a task as well, so that the others are not taken for the last ones.
	if m.tasks.begin() {
		if m.tasks.close() {
			m.close()
			m.renewer.stop()
			err = m.releaseAll(ctx, m.held.close())
		}
		m.tasks.end()
	}
	select {
	case <-m.tasks.idle:
	case <-ctx.Done():
		err = fmt.Errorf("lock: close: %w", ctx.Err())
	}
	// What is still under way, such as cleaning up, gives up now.
	m.cancel()
	return err
}

// releaseAll ends locks and releases them on all nodes at the same time.
func (m *RedisLockManager) releaseAll(ctx context.Context, locks []*RedisLock) error {
	ours := make([]*RedisLock, 0, len(locks))
	for _, l := range locks {
		if !l.lose(ErrManagerClosed) {
			continue // its holder releases it right now
		}
		ours = append(ours, l)
	}
	if len(ours) == 0 {
		return nil
	}
	// A node that hangs must not use up the time of a caller to whom the majority suffices.
	ctx, cancel := context.WithTimeout(ctx, m.set.releaseTimeout())
	defer cancel()
	var mu sync.Mutex // guards released
	released := make([]int, len(ours))
	var all sync.WaitGroup
	for _, n := range m.nodes {
		calls := make([]call, len(ours))
		for i, l := range ours {
			calls[i] = n.releaseCall(l.keys, l.value, false)
		}
		all.Go(func() {
			n.pipeline(ctx, calls, func(index int, r result) {
				mu.Lock()
				defer mu.Unlock()
				if r.err == nil {
					released[index]++
				}
			})
		})
	}
	all.Wait()
	left := 0
	for _, nodes := range released {
		if nodes < m.quorum() {
			left++
		}
	}
	m.metrics.releases.Add(int64(len(ours)))
	if left == 0 {
		return nil
	}
	m.metrics.releasesFailed.Add(int64(left))
	return fmt.Errorf("lock: close: %d of %d locks not released: %w", left, len(ours), ErrRedis)
}
