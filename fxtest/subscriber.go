package fxtest

import (
	"cmp"
	"slices"
	"time"

	"github.com/compozy/cache/internal/glob"
	"github.com/compozy/cache/notification"
)

// Subscriber is what the Subscribe of a NotificationSystem returns. It is safe
// for concurrent use.
type Subscriber struct {
	system   *NotificationSystem
	pattern  string
	glob     bool
	only     func(Event) bool // nil: everything on its channels
	messages chan *notification.Message
	gaps     chan notification.Gap
	detach   func() bool // stops watching the context; nil if refused

	// Guarded by system.mu, as are sending on the channels and closing them.
	closed bool
	err    error
	gap    *notification.Gap // reported with the next message
	last   string            // event ID of the last message
	// waiting is what did not fit into messages. While there is any, a goroutine puts it there as
	// room comes, and only that closes messages; over ends it.
	waiting []*notification.Message
	feeding bool
	over    chan struct{}
}

var _ notification.Subscriber = (*Subscriber)(nil)

// Messages returns the channel of the messages. It is closed with the
// subscriber; what is unread can still be read then.
func (s *Subscriber) Messages() <-chan *notification.Message { return s.messages }

// Gaps returns the channel on which the gaps made by Miss arrive at once. It
// need not be read: what does not fit comes with the next message only. It is
// closed with the subscriber.
func (s *Subscriber) Gaps() <-chan notification.Gap { return s.gaps }

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
	if s.feeding {
		close(s.over)
	} else {
		close(s.messages)
	}
	close(s.gaps)
	if s.detach != nil {
		s.detach()
	}
	s.system.subscribers = slices.DeleteFunc(s.system.subscribers, func(other *Subscriber) bool { return other == s })
}

// miss reports a gap. system.mu is held.
func (s *Subscriber) miss(reason notification.GapReason) {
	s.gap = &notification.Gap{Reason: reason, After: s.last, Time: time.Now()}
	select {
	case s.gaps <- *s.gap:
	default:
	}
}

// send puts a message into the buffer, with the gap in front of it, or behind what waits for
// room. system.mu is held.
func (s *Subscriber) send(m *notification.Message) {
	if m.Gap = s.gap; m.Gap != nil {
		m.Gap.Before = m.EventID
	}
	s.gap, s.last = nil, cmp.Or(m.EventID, s.last)
	if !s.feeding {
		select {
		case s.messages <- m:
			return
		default:
		}
		s.feeding, s.over = true, make(chan struct{})
		go s.feed()
	}
	s.waiting = append(s.waiting, m)
}

// feed moves what waits into the buffer until nothing waits or the subscriber is closed.
func (s *Subscriber) feed() {
	for {
		m := s.next()
		if m == nil {
			return
		}
		select {
		case s.messages <- m:
		case <-s.over:
			s.giveUp()
			return
		}
	}
}

// next takes what waits longest. It returns nil, and feeding is over, when nothing waits.
func (s *Subscriber) next() *notification.Message {
	s.system.mu.Lock()
	defer s.system.mu.Unlock()
	if len(s.waiting) > 0 {
		m := s.waiting[0]
		s.waiting = s.waiting[1:]
		return m
	}
	s.waiting, s.feeding = nil, false
	if s.closed {
		close(s.messages)
	}
	return nil
}

// giveUp counts what a closed subscriber does not get: the message in hand, and what waits behind it.
func (s *Subscriber) giveUp() {
	s.system.mu.Lock()
	defer s.system.mu.Unlock()
	s.system.dropped += 1 + len(s.waiting)
	s.waiting, s.feeding = nil, false
	close(s.messages)
}

// matches reports whether the subscriber wants what is published to channel.
func (s *Subscriber) matches(channel string) bool {
	if s.glob {
		return glob.Match(s.pattern, channel)
	}
	return s.pattern == channel
}
