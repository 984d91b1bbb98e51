package fxtest

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/compozy/cache/internal/glob"
	"github.com/compozy/cache/notification"
)

// unreadLimit is how many unread messages the channel of a subscriber has room for.
const unreadLimit = 1024

// gapLimit is how many gaps it may leave unread.
const gapLimit = 4

// Event is one event that was published to a NotificationSystem.
type Event struct {
	ID       string    // the event_id in the payload, larger than every earlier one
	Time     time.Time // the time in the payload
	Channels []string  // what it was published to
	Payload  string    // what subscribers get

	// A copy of what was given to PublishWorkflowEvent, PublishTaskEvent or
	// Publish; the others are nil.
	Workflow *notification.WorkflowEvent
	Task     *notification.TaskEvent
	Value    any
}

// NotificationSystem is a notification.NotificationSystem in memory, for tests
// that need no Redis. It keeps the promises of the interface (see
// NotificationSystemContract), records what is published, and can be made to fail
// and to miss events. Make one with NewNotificationSystem; it is safe for
// concurrent use and works in a testing/synctest bubble.
//
// A message is in the subscriber's channel when the publishing call returns. From 1024 unread
// messages on, the further ones wait until there is room, as with PolicyReplay: a goroutine
// brings them then, which ends when all are there or the subscriber is closed.
type NotificationSystem struct {
	mu          sync.Mutex // guards what follows and the state of all subscribers
	subscribers []*Subscriber
	published   []Event
	groups      map[string]*group // of notification.Consume, by name
	failure     error
	closed      bool
	last        eventID
	dropped     int
}

var _ notification.NotificationSystem = (*NotificationSystem)(nil)

// NewNotificationSystem returns a system without subscribers and events.
func NewNotificationSystem() *NotificationSystem { return &NotificationSystem{} }

// PublishWorkflowEvent delivers event to the channels "workflow:events" and
// "workflow:<ID>" and records it. It returns a *notification.ArgumentError (nil
// ctx or event, an ID that is empty or not UTF-8, data that is no JSON), ctx's own error,
// notification.ErrClosed, or a *notification.PublishError with the error given
// to Fail; nothing is delivered or recorded then.
func (s *NotificationSystem) PublishWorkflowEvent(ctx context.Context, event *notification.WorkflowEvent) error {
	switch {
	case event == nil:
		return &notification.ArgumentError{Argument: "event", Reason: "is nil"}
	case event.ID == "":
		return &notification.ArgumentError{Argument: "event.ID", Reason: "is empty"}
	case !utf8.ValidString(event.ID):
		return &notification.ArgumentError{Argument: "event.ID", Reason: "is not UTF-8"}
	}
	sent := *event
	sent.EventID, sent.Time = "", time.Time{} // ours to give
	return s.publish(ctx, "event.Data", sent, Event{
		Channels: []string{"workflow:events", "workflow:" + event.ID},
		Workflow: &sent,
	})
}

// PublishTaskEvent is like PublishWorkflowEvent; the channels are "task:events",
// "task:<ID>" and, if it has a workflow, "task:workflow:<workflow ID>".
func (s *NotificationSystem) PublishTaskEvent(ctx context.Context, event *notification.TaskEvent) error {
	switch {
	case event == nil:
		return &notification.ArgumentError{Argument: "event", Reason: "is nil"}
	case event.ID == "":
		return &notification.ArgumentError{Argument: "event.ID", Reason: "is empty"}
	case !utf8.ValidString(event.ID):
		return &notification.ArgumentError{Argument: "event.ID", Reason: "is not UTF-8"}
	case !utf8.ValidString(event.WorkflowID):
		return &notification.ArgumentError{Argument: "event.WorkflowID", Reason: "is not UTF-8"}
	}
	sent := *event
	sent.EventID, sent.Time = "", time.Time{}
	channels := []string{"task:events", "task:" + event.ID}
	if event.WorkflowID != "" {
		channels = append(channels, "task:workflow:"+event.WorkflowID)
	}
	return s.publish(ctx, "event.Data", sent, Event{Channels: channels, Task: &sent})
}

// Publish delivers v, which must marshal to a JSON object without the fields
// "event_id" and "time", to one channel and records it. Its errors are those of PublishWorkflowEvent. It is not part of
// the interface, but of *notification.RedisNotificationSystem.
func (s *NotificationSystem) Publish(ctx context.Context, channel string, v any) error {
	if channel == "" {
		return &notification.ArgumentError{Argument: "channel", Reason: "is empty"}
	}
	sent, err := bare(v)
	if err != nil {
		return err
	}
	return s.publish(ctx, "v", sent, Event{Channels: []string{channel}, Value: v})
}

