package watermill

import (
	"context"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/compozy/cache/notification"
)

// envelope is a message of Watermill as it is published.
type envelope struct {
	UUID     string            `json:"uuid"`
	Metadata map[string]string `json:"metadata"`
	Payload  []byte            `json:"payload"`
}

func (e *envelope) message(ctx context.Context) *message.Message {
	m := message.NewMessageWithContext(ctx, e.UUID, e.Payload)
	for key, value := range e.Metadata {
		m.Metadata.Set(key, value)
	}
	return m
}

// Publisher publishes to the channel with the name of the topic.
type Publisher struct {
	System *notification.RedisNotificationSystem // stays the caller's to close
}

var _ message.Publisher = (*Publisher)(nil)

// Publish implements message.Publisher. Several messages are sent at once, with the context of the first one.
func (p *Publisher) Publish(topic string, messages ...*message.Message) error {
	if len(messages) == 0 {
		return nil
	}
	events := make([]notification.Outgoing, len(messages))
	for i, m := range messages {
		events[i] = notification.To(topic, envelope{m.UUID, m.Metadata, m.Payload})
	}
	return p.System.PublishBatch(messages[0].Context(), events...)
}

// Close implements message.Publisher. There is nothing to flush.
func (p *Publisher) Close() error { return nil }
