package lock

import (
	"context"
	"slices"
	"sync"
	"time"
)

// AcquireWait waits for the lock until it gets it or ctx ends. Whoever waits is served in the order of arrival, across
// processes too, and woken by the release, not by polling: the lock is passed on to the first waiter, within about one
// round trip. On several masters the first waiter is told, and acquires in the ordinary way. Within a process the
// callers that wait for the same resource take turns, and are one waiter in Redis.
//
// A plain Acquire can come first only when the holder has died and its key has expired; on several masters also between a
// release and the first waiter's try. A waiter that dies delays the next one by no more than two seconds.
//
// The arguments and the lock are those of Acquire, the error matches exactly one of: the error of ctx, ErrManagerClosed,
// ErrInvalidArgument, and ErrRedis if Redis fails at the first try. Once queued a waiter outlasts failures of Redis until
// ctx ends. A caller that gives up leaves nothing in Redis. Safe for concurrent use.
func (m *RedisLockManager) AcquireWait(ctx context.Context, resource string, ttl time.Duration) (FencedLock, error) {
	if m.none() {
		return nil, errNoManager()
	}
	if err := check(ctx, resource, ttl); err != nil {
		return nil, err
	}
	begin := time.Now()
	l, err := m.wait(ctx, resource, ttl.Truncate(time.Millisecond))
	if err != nil {
		m.metrics.failed(ctx, err)
		return nil, err
	}
	m.metrics.acquired(time.Since(begin))
	return l, nil
}

func (m *RedisLockManager) wait(ctx context.Context, resource string, ttl time.Duration) (*RedisLock, error) {
	if ctx.Err() != nil {
		return nil, contextError(ctx, "acquire", resource)
	}
	if !m.tasks.begin() {
		return nil, ErrManagerClosed
	}
	defer m.tasks.end()
	m.metrics.waiting.Add(1)
	defer m.metrics.waiting.Add(-1)
	w := &waiter{ctx: ctx, ttl: ttl, done: make(chan turn, 1)}
	m.waiters.join(resource, w)
	select {
	case t := <-w.done:
		return t.lock, t.err
	case <-ctx.Done():
		if m.waiters.leave(resource, w) {
			return nil, contextError(ctx, "acquire", resource)
		}
	case <-m.closing.Done():
		if m.waiters.leave(resource, w) {
			return nil, ErrManagerClosed
		}
	}
	t := <-w.done // its turn came at the same time
	return t.lock, t.err
}

// waiter is one call of AcquireWait.
type waiter struct {
	ctx  context.Context // for what it carries; the caller watches its end
	ttl  time.Duration
	done chan turn // has room for the one turn it gets
}

// turn is how waiting ends.
type turn struct {
	lock *RedisLock
	err  error
}

// waiters is who waits in this process: for each resource a queue of callers and a contender, which competes for all of
// them.
type waiters struct {
	manager *RedisLockManager

	mu sync.Mutex // guards what follows and the callers of all contenders
	// byResource has a contender as long as it has callers.
	byResource map[string]*contender
	byName     map[string]*contender // by name in the queue
}

// join appends a caller to the queue of a resource.
func (ws *waiters) join(resource string, w *waiter) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	c := ws.byResource[resource]
	if c == nil {
		c = newContender(ws.manager, resource)
		ws.byResource[resource] = c
		c.callers = append(c.callers, w)
		ws.manager.tasks.spawn(c.run)
		return
	}
	c.callers = append(c.callers, w)
}

// leave removes a caller. It reports false if its turn has come.
func (ws *waiters) leave(resource string, w *waiter) bool {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	c := ws.byResource[resource]
	if c == nil {
		return false
	}
	i := slices.Index(c.callers, w)
	if i < 0 {
		return false
	}
	c.callers = slices.Delete(c.callers, i, i+1)
	if len(c.callers) == 0 {
		ws.retire(c)
	}
	return true
}

// retire takes a contender without callers out of the books, so that the next caller starts another. The caller holds
// mu.
func (ws *waiters) retire(c *contender) {
	delete(ws.byResource, c.resource)
	delete(ws.byName, c.name)
	c.retire()
}

// first returns the caller whose turn is next, nil if there is none.
func (ws *waiters) first(c *contender) *waiter {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if len(c.callers) == 0 {
		return nil
	}
	return c.callers[0]
}

// shift removes and returns the caller whose turn it is, nil if there is none. The contender ends with the last one.
func (ws *waiters) shift(c *contender) *waiter {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if len(c.callers) == 0 {
		return nil
	}
	w := c.callers[0]
	c.callers = slices.Delete(c.callers, 0, 1)
	if len(c.callers) == 0 {
		ws.retire(c)
	}
	return w
}

// fail ends the waiting of all callers.
func (ws *waiters) fail(c *contender, err error) {
	for w := ws.shift(c); w != nil; w = ws.shift(c) {
		w.done <- turn{err: err}
	}
}

// rename makes a contender known under the name it has in the queue from now on.
func (ws *waiters) rename(c *contender, name string) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	delete(ws.byName, c.name)
	c.name = name
	if name != "" && len(c.callers) > 0 {
		ws.byName[name] = c
	}
}

// deliver hands a message of a node's inbox to the contender it is for. If there is none any more, what it had in Redis
// is being removed, and that passes the lock on.
func (ws *waiters) deliver(msg news) {
	ws.mu.Lock()
	c := ws.byName[msg.value]
	ws.mu.Unlock()
	if c == nil {
		return
	}
	for {
		select {
		case c.news <- msg:
			return
		default:
		}
		select {
		case <-c.news: // the latest counts most: it may be the lock
		default:
		}
	}
}

// nudge makes all contenders ask again, as messages may have been lost.
func (ws *waiters) nudge() {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	for _, c := range ws.byResource {
		select {
		case c.again <- struct{}{}:
		default:
		}
	}
}
