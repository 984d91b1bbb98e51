package fxtest

import (
	"slices"
	"testing"
	"time"

	"github.com/compozy/cache/notification"
)

// workflow publishes an event that must be accepted.
func workflow(t testing.TB, s notification.NotificationSystem, id, status string) {
	t.Helper()
	must(t, s.PublishWorkflowEvent(t.Context(), &notification.WorkflowEvent{ID: id, Status: status}), "publishing")
}

// receive waits for the next message.
func receive(t testing.TB, sub notification.Subscriber, name string) *notification.Message {
	t.Helper()
	select {
	case m, open := <-sub.Messages():
		if !open {
			t.Fatalf("%s: the subscriber is closed", name)
		}
		return m
	case <-time.After(patience):
		t.Fatalf("%s: no message after %v", name, patience)
	}
	return nil
}

// wantClosed waits for the end of the messages and returns those before it.
func wantClosed(t testing.TB, sub notification.Subscriber, which string) (rest []*notification.Message) {
	t.Helper()
	if sub == nil {
		t.Fatalf("a subscriber %s: got nil", which)
	}
	end := time.After(patience)
	for {
		select {
		case m, open := <-sub.Messages():
			if !open {
				return rest
			}
			rest = append(rest, m)
		case <-end:
			t.Fatalf("a subscriber %s is still open after %v", which, patience)
		}
	}
}

func status(t testing.TB, m *notification.Message) string {
	t.Helper()
	e, err := notification.Decode[notification.WorkflowEvent](m)
	must(t, err, "decoding "+m.Payload)
	return e.Status
}

// wantIn checks that the message names one of the event's channels.
func wantIn(t testing.TB, m *notification.Message, channels ...string) {
	t.Helper()
	if slices.Contains(channels, m.Channel) {
		return
	}
	t.Errorf("the message names the channel %q, want one of %q", m.Channel, channels)
}

// wantName checks that a message names the glob it matched, or no glob but its
// channel.
func wantName(t testing.TB, m *notification.Message, subscribed string) {
	t.Helper()
	isGlob := m.Pattern != ""
	if isGlob && m.Pattern != subscribed || !isGlob && m.Channel != subscribed {
		t.Errorf("subscribed to %q: the message names channel %q and pattern %q", subscribed, m.Channel, m.Pattern)
	}
}