// bare returns v, or a copy of an event without the fields that the system adds, which one
// that was decoded has.
func bare(v any) (any, error) {
	ids := []string{}
	switch e := v.(type) {
	case *notification.WorkflowEvent:
		if e != nil {
			return bare(*e)
		}
	case *notification.TaskEvent:
		if e != nil {
			return bare(*e)
		}
	case notification.WorkflowEvent:
		e.EventID, e.Time = "", time.Time{}
		v, ids = e, []string{e.ID}
	case notification.TaskEvent:
		e.EventID, e.Time = "", time.Time{}
		v, ids = e, []string{e.ID, e.WorkflowID}
	}
	for i, id := range ids {
		if !utf8.ValidString(id) {
			return nil, &notification.ArgumentError{Argument: []string{"event.ID", "event.WorkflowID"}[i], Reason: "is not UTF-8"}
		}
	}
	return v, nil
}

// publish completes event with the JSON of v, delivers and records it.
func (s *NotificationSystem) publish(ctx context.Context, argument string, v any, event Event) error {
	if ctx == nil {
		return &notification.ArgumentError{Argument: "ctx", Reason: "is nil"}
	}
	body, err := json.Marshal(v)
	var fields map[string]json.RawMessage
	switch {
	case err != nil:
		return &notification.ArgumentError{Argument: argument, Reason: "does not marshal to JSON", Err: err}
	case body[0] != '{' || json.Unmarshal(body, &fields) != nil:
		return &notification.ArgumentError{Argument: argument, Reason: "is no JSON object"}
	}
	for _, name := range []string{"event_id", "time"} {
		if _, taken := fields[name]; taken {
			return &notification.ArgumentError{
				Argument: argument, Reason: fmt.Sprintf("has a field %q, which is added to every event", name),
			}
		}
	}
	event.Channels = distinct(event.Channels)

	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return notification.ErrClosed
	case ctx.Err() != nil:
		return &notification.PublishError{Channel: event.Channels[0], Err: context.Cause(ctx)}
	case s.failure != nil:
		return &notification.PublishError{Channel: event.Channels[0], Err: s.failure}
	}
	event.Time = time.Now().UTC()
	s.last = s.last.next(event.Time)
	event.ID = s.last.String()
	event.Payload = fmt.Sprintf(`{"event_id":%q,"time":%q`, event.ID, event.Time.Format(time.RFC3339Nano))
	if len(body) > 2 {
		event.Payload += ","
	}
	event.Payload += string(body[1:])
	s.published = append(s.published, event)
	s.deliver(event)
	for _, g := range s.groups {
		g.add(event)
	}
	return nil
}

// distinct drops repeated channels, which IDs such as "events" produce.
func distinct(channels []string) []string {
	var out []string
	for _, channel := range channels {
		if !slices.Contains(out, channel) {
			out = append(out, channel)
		}
	}
	return out
}

// Inject delivers payload as it is, as if another program had published it to
// channel with plain PUBLISH, and returns how many subscribers got it. It is not
// recorded and has no event ID.
func (s *NotificationSystem) Inject(channel, payload string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.deliver(Event{Channels: []string{channel}, Payload: payload})
}

// Miss reports to every subscriber that events may be missing, for the reason given, as
// after a failover or a cut: at once through Gaps, and by Message.Gap of the next
// message. One member of each group of notification.Consume is called with the gap. What is published arrives all the same.
func (s *NotificationSystem) Miss(reason notification.GapReason) {
	for _, onGap := range s.miss(reason) {
		onGap(notification.Gap{Reason: reason, Time: time.Now()})
	}
}

// miss reports a gap to the subscribers, and returns what is to be called with it.
func (s *NotificationSystem) miss(reason notification.GapReason) (onGap []func(notification.Gap)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sub := range s.subscribers {
		sub.miss(reason)
	}
	for _, g := range s.groups {
		if len(g.members) > 0 && g.members[0].set.OnGap != nil {
			onGap = append(onGap, g.members[0].set.OnGap)
		}
	}
	return onGap
}

// deliver hands event to each subscriber that matches one of its channels, once.
// s.mu is held.
func (s *NotificationSystem) deliver(event Event) (receivers int) {
	for _, sub := range s.subscribers {
		i := slices.IndexFunc(event.Channels, sub.matches)
		if i < 0 || sub.only != nil && !sub.only(event) {
			continue
		}
		message := &notification.Message{
			Channel: event.Channels[i], Payload: event.Payload, EventID: event.ID, Time: event.Time,
		}
		if sub.glob {
			message.Pattern = sub.pattern
		}
		sub.send(message)
		receivers++
	}
	return receivers
}

