package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/notification"
)

const (
	subscribers = 10000
	// rawSubscribers is how many PubSubs of go-redis are opened for comparison:
	// with one connection each, more would need a raised limit of open files.
	rawSubscribers = 200
	receiveLimit   = 10 * time.Second
)

// drain receives one message from each channel.
func drain(ctx context.Context, channels []<-chan *notification.Message) error {
	timeout := time.NewTimer(receiveLimit)
	defer timeout.Stop()
	for _, c := range channels {
		select {
		case _, ok := <-c:
			if !ok {
				return errors.New("subscription closed")
			}
		case <-timeout.C:
			return errors.New("no message arrived")
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// measureFanOut compares the time from before a publish until the last of
// 10,000 subscribers has its message with what Go itself needs to send on
// 10,000 buffered channels, without Redis and with it. In all cases one
// goroutine receives from all.
func measureFanOut(ctx context.Context, s *scope, e effort) (report, error) {
	server := redistest.Start(s)
	client := newPlain(s, server)
	system := newNotifications(s, client)
	ev := newEvent()

	channels := make([]<-chan *notification.Message, subscribers)
	for i := range channels {
		channels[i] = system.Subscribe(ctx, channel).Messages()
	}
	connections, err := pubsubConnections(ctx, client)
	if err != nil {
		return report{}, err
	}
	raw := client.Subscribe(ctx, "bench:raw")
	s.Cleanup(func() { _ = raw.Close() })
	if _, err := raw.Receive(ctx); err != nil {
		return report{}, fmt.Errorf("subscribe: %w", err)
	}

	bare := newBareLoop(s)
	result, err := e.runRace(ctx, 1,
		contender{"ours", func(ctx context.Context, _ int) error {
			if err := system.Publish(ctx, channel, ev); err != nil {
				return err
			}
			return drain(ctx, channels)
		}},
		contender{"bare loop", func(ctx context.Context, _ int) error {
			bare.trigger <- &notification.Message{Channel: channel}
			return drain(ctx, bare.receivers)
		}},
		contender{"PUBLISH and bare loop", func(ctx context.Context, _ int) error {
			if err := client.Publish(ctx, "bench:raw", ev.Data).Err(); err != nil {
				return err
			}
			received, err := raw.ReceiveMessage(ctx)
			if err != nil {
				return err
			}
			bare.trigger <- &notification.Message{Channel: received.Channel, Payload: received.Payload}
			return drain(ctx, bare.receivers)
		}},
	)
	if err != nil {
		return report{}, err
	}
	each, err := rawConnections(ctx, server)
	if err != nil {
		return report{}, err
	}
	return report{rows: []row{
		{
			what: "fan-out of one event to 10,000 subscribers: time", against: "loop over 10,000 Go channels",
			goal: atMost(2), value: result.times(1), unit: "×", detail: result.both(1),
		},
		{
			what: "fan-out of one event to 10,000 subscribers: time", against: "one raw PubSub and that loop",
			goal: noGoal(), value: result.times(2), unit: "×", detail: result.both(2),
		},
		{
			what: "10,000 subscribers: connections", against: "go-redis, a PubSub each",
			goal: atMost(1), value: count(float64(connections)), unit: "conn.",
			detail: fmt.Sprintf("%d; %s per subscriber", connections, number(float64(each)/rawSubscribers)),
		},
	}}, nil
}

// bareLoop sends to as many channels as there are subscribers, on a goroutine
// of its own, as a dispatcher does.
type bareLoop struct {
	trigger   chan *notification.Message
	receivers []<-chan *notification.Message
}

func newBareLoop(s *scope) *bareLoop {
	b := &bareLoop{
		trigger:   make(chan *notification.Message),
		receivers: make([]<-chan *notification.Message, subscribers),
	}
	senders := make([]chan *notification.Message, subscribers)
	for i := range senders {
		senders[i] = make(chan *notification.Message, 100) // the default buffer of a subscription
		b.receivers[i] = senders[i]
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for message := range b.trigger {
			for _, c := range senders {
				c <- message
			}
		}
	}()
	s.Cleanup(func() {
		close(b.trigger)
		<-done
	})
	return b
}

// rawConnections returns how many subscribing connections go-redis opens for
// rawSubscribers PubSubs.
func rawConnections(ctx context.Context, server *redistest.Server) (connections int, err error) {
	err = run(func(s *scope) error {
		client := newPlain(s, server)
		before, err := pubsubConnections(ctx, client)
		if err != nil {
			return err
		}
		for range rawSubscribers {
			raw := client.Subscribe(ctx, channel)
			s.Cleanup(func() { _ = raw.Close() })
			if _, err := raw.Receive(ctx); err != nil {
				return fmt.Errorf("subscribe: %w", err)
			}
		}
		after, err := pubsubConnections(ctx, client)
		connections = after - before
		return err
	})
	return connections, err
}

// pubsubConnections asks the server for the number of its subscribing connections.
func pubsubConnections(ctx context.Context, client redis.UniversalClient) (int, error) {
	list, err := client.Do(ctx, "CLIENT", "LIST", "TYPE", "pubsub").Text()
	if err != nil {
		return 0, fmt.Errorf("list connections: %w", err)
	}
	return strings.Count(list, "\n"), nil
}
