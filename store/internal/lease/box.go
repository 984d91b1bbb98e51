package lease

import (
	"context"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/compozy/cache/internal/inbox"
	"github.com/compozy/cache/internal/redisx"
	"github.com/compozy/cache/store/internal/wake"
)

// maxMessages is how many messages a waiter keeps. It waits for one.
const maxMessages = 8

// box receives the messages for all who wait in this process.
type box struct {
	set     Settings
	channel string
	start   sync.Once
	settled chan struct{} // closed when connecting has succeeded or failed for the first time
	settle  sync.Once
	listens redisx.Repeated

	mu      sync.Mutex                      // guards waiters, and what they have received
	waiters map[string]map[*waiter]struct{} // by the key of the lease
}

var _ inbox.Listener = (*box)(nil)

// waiter is one who waits for the end of a lease.
type waiter struct {
	box    *box
	lease  string
	signal chan struct{} // has room for one
	// What follows is guarded by the box's mutex.
	messages []wake.Message
	missed   bool // messages may have been lost
	waits    bool // for somebody else
}

func newBox(set Settings, channel string) *box {
	return &box{
		set: set, channel: strings.ReplaceAll(channel, "\n", "_"), // which separates the inboxes in a lease
		settled: make(chan struct{}), waiters: make(map[string]map[*waiter]struct{}),
	}
}

// ready starts listening, and waits until messages arrive, or it is known that they do not.
func (b *box) ready(ctx context.Context) {
	b.start.Do(func() {
		b.set.Go(func() { inbox.Listen(b.set.Closing, b.set.Client, b.channel, b.set.Timeout, b) })
	})
	select {
	case <-b.settled:
		return
	default:
	}
	timer := time.NewTimer(b.set.Timeout)
	defer timer.Stop()
	select {
	case <-b.settled:
	case <-timer.C:
	case <-ctx.Done():
	}
}

// enter returns a waiter that receives what is said about a lease.
func (b *box) enter(lease string) *waiter {
	w := &waiter{box: b, lease: lease, signal: make(chan struct{}, 1)}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.waiters[lease] == nil {
		b.waiters[lease] = make(map[*waiter]struct{})
	}
	b.waiters[lease][w] = struct{}{}
	return w
}

// leave ends what enter has begun.
func (b *box) leave(w *waiter) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.waiters[w.lease], w)
	if len(b.waiters[w.lease]) == 0 {
		delete(b.waiters, w.lease)
	}
}

// Hear implements inbox.Listener.
func (b *box) Hear(payload string) {
	m, ok := wake.Parse(payload)
	if !ok {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for w := range b.waiters[m.Lease] {
		if len(w.messages) == maxMessages {
			w.messages, w.missed = nil, true
		}
		w.messages = append(w.messages, m)
		w.notify()
	}
}

// Up implements inbox.Listener. All who wait ask again, as messages may have been lost.
func (b *box) Up() {
	b.settle.Do(func() { close(b.settled) })
	b.listens.Over(b.set.Log, "store: those who wait for a load hear of its end again")
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, waiters := range b.waiters {
		for w := range waiters {
			w.missed = true
			w.notify()
		}
	}
}

// Down implements inbox.Listener. There is no need to wake anybody: all that wait ask when the lease
// runs out.
func (b *box) Down(err error) {
	b.settle.Do(func() { close(b.settled) })
	b.listens.Log(b.set.Log, zap.InfoLevel,
		"store: those who wait for a load do not hear of its end, and ask every two seconds until reconnected", zap.Error(err))
}

// Waiting returns on how many keys claims wait for somebody else.
func (l *Leases) Waiting() int {
	l.inbox.mu.Lock()
	defer l.inbox.mu.Unlock()
	waiting := 0
	for _, waiters := range l.inbox.waiters {
		for w := range waiters {
			if w.waits {
				waiting++
				break
			}
		}
	}
	return waiting
}

// notify wakes the waiter. The caller holds the box's mutex.
func (w *waiter) notify() {
	select {
	case w.signal <- struct{}{}:
	default:
	}
}

// take returns what the waiter has received, and whether something may have been lost.
func (w *waiter) take() (messages []wake.Message, missed bool) {
	w.box.mu.Lock()
	defer w.box.mu.Unlock()
	messages, missed = w.messages, w.missed
	w.messages, w.missed = nil, false
	return messages, missed
}

// setWaits takes note of whether the waiter waits for somebody else.
func (w *waiter) setWaits(waits bool) {
	w.box.mu.Lock()
	defer w.box.mu.Unlock()
	w.waits = waits
}

// clear forgets what the waiter has received: the answer to what it asks now is newer.
func (w *waiter) clear() {
	w.take()
	select {
	case <-w.signal:
	default:
	}
}
