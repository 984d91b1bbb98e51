package notification

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/compozy/cache/notification/internal/feed"
)

// HealthCheck is for readiness: it returns nil while there are no subscriptions or all are being served, and an
// error matching ErrNotLive while the shared connection is cut, being recovered, or silent, or Redis refuses a
// subscription: until one to the same name is accepted, or the context ends that was given to the last one refused. In a
// Cluster it also does while SSUBSCRIBE is refused. It waits for at most
// ctx or the ping timeout for a cut connection to come back. After Close it returns ErrClosed, and an *ArgumentError
// without a ctx. Safe for concurrent use.
func (n *RedisNotificationSystem) HealthCheck(ctx context.Context) error {
	if n.none() {
		return errNoSystem()
	}
	if ctx == nil {
		return &ArgumentError{Argument: "ctx", Reason: "is nil"}
	}
	if n.isDraining() {
		return ErrClosed
	}
	if err := n.common.refusals.err(); err != nil {
		return err
	}
	if n.topics.subscribers() == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, n.set.pingTimeout)
	defer cancel()
	for {
		state, changed := n.health.at()
		if state == served {
			break
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return errors.Join(ErrNotLive, n.feed.Status().Cause)
		}
	}
	status := n.feed.Status()
	if status.Unguarded != nil {
		return fmt.Errorf("%w: %w", ErrNotLive, status.Unguarded)
	}
	if status.Silence > n.set.deadline() {
		return fmt.Errorf("%w: no heartbeat for %v", ErrNotLive, status.Silence.Round(time.Millisecond))
	}
	return nil
}

// Alive is for liveness: it returns an error only if the system's own goroutines stopped or hang, whatever the
// state of Redis. It returns nil before the first Subscribe and after Close. It sends nothing. Safe for concurrent
// use.
func (n *RedisNotificationSystem) Alive() error {
	if n.none() {
		return errNoSystem()
	}
	if n.isDraining() {
		return nil
	}
	if n.working.Load() == stoppedEarly {
		return errors.New("notification: the goroutine that catches up has ended")
	}
	return n.feed.Alive()
}

// heartbeatAge returns how long ago a heartbeat came back, 0 if none is expected.
func (n *RedisNotificationSystem) heartbeatAge() time.Duration {
	if n.closed() {
		return 0
	}
	return n.feed.Status().Silence
}

// journalAge returns how old the first event in the journal is, by the clock of this process, and whether that is known: as
// long as heartbeats come back, and there is an event.
func (n *RedisNotificationSystem) journalAge() (age time.Duration, known bool) {
	oldest := n.metrics.oldest.Load()
	if oldest == 0 || n.closed() || n.feed.Status().Silence > n.set.deadline() {
		return 0, false
	}
	return max(time.Since(time.UnixMilli(oldest)), 0), true
}

// condition is how well subscriptions are served.
type condition uint8

const (
	cut        condition = iota // they are not
	recovering                  // they are, but some have not caught up after a cut
	served
)

// liveness holds a condition that may be waited for. Safe for concurrent use.
type liveness struct {
	mu      sync.Mutex
	is      condition
	changed chan struct{} // closed and replaced when it changes
	began   time.Time     // when it became recovering
	first   bool          // there was nothing to recover
}

func newLiveness() *liveness { return &liveness{changed: make(chan struct{})} }

func (l *liveness) at() (is condition, changed <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.is, l.changed
}

func (l *liveness) set(to condition) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.become(to)
}

// recover notes that a recovery begins, or the first session.
func (l *liveness) recover(first bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.began, l.first = time.Now(), first
	l.become(recovering)
}

// recovered notes that the last one has caught up. It returns how long that took, and whether it is worth telling.
func (l *liveness) recovered() (took time.Duration, tell bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.is != recovering {
		return 0, false
	}
	l.become(served)
	return time.Since(l.began), !l.first
}

// become is called with mu held.
func (l *liveness) become(to condition) {
	if l.is != to {
		l.is = to
		close(l.changed)
		l.changed = make(chan struct{})
	}
}

// barrier tells which heartbeats have come back. Safe for concurrent use.
type barrier struct {
	mu      sync.Mutex
	reached uint64
	waiting int
	next    chan struct{} // closed and replaced when another one has
}

func newBarrier() *barrier { return &barrier{next: make(chan struct{})} }

// reach notes a heartbeat: all that was published before it is in the buffers, or a subscription is behind.
func (b *barrier) reach(number uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.reached = max(b.reached, number)
	if b.waiting > 0 {
		close(b.next)
		b.next = make(chan struct{})
	}
}

func (b *barrier) awaited() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.waiting > 0
}

// wait waits for a heartbeat, or a later one, until there is nobody to wait for any more, which it looks at now and then. It
// returns the cause of ctx if that ends before.
func (b *barrier) wait(ctx context.Context, number uint64, over func() bool) error {
	tick := time.NewTicker(drainTick)
	defer tick.Stop()
	b.mu.Lock()
	b.waiting++
	defer func() {
		b.waiting--
		b.mu.Unlock()
	}()
	for b.reached < number {
		next := b.next
		b.mu.Unlock()
		select {
		case <-next:
		case <-tick.C:
		case <-ctx.Done():
		}
		none := over()
		b.mu.Lock()
		if none {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	return nil
}

// refusals are the names that Redis does not let us listen to although a component wants to: it has subscribed with a
// context that goes on. A refused subscription is closed, so that nothing else remembers it.
type refusals struct {
	mu sync.Mutex
	// byName holds the last subscription to each name. One is enough, and a component that tries again and again with the
	// same context must not pile up more.
	byName map[feed.Name]*Subscription
	some   atomic.Bool // it is not empty
}

// add notes that Redis refused the name of s.
func (r *refusals) add(s *Subscription) {
	r.mu.Lock()
	earlier := r.byName[s.name]
	if r.byName == nil {
		r.byName = make(map[feed.Name]*Subscription)
	}
	r.byName[s.name] = s
	r.some.Store(true)
	r.mu.Unlock()
	if earlier != nil && earlier != s {
		earlier.unwatch()
	}
}

// granted notes that Redis accepted a name.
func (r *refusals) granted(n feed.Name) {
	if !r.some.Load() {
		return
	}
	r.mu.Lock()
	s := r.byName[n]
	delete(r.byName, n)
	r.some.Store(len(r.byName) > 0)
	r.mu.Unlock()
	if s != nil {
		s.unwatch()
	}
}

// forget notes that nobody waits for s any more.
func (r *refusals) forget(s *Subscription) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.byName[s.name] == s {
		delete(r.byName, s.name)
		r.some.Store(len(r.byName) > 0)
	}
}

// err returns an error that names one of them and counts the others, or nil if there are none.
func (r *refusals) err() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.byName) == 0 {
		return nil
	}
	byText := func(a, b feed.Name) int { return strings.Compare(a.Text, b.Text) }
	first := r.byName[slices.MinFunc(slices.Collect(maps.Keys(r.byName)), byText)]
	err := fmt.Errorf("%w: %w", ErrNotLive, first.Err())
	if others := len(r.byName) - 1; others > 0 {
		err = fmt.Errorf("%w (and %d more)", err, others)
	}
	return err
}
