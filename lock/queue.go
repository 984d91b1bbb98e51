package lock

import (
	"context"
	"slices"
	"strconv"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/compozy/cache/internal/redisx"
	"github.com/compozy/cache/lock/internal/store"
)

// AcquireWait waits for the lock until it gets it or ctx ends. Those who wait are served in the order of arrival, across
// processes too, and woken by the release, not by polling: it reserves the lock for the first of them for a moment, who
// acquires it then, about two round trips after the release. Within a process the callers that wait for the same resource
// take turns, and are one waiter in Redis.
//
// A plain Acquire does not get ahead of those who wait. A holder or waiter that dies, or a message that is lost, delays
// the next holder by about two seconds at most once the lock is free.
//
// The arguments and the lock are those of Acquire, the error matches exactly one of: the error of ctx, ErrManagerClosed,
// ErrInvalidArgument, and ErrRedis if Redis fails before it has answered anybody who waits for the resource in this process.
// After that waiters outlast failures of Redis until ctx ends. A caller that gives up leaves nothing in Redis. Safe for
// concurrent use.
func (m *RedisLockManager) AcquireWait(ctx context.Context, resource string, ttl time.Duration) (FencedLock, error) {
	return asFenced(m.wait(ctx, resource, ttl, nil))
}

// wait checks the arguments, and counts and traces the waiting. call is nil for the manager's own settings.
func (m *RedisLockManager) wait(ctx context.Context, resource string, ttl time.Duration, call *callSettings) (*RedisLock, error) {
	if m.none() {
		return nil, errNoManager()
	}
	if err := check(ctx, resource, ttl); err != nil {
		return nil, err
	}
	begin := time.Now()
	ctx, span := m.keeper.trace.start(ctx, "lock.wait", resource)
	l, err := m.queue.wait(ctx, resource, &waiter{
		ctx: ctx, ttl: ttl.Truncate(time.Millisecond), call: m.settings(call), turn: make(chan turn, 1),
	})
	m.keeper.metrics.attempted(ctx, err, begin)
	span.acquired(ctx, l, err)
	return l, err
}

// queue is those who wait in this process: for each resource the callers, in the order of arrival, and a contender that
// competes for all of them.
type queue struct {
	queueParts

	listening redisx.Repeated

	mu        sync.Mutex // guards what follows, and the callers of all contenders
	listens   bool       // the inbox is open, or being opened
	hears     bool       // it is
	resources map[string]*contender
	names     map[string]*contender // by the name in Redis' queue
	last      int64                 // number of the last name
}

// queueParts is what a queue is made of.
type queueParts struct {
	set     settings
	store   locks
	keeper  *keeper
	calls   *tasks
	closing context.Context //nolint:containedctx // it ends all waiting
	channel string          // of the inbox
	value   func(owner string) string
}

// waiter is one call of AcquireWait.
type waiter struct {
	ctx  context.Context //nolint:containedctx // for what it carries; the caller watches its end
	ttl  time.Duration
	call callSettings
	turn chan turn // has room for the one turn it gets
}

// turn is how waiting ends.
type turn struct {
	lock *RedisLock
	err  error
}

func newQueue(p queueParts) *queue {
	return &queue{queueParts: p, resources: make(map[string]*contender), names: make(map[string]*contender)}
}

func (q *queue) wait(ctx context.Context, resource string, w *waiter) (*RedisLock, error) {
	if ctx.Err() != nil {
		return nil, contextError(ctx, "acquire", resource)
	}
	if !q.calls.begin() {
		return nil, ErrManagerClosed
	}
	defer q.calls.end()
	q.keeper.metrics.waiting.Add(1)
	defer q.keeper.metrics.waiting.Add(-1)
	q.join(resource, w)
	select {
	case t := <-w.turn:
		return t.lock, t.err
	case <-ctx.Done():
		if q.leave(resource, w) {
			return nil, contextError(ctx, "acquire", resource)
		}
	case <-q.closing.Done():
		if q.leave(resource, w) {
			return nil, ErrManagerClosed
		}
	}
	t := <-w.turn // it came at the same time
	return t.lock, t.err
}

// join appends a caller to those who wait for a resource. The first one starts the contender, and the first of all opens
// the inbox.
func (q *queue) join(resource string, w *waiter) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.listens {
		q.listens = q.calls.spawn(func() { q.store.Listen(q.closing, q.channel, q) })
	}
	c := q.resources[resource]
	if c == nil {
		c = newContender(q, resource)
		q.resources[resource] = c
		q.calls.spawn(c.run) // true: the caller is a task
	}
	c.callers = append(c.callers, w)
}

// leave removes a caller. It reports false if its turn has come.
func (q *queue) leave(resource string, w *waiter) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	c := q.resources[resource]
	if c == nil {
		return false
	}
	i := slices.Index(c.callers, w)
	if i < 0 {
		return false
	}
	c.callers = slices.Delete(c.callers, i, i+1)
	q.retireIdle(c)
	return true
}

// first returns the caller whose turn is next, nil if there is none, and whether the inbox is open.
func (q *queue) first(c *contender) (w *waiter, hears bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(c.callers) == 0 {
		return nil, q.hears
	}
	return c.callers[0], q.hears
}

// shift takes a caller out whose turn has come. It reports false if the caller has left.
func (q *queue) shift(c *contender, w *waiter) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(c.callers) == 0 || c.callers[0] != w {
		return false
	}
	c.callers = slices.Delete(c.callers, 0, 1)
	q.retireIdle(c)
	return true
}

// fail ends the waiting of all callers.
func (q *queue) fail(c *contender, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, w := range c.callers {
		w.turn <- turn{err: err}
	}
	c.callers = nil
	q.retireIdle(c)
}

// retireIdle takes a contender without callers out of the books, so that the next caller starts another. The caller
// holds mu.
func (q *queue) retireIdle(c *contender) {
	if len(c.callers) > 0 {
		return
	}
	if q.resources[c.resource] == c { // which may have retired before, and have a successor
		delete(q.resources, c.resource)
	}
	c.retire()
}

// rename gives a contender the name for its next turn in Redis' queue; a contender that ends has none.
func (q *queue) rename(c *contender, old string, ends bool) (name string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.names, old)
	if ends {
		return ""
	}
	q.last++
	name = q.channel + ":" + strconv.FormatInt(q.last, 10)
	q.names[name] = c
	return name
}

// Hear implements store.Listener.
func (q *queue) Hear(h store.Hint) {
	q.mu.Lock()
	c := q.names[h.Name]
	q.mu.Unlock()
	if c != nil {
		c.hear(h)
	}
}

// Up implements store.Listener. All who wait ask again, as messages may have been lost.
func (q *queue) Up() {
	q.listening.Over(q.set.logger, "lock: waiters hear of releases again")
	q.mu.Lock()
	defer q.mu.Unlock()
	q.hears = true
	for _, c := range q.names {
		c.hear(store.Hint{})
	}
}

// Down implements store.Listener. Nobody need be woken, as all who wait ask from time to time.
func (q *queue) Down(err error) {
	q.mu.Lock()
	q.hears = false
	q.mu.Unlock()
	q.listening.Log(q.set.logger, zap.InfoLevel,
		"lock: waiters cannot hear of releases, and ask every two seconds until reconnected", zap.Error(err))
}
