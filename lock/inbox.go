package lock

import (
	"context"
	"errors"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/compozy/cache/internal/redisx"
)

const (
	// pingAfter is how long an inbox may be silent before it is asked whether it lives, and how long it may take to
	// answer. go-redis alone does not notice a half-open connection.
	pingAfter = 3 * time.Second
	// minReconnectDelay and maxReconnectDelay bound the pause before an inbox connects again.
	minReconnectDelay = 20 * time.Millisecond
	maxReconnectDelay = time.Second
)

// inbox is the channel through which a node tells this manager that it has a lock now. There is one for all resources,
// open from the first time that somebody has to wait until Close.
type inbox struct {
	node *node

	mu      sync.Mutex // guards what follows
	started bool
	up      bool          // subscribed: what is published from now on arrives
	settled chan struct{} // closed when the first try to subscribe has succeeded or failed
}

func newInbox(n *node) *inbox { return &inbox{node: n, settled: make(chan struct{})} }

// inboxesUp reports whether enough nodes can tell us of a release.
func (m *RedisLockManager) inboxesUp() bool {
	up := 0
	for _, n := range m.nodes {
		n.inbox.mu.Lock()
		if n.inbox.up {
			up++
		}
		n.inbox.mu.Unlock()
	}
	return up >= m.quorum()
}

// openInboxes opens the inboxes if they are not and reports whether enough of them are up. It waits for each to try
// once, but no longer than until stop is closed.
func (m *RedisLockManager) openInboxes(stop <-chan struct{}) bool {
	for _, n := range m.nodes {
		n.inbox.open()
	}
	late := time.NewTimer(maxNodeTimeout)
	defer late.Stop()
	for _, n := range m.nodes {
		if m.inboxesUp() {
			return true // a node that is down does not hold up the others
		}
		select {
		case <-n.inbox.settled:
		case <-stop:
			return false
		case <-m.closing.Done():
			return false
		case <-late.C:
			return m.inboxesUp()
		}
	}
	return m.inboxesUp()
}

func (b *inbox) open() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.started {
		b.started = b.node.manager.tasks.spawn(b.run)
	}
}

// run keeps the subscription until the manager is closing.
func (b *inbox) run() {
	m := b.node.manager
	ctx, cancel := context.WithCancel(m.ctx)
	defer cancel()
	go func() { // ends with ctx at the latest
		select {
		case <-m.closing.Done():
			cancel()
		case <-ctx.Done():
		}
	}()
	var settle sync.Once
	delay := minReconnectDelay
	for ctx.Err() == nil {
		err := b.session(ctx, func() {
			b.setUp(true)
			settle.Do(func() { close(b.settled) })
			delay = minReconnectDelay
			m.listening.Over(m.set.logger, "lock: waiters hear of releases again")
			m.waiters.nudge() // while there was no connection, messages were lost
		})
		if b.setUp(false) {
			m.waiters.nudge() // those who rely on being told, and are not from now on
		}
		settle.Do(func() { close(b.settled) })
		if ctx.Err() != nil {
			return
		}
		m.listening.Log(m.set.logger, zap.InfoLevel, "lock: waiters cannot be told of releases, polling until reconnected", zap.Error(err))
		_ = redisx.Sleep(ctx, delay)
		delay = min(2*delay, maxReconnectDelay)
	}
}

// setUp takes note of the state, and reports whether it is a new one.
func (b *inbox) setUp(up bool) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	changed := b.up != up
	b.up = up
	return changed
}

// session subscribes and reads until the connection fails.
func (b *inbox) session(ctx context.Context, subscribed func()) error {
	m := b.node.manager
	pubsub := b.node.client.Subscribe(ctx)
	detach := context.AfterFunc(ctx, func() { _ = pubsub.Close() })
	defer func() {
		if detach() {
			_ = pubsub.Close()
		}
	}()
	// Close waits for what a node that hangs holds up, and cannot end it.
	limited := func(call func(context.Context) error) error {
		ctx, cancel := context.WithTimeout(ctx, maxNodeTimeout)
		defer cancel()
		return call(ctx)
	}
	err := limited(func(ctx context.Context) error { return pubsub.Subscribe(ctx, m.inboxPrefix+m.id) })
	if err != nil {
		return err
	}
	pinged := false
	for {
		msg, err := pubsub.ReceiveTimeout(ctx, pingAfter)
		var timeout net.Error
		switch {
		case err == nil:
			pinged = false
		case errors.As(err, &timeout) && timeout.Timeout() && !pinged:
			pinged = true
			if err := limited(func(ctx context.Context) error { return pubsub.Ping(ctx) }); err != nil {
				return err
			}
			continue
		default:
			return err
		}
		switch msg := msg.(type) {
		case *redis.Subscription:
			subscribed()
		case *redis.Message:
			b.read(msg.Payload)
		}
	}
}

// read takes in a message: the value, the token and the server's clock.
func (b *inbox) read(payload string) {
	m := b.node.manager
	value, rest, _ := strings.Cut(payload, " ")
	first, second, _ := strings.Cut(rest, " ")
	token, err1 := strconv.ParseInt(first, 10, 64)
	clock, err2 := strconv.ParseInt(second, 10, 64)
	if err1 != nil || err2 != nil {
		m.set.logger.Warn("lock: foreign message in the inbox")
		return
	}
	m.waiters.deliver(news{node: b.node, value: value, token: token, time: clock})
}
