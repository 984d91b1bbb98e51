package watermill

import (
	"context"
	"errors"
	"math"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/compozy/cache/notification"
)

var (
	errClosed = errors.New("the subscriber is closed")
	errNacked = errors.New("the message was not acknowledged")
)

// Subscriber is a message.Subscriber. In a group it consumes: the subscribers of the group share the messages, each comes at
// least once, and the group keeps its place. Without one it listens: every subscription gets all that the journal has, and then
// what is published.
type Subscriber struct {
	System *notification.RedisNotificationSystem // stays the caller's to close
	Group  string                                // empty for none

	mu      sync.Mutex
	closed  bool
	cancels []context.CancelFunc
	running sync.WaitGroup
}

var (
	_ message.Subscriber           = (*Subscriber)(nil)
	_ message.SubscribeInitializer = (*Subscriber)(nil)
)

// Subscribe implements message.Subscriber. It returns when what is published from now on arrives.
func (s *Subscriber) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	ctx, cancel := context.WithCancel(ctx)
	out := make(chan *message.Message)
	ready := make(chan error, 1)
	begun := s.begin(cancel, func() {
		defer close(out)
		defer cancel()
		if s.Group == "" {
			ready <- s.listen(ctx, topic, out, func() { ready <- nil })
		} else {
			ready <- s.consume(ctx, topic, out, func() { ready <- nil })
		}
	})
	if !begun {
		cancel()
		return nil, errClosed
	}
	if err := <-ready; err != nil {
		return nil, err
	}
	return out, nil
}

// SubscribeInitialize implements message.SubscribeInitializer: a group begins with what is published from now on.
func (s *Subscriber) SubscribeInitialize(topic string) error {
	if s.Group == "" {
		return nil
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	return s.consume(ctx, topic, nil, cancel)
}

// begin runs work in a goroutine that Close cancels and waits for. It reports whether it does.
func (s *Subscriber) begin(cancel context.CancelFunc, work func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.cancels = append(s.cancels, cancel)
	s.running.Go(work)
	return true
}

// Close implements message.Subscriber. It may be repeated.
func (s *Subscriber) Close() error {
	s.mu.Lock()
	s.closed = true
	for _, cancel := range s.cancels {
		cancel()
	}
	s.mu.Unlock()
	s.running.Wait()
	return nil
}

// consume hands the group's messages of a topic out until ctx ends.
func (s *Subscriber) consume(ctx context.Context, topic string, out chan<- *message.Message, ready func()) error {
	return notification.Consume(ctx, s.System, s.Group+" "+topic, notification.Literal(topic),
		func(ctx context.Context, e envelope) error { return deliver(ctx, &e, out) },
		notification.WithReady(ready),
		// Watermill gives nothing up, and hands a message that failed out again at once.
		notification.WithMaxAttempts(math.MaxInt32), notification.WithBackoff(time.Millisecond, time.Millisecond))
}

// listen hands all messages of a topic out until ctx ends.
func (s *Subscriber) listen(ctx context.Context, topic string, out chan<- *message.Message, ready func()) error {
	sub := s.System.SubscribeFrom(ctx, notification.Literal(topic), "")
	if err := sub.Err(); err != nil {
		return err
	}
	ready()
	for m := range sub.Messages() {
		e, err := notification.Decode[envelope](m)
		if err != nil {
			return err
		}
		for errors.Is(deliver(ctx, &e, out), errNacked) {
		}
	}
	return nil
}

// deliver hands a message out, and returns nil when it is acknowledged.
func deliver(ctx context.Context, e *envelope, out chan<- *message.Message) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	m := e.message(ctx)
	select {
	case out <- m:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	select {
	case <-m.Acked():
		return nil
	case <-m.Nacked():
		return errNacked
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
