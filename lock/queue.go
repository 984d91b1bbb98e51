package lock

import (
	"context"
	"strconv"
	"sync"

	"go.uber.org/zap"

	"github.com/compozy/cache/internal/redisx"
	"github.com/compozy/cache/lock/internal/store"
)

// queue is those who wait in this process: for each resource the callers, in the order of arrival, and a contender that
// competes for all of them.
type queue struct {
	keeper *keeper
	inbox  *inbox
	listen sync.Once // opens the inbox

	mu        sync.Mutex // guards resources
	resources map[string]*contender
}

// waiter is one call of AcquireWait.
type waiter struct {
	request

	ctx  context.Context //nolint:containedctx // for what it carries; the caller watches its end
	turn chan turn       // has room for the one turn it gets
}

// turn is how waiting ends.
type turn struct {
	lock *RedisLock
	err  error
}

func newQueue(k *keeper) *queue {
	return &queue{
		keeper: k, inbox: newInbox(k.prefix+"lock:inbox:"+k.id, k.log), resources: make(map[string]*contender),
	}
}

func (q *queue) wait(ctx context.Context, r request) (*RedisLock, error) {
	k := q.keeper
	if err := k.begin(ctx, "acquire", r.resource); err != nil {
		return nil, err
	}
	defer k.calls.End()
	k.metrics.waiting.Add(1)
	defer k.metrics.waiting.Add(-1)
	q.listen.Do(func() {
		k.calls.Spawn(func() { k.store.Listen(k.calls.Closing(), q.inbox.channel, q.inbox) })
	})
	w := &waiter{request: r, ctx: ctx, turn: make(chan turn, 1)}
	c := q.join(w)
	select {
	case t := <-w.turn:
		return t.end()
	case <-ctx.Done():
		if c.leave(w) {
			return nil, contextError(ctx, "acquire", r.resource)
		}
	case <-k.calls.Closing().Done():
		if c.leave(w) {
			return nil, ErrManagerClosed
		}
	}
	t := <-w.turn // it came at the same time
	return t.end()
}

// end returns what waiting has come to, or raises the panic of a hook.
func (t turn) end() (*RedisLock, error) {
	redisx.Raise(t.err)
	return t.lock, t.err
}

// join appends a caller to those who wait for a resource. The first one starts the contender, and so does one that finds
// it ending.
func (q *queue) join(w *waiter) *contender {
	q.mu.Lock()
	defer q.mu.Unlock()
	if c := q.resources[w.resource]; c != nil && c.join(w) {
		return c
	}
	c := newContender(q.keeper, q.inbox, w)
	q.resources[w.resource] = c
	q.keeper.calls.Spawn(func() {
		defer q.forget(c)
		c.run()
	})
	return c
}

// forget removes a contender that has ended, unless it has a successor.
func (q *queue) forget(c *contender) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.resources[c.resource] == c {
		delete(q.resources, c.resource)
	}
}

// inbox receives the messages for all contenders of this process. Each has a name in Redis' queue by which it is found
// here, another one for each turn.
type inbox struct {
	channel   string
	log       *zap.Logger
	listening redisx.Repeated

	mu    sync.Mutex // guards what follows
	open  bool
	names map[string]*contender
	last  int64 // number of the last name
}

var _ store.Listener = (*inbox)(nil)

func newInbox(channel string, log *zap.Logger) *inbox {
	return &inbox{channel: channel, log: log, names: make(map[string]*contender)}
}

// enter gives a contender the name for its next turn.
func (b *inbox) enter(c *contender) (name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.last++
	name = b.channel + ":" + strconv.FormatInt(b.last, 10)
	b.names[name] = c
	return name
}

// drop ends the use of a name.
func (b *inbox) drop(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.names, name)
}

// isOpen reports whether messages arrive.
func (b *inbox) isOpen() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.open
}

// Hear implements store.Listener.
func (b *inbox) Hear(h store.Hint) {
	b.mu.Lock()
	c := b.names[h.Name]
	b.mu.Unlock()
	if c != nil {
		c.hear(h)
	}
}

// Up implements store.Listener. All who wait ask again, as messages may have been lost.
func (b *inbox) Up() {
	b.listening.Over(b.log, "lock: waiters hear of releases again")
	b.mu.Lock()
	defer b.mu.Unlock()
	b.open = true
	for _, c := range b.names {
		c.hear(store.Hint{})
	}
}

// Down implements store.Listener. There is no need to wake anybody: all that wait ask from time to time.
func (b *inbox) Down(err error) {
	b.mu.Lock()
	b.open = false
	b.mu.Unlock()
	b.listening.Log(b.log, zap.InfoLevel,
		"lock: waiters cannot hear of releases, and ask every two seconds until reconnected", zap.Error(err))
}