// Subscribe returns a *Subscriber to one channel or, if pattern has one of
// *?[\ in it, to a Redis glob. It is closed when ctx ends. A subscription that
// is refused (nil or ended ctx, empty pattern, unclosed class, backslash at the
// end, closed system) is closed already, and Err says why.
func (s *NotificationSystem) Subscribe(ctx context.Context, pattern string) notification.Subscriber {
	var wrong error
	switch {
	case pattern == "":
		wrong = &notification.ArgumentError{Argument: "pattern", Reason: "is empty"}
	case !glob.Complete(pattern):
		wrong = &notification.ArgumentError{Argument: "pattern", Reason: "has an unclosed class or a backslash at its end"}
	}
	return s.subscribe(ctx, &Subscriber{pattern: pattern, glob: strings.ContainsAny(pattern, `*?[\`)}, wrong)
}

// SubscribeWorkflow is Subscribe for the events of one workflow, whatever its ID
// contains. It is refused if the ID is empty or not UTF-8. It is not part of the interface, but of
// *notification.RedisNotificationSystem.
func (s *NotificationSystem) SubscribeWorkflow(ctx context.Context, id string) *Subscriber {
	return s.subscribe(ctx, &Subscriber{pattern: "workflow:" + id, only: func(e Event) bool {
		return e.Workflow == nil || e.Workflow.ID == id
	}}, wrongID(id))
}

// SubscribeTask is SubscribeWorkflow for one task.
func (s *NotificationSystem) SubscribeTask(ctx context.Context, id string) *Subscriber {
	return s.subscribe(ctx, &Subscriber{pattern: "task:" + id, only: func(e Event) bool {
		return e.Task == nil || e.Task.ID == id
	}}, wrongID(id))
}

// wrongID returns why nobody can have this ID, or nil.
func wrongID(id string) error {
	switch {
	case id == "":
		return &notification.ArgumentError{Argument: "id", Reason: "is empty"}
	case !utf8.ValidString(id):
		return &notification.ArgumentError{Argument: "id", Reason: "is not UTF-8"}
	}
	return nil
}

// subscribe completes sub. It is refused if its arguments are wrong.
func (s *NotificationSystem) subscribe(ctx context.Context, sub *Subscriber, wrong error) *Subscriber {
	sub.system = s
	sub.messages = make(chan *notification.Message, unreadLimit)
	sub.gaps = make(chan notification.Gap, gapLimit)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.admit(ctx, wrong); err != nil {
		sub.end(err)
		return sub
	}
	s.subscribers = append(s.subscribers, sub)
	sub.detach = context.AfterFunc(ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		sub.end(context.Cause(ctx))
	})
	return sub
}

// admit returns why a subscription is refused, or nil. s.mu is held.
func (s *NotificationSystem) admit(ctx context.Context, wrong error) error {
	switch {
	case ctx == nil:
		return &notification.ArgumentError{Argument: "ctx", Reason: "is nil"}
	case wrong != nil:
		return wrong
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case s.closed:
		return notification.ErrClosed
	}
	return nil
}

// Published returns every event that was published, in order.
func (s *NotificationSystem) Published() []Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.published)
}

// Subscribers returns the patterns of the open subscriptions, sorted.
func (s *NotificationSystem) Subscribers() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var patterns []string
	for _, sub := range s.subscribers {
		patterns = append(patterns, sub.pattern)
	}
	slices.Sort(patterns)
	return patterns
}

// Dropped returns how many messages subscribers did not get because they were closed with more than
// 1024 unread.
func (s *NotificationSystem) Dropped() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dropped
}

// Fail makes publishing fail with an error that matches err, as if Redis could
// not be reached, until Fail(nil).
func (s *NotificationSystem) Fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failure = err
}

// Close closes all subscribers, which can still read what they have not read
// yet, and refuses further calls with notification.ErrClosed. It returns nil,
// and may be repeated.
func (s *NotificationSystem) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for _, sub := range slices.Clone(s.subscribers) {
		sub.end(notification.ErrClosed)
	}
	for _, g := range s.groups {
		for _, m := range g.members {
			m.cancel(notification.ErrClosed)
		}
	}
	return nil
}

// eventID looks like the ID of an entry of a Redis stream and grows like one.
type eventID struct {
	ms  int64
	seq int
}

func (id eventID) String() string { return fmt.Sprintf("%d-%d", id.ms, id.seq) }

func (id eventID) next(now time.Time) eventID {
	if ms := now.UnixMilli(); ms > id.ms {
		return eventID{ms: ms}
	}
	return eventID{ms: id.ms, seq: id.seq + 1}
}
