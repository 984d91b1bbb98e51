package notification

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/compozy/cache/notification/internal/journal"
)

// drainTick is how often buffers are looked at: receiving from a Go channel wakes nobody.
const drainTick = 2 * time.Millisecond

// Drain waits until the subscriber has taken everything from the buffer that was published before the call, be it under way,
// in the buffer or still to come from the journal. What is published meanwhile arrives as always. It returns nil when that is done
// or the subscription is closed, and otherwise the cause of ctx: without Redis, nobody knows what was published.
func (s *Subscription) Drain(ctx context.Context) error {
	switch {
	case s.none():
		return errNoSubscription()
	case ctx == nil:
		return &ArgumentError{Argument: "ctx", Reason: "is nil"}
	case s.topic == nil:
		return nil // it was refused
	}
	return drain(ctx, s.common, []*Subscription{s})
}

// Drain is Subscription.Drain for all subscriptions that there are. After Close it returns nil.
func (n *RedisNotificationSystem) Drain(ctx context.Context) error {
	switch {
	case n.none():
		return errNoSystem()
	case ctx == nil:
		return &ArgumentError{Argument: "ctx", Reason: "is nil"}
	}
	return drain(ctx, n.common, n.topics.subscriptions())
}

// drain waits for a heartbeat, before which everything has passed that was published before the call, and then until
// subscriptions have got as far and their buffers have been emptied of it. It waits for none that is closed, nor for a heartbeat
// if all are: after Close none comes.
func drain(ctx context.Context, c *common, subs []*Subscription) error {
	if len(subs) == 0 {
		return nil
	}
	closed := func() bool { return !slices.ContainsFunc(subs, (*Subscription).isOpen) }
	if closed() {
		return nil
	}
	if err := c.barrier.wait(ctx, c.beatSoon(), closed); err != nil {
		return err
	}
	return empty(ctx, c, subs)
}

// empty waits until subscriptions have taken from their buffers what has passed on the connection.
func empty(ctx context.Context, c *common, subs []*Subscription) error {
	var target journal.Position
	if c.frontier != nil {
		here, _ := c.frontier.at()
		target = here.limit
	}
	tick := time.NewTicker(drainTick)
	defer tick.Stop()
	for _, s := range subs {
		var mark uint64 // messages that are to be taken
		for marked := false; ; {
			if !marked {
				mark, marked = s.reached(target)
			}
			if marked && s.taken() >= mark {
				break
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
	}
	return nil
}

// reached returns how many messages were ever put into the buffer, once all up to a position are among them.
func (s *Subscription) reached(pos journal.Position) (sent uint64, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return 0, true
	case s.state == pending:
		return 0, !s.resumes
	default:
		return s.sent, s.state == live || !s.at.Less(pos)
	}
}

// taken returns how many messages have left the buffer, or all if the subscription is closed.
func (s *Subscription) taken() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return s.sent
	}
	return s.sent - uint64(len(s.messages))
}

// Close is Shutdown with a budget of one second. It returns nil, and may be called more than once.
func (n *RedisNotificationSystem) Close() error {
	if n.none() {
		return errNoSystem()
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeBudget)
	defer cancel()
	// Running out of budget is no failure of Close: what is buffered can still be received.
	_ = n.Shutdown(ctx)
	return nil
}

// Shutdown takes no more subscriptions, gives the subscribers half of the time until ctx ends to take what was published
// before, and the functions that Handle and Consume have called to return, and then closes them all. Their channels still hand
// out what is left in the buffers. Until then events may be published, such as the results of handlers that finish their work.
// What works on messages from Messages by itself has to be waited for before Shutdown is called. It returns the cause of ctx, or
// context.DeadlineExceeded after half of the time, if messages remained or functions still ran, or Redis could not be reached to
// learn whether there are more; and nil otherwise. Further calls wait for the first one.
func (n *RedisNotificationSystem) Shutdown(ctx context.Context) error {
	if n.none() {
		return errNoSystem()
	}
	if ctx == nil {
		return &ArgumentError{Argument: "ctx", Reason: "is nil"}
	}
	first := false
	n.stopOnce.Do(func() { first = true })
	if !first {
		select {
		case <-n.stopped:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	defer close(n.stopped)
	close(n.draining)
	err := n.drainForClose(ctx)
	close(n.stopping)
	n.startOnce.Do(func() { close(n.caughtUp) }) // so that a Subscribe that comes too late does not start anything
	_ = n.feed.Close(ctx)
	n.cancel()
	for _, s := range n.topics.subscriptions() {
		s.shut(ErrClosed)
	}
	n.awaitCatchup()
	return err
}

// drainForClose is Drain within half of the time, and waits within it for the functions that Handle and Consume have called.
// Without a connection it waits for the next one: what was published meanwhile is in the journal.
func (n *RedisNotificationSystem) drainForClose(ctx context.Context) error {
	if ctx.Err() == nil {
		if deadline, ok := ctx.Deadline(); ok {
			half, cancel := context.WithTimeout(ctx, time.Until(deadline)/2)
			defer cancel()
			ctx = half
		}
	}
	return cmp.Or(n.drainSubscriptions(ctx), n.handlers.wait(ctx), n.consumers.stop(ctx))
}

// drainSubscriptions is Drain, unless no subscription has begun: those that Redis has not confirmed were promised nothing.
func (n *RedisNotificationSystem) drainSubscriptions(ctx context.Context) error {
	subs := n.topics.subscriptions()
	if !slices.ContainsFunc(subs, (*Subscription).hasBegun) {
		return nil
	}
	return drain(ctx, n.common, subs)
}

// awaitCatchup gives the goroutine that catches up a moment to end. One that waits for a server which does not answer,
// through a client that ignores contexts, ends by itself later and must not hold up a shutdown.
func (n *RedisNotificationSystem) awaitCatchup() {
	timer := time.NewTimer(stopGrace)
	defer timer.Stop()
	select {
	case <-n.caughtUp:
	case <-timer.C:
	}
}
