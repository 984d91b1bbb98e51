package fxtest

import (
	"slices"

	"github.com/compozy/cache/internal/glob"
	"github.com/compozy/cache/notification"
)

// Subscriber is what the Subscribe of a NotificationSystem returns. It is safe
// for concurrent use.
type Subscriber struct {
	system   *NotificationSystem
	pattern  string
	glob     bool
	messages chan *notification.Message
	detach   func() bool // stops watching the context; nil if refused

	// Guarded by system.mu, as are sending on messages and closing it.
	closed bool
	err    error
}

var _ notification.Subscriber = (*Subscriber)(nil)

// Messages returns the channel of the messages. It is closed with the
// subscriber; what is unread can still be read then.
func (s *Subscriber) Messages() <-chan *notification.Message { return s.messages }

// Pattern returns what was given to Subscribe.
func (s *Subscriber) Pattern() string { return s.pattern }

// Err returns why the subscriber was closed or refused, and nil while it is open
// and after its own Close.
func (s *Subscriber) Err() error {
	s.system.mu.Lock()
	defer s.system.mu.Unlock()
	return s.err
}

// Close ends the subscription. It returns nil, and may be repeated.
func (s *Subscriber) Close() error {
	s.system.mu.Lock()
	defer s.system.mu.Unlock()
	s.end(nil)
	return nil
}

// end closes the subscriber. system.mu is held.
func (s *Subscriber) end(err error) {
	if s.closed {
		return
	}
	s.closed, s.err = true, err
	close(s.messages)
	if s.detach != nil {
		s.detach()
	}
	s.system.subscribers = slices.DeleteFunc(s.system.subscribers, func(other *Subscriber) bool { return other == s })
}

// matches reports whether the subscriber wants what is published to channel.
func (s *Subscriber) matches(channel string) bool {
	if s.glob {
		return glob.Match(s.pattern, channel)
	}
	return s.pattern == channel
}
