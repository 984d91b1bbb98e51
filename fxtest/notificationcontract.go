package fxtest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/compozy/cache/notification"
)

// NotificationSystemContract runs subtests that check what users of a
// notification.NotificationSystem rely on. newSystem returns a system that is
// ready for use and arranges for its own clean-up; each subtest calls it once.
// Nothing else may publish where the system listens while a subtest runs;
// systems of different subtests may share a server, as event IDs are unique.
func NotificationSystemContract(t *testing.T, newSystem func(t testing.TB) notification.NotificationSystem) {
	t.Helper()
	for _, c := range notificationContract() {
		t.Run(c.promise, func(t *testing.T) { c.test(t, newSystem(t)) })
	}
}

func notificationContract() []contractCase[notification.NotificationSystem] {
	return []contractCase[notification.NotificationSystem]{
		{"a workflow event reaches its channels", notifyWorkflow},
		{"a task event reaches its channels", notifyTask},
		{"a task needs no workflow", notifyTaskAlone},
		{"a payload carries the event, its ID and its time", notifyPayload},
		{"copies of one event are delivered once", notifyOnce},
		{"globs match as in Redis", notifyGlobs},
		{"a quoted ID is no glob", notifyLiteral},
		{"every subscriber gets every event in order", notifyOrder},
		{"a closed subscriber gets nothing and disturbs nobody", notifyCloseSubscriber},
		{"the end of its context closes a subscriber", notifyContext},
		{"closing the system closes all", notifyCloseSystem},
		{"closing may race with everything", notifyCloseRace},
		{"bad events are refused", notifyBadEvents},
		{"bad subscriptions are closed", notifyBadSubscriptions},
	}
}

func notifyWorkflow(t testing.TB, s notification.NotificationSystem) {
	id, other := unique("w"), unique("other")
	want := map[string]notification.Subscriber{
		"workflow:events": s.Subscribe(t.Context(), "workflow:events"),
		"workflow:" + id:  s.Subscribe(t.Context(), "workflow:"+id),
		"workflow:*":      s.Subscribe(t.Context(), "workflow:*"),
	}
	not := map[string]notification.Subscriber{
		"task:*":            s.Subscribe(t.Context(), "task:*"),
		"workflow:" + other: s.Subscribe(t.Context(), "workflow:"+other),
	}
	workflow(t, s, id, "done")
	for name, sub := range want {
		m := receive(t, sub, name)
		wantIn(t, m, "workflow:events", "workflow:"+id)
		wantName(t, m, name)
	}
	// What was published to nobody's joy is noticed before what comes after it.
	workflow(t, s, other, "end")
	must(t, s.PublishTaskEvent(t.Context(), &notification.TaskEvent{ID: other, WorkflowID: id, Status: "end"}), "publishing")
	for name, sub := range not {
		if got := status(t, receive(t, sub, name)); got != "end" {
			t.Errorf("%s got an event that is not its own, with status %q", name, got)
		}
	}
}

func notifyTask(t testing.TB, s notification.NotificationSystem) {
	id, parent := unique("t"), unique("w")
	subs := map[string]notification.Subscriber{}
	for _, name := range []string{"task:events", "task:" + id, "task:workflow:" + parent, "task:workflow:*"} {
		subs[name] = s.Subscribe(t.Context(), name)
	}
	must(t, s.PublishTaskEvent(t.Context(), &notification.TaskEvent{ID: id, WorkflowID: parent, Status: "done"}), "publishing")
	for name, sub := range subs {
		m := receive(t, sub, name)
		wantIn(t, m, "task:events", "task:"+id, "task:workflow:"+parent)
		wantName(t, m, name)
		e, err := notification.Decode[notification.TaskEvent](m)
		must(t, err, "decoding")
		if e.ID != id || e.WorkflowID != parent || e.Status != "done" {
			t.Errorf("%s: got %+v", name, e)
		}
	}
}

func notifyTaskAlone(t testing.TB, s notification.NotificationSystem) {
	id := unique("t")
	own, all := s.Subscribe(t.Context(), "task:"+id), s.Subscribe(t.Context(), "task:events")
	workflows := s.Subscribe(t.Context(), "task:workflow:*")
	must(t, s.PublishTaskEvent(t.Context(), &notification.TaskEvent{ID: id, Status: "alone"}), "publishing")
	for _, sub := range []notification.Subscriber{own, all} {
		e, err := notification.Decode[notification.TaskEvent](receive(t, sub, id))
		must(t, err, "decoding")
		if e.ID != id || e.WorkflowID != "" || e.Status != "alone" {
			t.Errorf("got %+v", e)
		}
	}
	must(t, s.PublishTaskEvent(t.Context(), &notification.TaskEvent{ID: id, WorkflowID: "w", Status: "end"}), "publishing")
	if got := status(t, receive(t, workflows, "task:workflow:*")); got != "end" {
		t.Errorf("those who listen to workflows got an event of none, with status %q", got)
	}
}

func notifyPayload(t testing.TB, s notification.NotificationSystem) {
	id := unique("w")
	sub := s.Subscribe(t.Context(), "workflow:"+id)
	before := time.Now().Add(-time.Minute) // clocks of servers may differ
	event := &notification.WorkflowEvent{
		ID: id, Status: "a \"quoted\" \u2028 <text>",
		Data: map[string]any{"n": 1.5, "list": []any{"x", nil, true}},
		// Not the publisher's to choose.
		EventID: "mine", Time: time.Unix(0, 0),
	}
	given := *event
	must(t, s.PublishWorkflowEvent(t.Context(), event), "publishing")
	if event.EventID != given.EventID || !event.Time.Equal(given.Time) || event.Status != given.Status {
		t.Error("publishing changed the event it was given")
	}
	m := receive(t, sub, "workflow:"+id)
	var fields map[string]any
	must(t, json.Unmarshal([]byte(m.Payload), &fields), "the payload is JSON")
	for _, name := range []string{"event_id", "time", "id", "status", "data"} {
		if fields[name] == nil {
			t.Errorf("the payload has no %q: %s", name, m.Payload)
		}
	}
	e, err := notification.Decode[notification.WorkflowEvent](m)
	must(t, err, "decoding")
	if e.ID != event.ID || e.Status != event.Status || fmt.Sprint(e.Data) != fmt.Sprint(event.Data) {
		t.Errorf("got %+v, want %+v", e, *event)
	}
	if e.EventID == "" || e.EventID == "mine" || e.Time.Before(before) || e.Time.After(time.Now().Add(time.Minute)) {
		t.Errorf("event_id %q or time %v was not given by the system", e.EventID, e.Time)
	}

	must(t, s.PublishWorkflowEvent(t.Context(), event), "publishing again")
	again, err := notification.Decode[notification.WorkflowEvent](receive(t, sub, "workflow:"+id))
	must(t, err, "decoding")
	if again.EventID == e.EventID {
		t.Errorf("two events have the ID %q", e.EventID)
	}
}

func notifyOnce(t testing.TB, s notification.NotificationSystem) {
	id := unique("w")
	patterns := []string{"workflow:*", "*", "[tw]*", "workflow:events"}
	var subs []notification.Subscriber
	for _, pattern := range patterns {
		subs = append(subs, s.Subscribe(t.Context(), pattern))
	}
	const events = 20
	for i := range events {
		workflow(t, s, id, fmt.Sprint(i))
	}
	// This one's own channel is that of all.
	workflow(t, s, "events", "last")
	for i, sub := range subs {
		for n := range events {
			if got := status(t, receive(t, sub, patterns[i])); got != fmt.Sprint(n) {
				t.Fatalf("%s: got event %s where %d was next", patterns[i], got, n)
			}
		}
		if got := status(t, receive(t, sub, patterns[i])); got != "last" {
			t.Errorf("%s: got %q after all events", patterns[i], got)
		}
		must(t, sub.Close(), "closing")
		for _, m := range wantClosed(t, sub, "that was closed") {
			t.Errorf("%s: got one more: %s", patterns[i], m.Payload)
		}
	}
}

func notifyGlobs(t testing.TB, s notification.NotificationSystem) {
	base := unique("g")
	for _, c := range []struct {
		pattern, id string
		match       bool
	}{
		{base + "-?", base + "-1", true},
		{base + "-?", base + "-12", false},
		{base + "-[a-c]", base + "-b", true},
		{base + "-[^a-c]", base + "-b", false},
		{base + `-\*`, base + "-*", true},
		{base + `-\*`, base + "-x", false},
		{base + "/*", base + "/a/b", true}, // a star does not stop at a slash
		{base + "-{a,b}", base + "-a", false},
		{base + "-{a,b}", base + "-{a,b}", true},
	} {
		sub := s.Subscribe(t.Context(), "workflow:"+c.pattern)
		end := s.Subscribe(t.Context(), "workflow:events")
		workflow(t, s, c.id, "x")
		receive(t, end, "workflow:events")
		if c.match {
			m := receive(t, sub, c.pattern)
			wantName(t, m, "workflow:"+c.pattern)
		}
		must(t, sub.Close(), "closing")
		must(t, end.Close(), "closing")
		for _, m := range wantClosed(t, sub, "that was closed") {
			t.Errorf("%q got %s", c.pattern, m.Payload)
		}
	}
}

func notifyLiteral(t testing.TB, s notification.NotificationSystem) {
	base := unique("l")
	ids := map[string]string{"order[1]": "order1", `a\b`: "ab", "*": "star", "x?": "xy", "[": "b", `c\`: "c", "plain": "plane"}
	for id, other := range ids {
		sub := s.Subscribe(t.Context(), "workflow:"+base+notification.Literal(id))
		workflow(t, s, base+other, "not its own")
		workflow(t, s, base+id, "own")
		m := receive(t, sub, id)
		wantIn(t, m, "workflow:"+base+id)
		if got := status(t, m); got != "own" {
			t.Errorf("%q got an event that is %s", id, got)
		}
		must(t, sub.Close(), "closing")
	}
}

func notifyOrder(t testing.TB, s notification.NotificationSystem) {
	id := unique("w")
	const subscribers, events = 10, 50 // fewer than any sensible buffer holds
	var subs []notification.Subscriber
	for range subscribers {
		subs = append(subs, s.Subscribe(t.Context(), "workflow:"+id))
	}
	for i := range events {
		workflow(t, s, id, fmt.Sprint(i))
	}
	for _, sub := range subs {
		for i := range events {
			if got := status(t, receive(t, sub, id)); got != fmt.Sprint(i) {
				t.Fatalf("got event %s where %d was next", got, i)
			}
		}
	}
}

func notifyCloseSubscriber(t testing.TB, s notification.NotificationSystem) {
	id := unique("w")
	closing, staying := s.Subscribe(t.Context(), "workflow:"+id), s.Subscribe(t.Context(), "workflow:"+id)
	workflow(t, s, id, "first")
	receive(t, closing, id)
	must(t, closing.Close(), "closing")
	must(t, closing.Close(), "closing again")
	workflow(t, s, id, "second")
	if len(wantClosed(t, closing, "that was closed")) > 0 {
		t.Error("a closed subscriber got a message")
	}
	receive(t, staying, id)
	if got := status(t, receive(t, staying, id)); got != "second" {
		t.Errorf("the other subscriber got %q", got)
	}
	// One can come back.
	back := s.Subscribe(t.Context(), "workflow:"+id)
	workflow(t, s, id, "third")
	if got := status(t, receive(t, back, id)); got != "third" {
		t.Errorf("a new subscriber got %q, it wants what comes after it only", got)
	}
}

func notifyContext(t testing.TB, s notification.NotificationSystem) {
	ctx, cancel := context.WithCancel(t.Context())
	sub := s.Subscribe(ctx, "workflow:"+unique("w"))
	cancel()
	wantClosed(t, sub, "whose context was cancelled")
	must(t, sub.Close(), "closing")
}

func notifyCloseSystem(t testing.TB, s notification.NotificationSystem) {
	sub, glob := s.Subscribe(t.Context(), "workflow:"+unique("w")), s.Subscribe(t.Context(), "workflow:*")
	must(t, s.Close(), "closing")
	must(t, s.Close(), "closing again")
	wantClosed(t, sub, "of a closed system")
	wantClosed(t, glob, "of a closed system")
	must(t, sub.Close(), "closing a subscriber that the system closed")
	wantClosed(t, s.Subscribe(t.Context(), "workflow:*"), "made after Close of the system")
	if err := s.PublishWorkflowEvent(t.Context(), &notification.WorkflowEvent{ID: unique("w")}); err == nil {
		t.Error("publishing after Close: got no error")
	}
	if err := s.PublishTaskEvent(t.Context(), &notification.TaskEvent{ID: "t", WorkflowID: "w"}); err == nil {
		t.Error("publishing a task event after Close: got no error")
	}
}

func notifyCloseRace(t testing.TB, s notification.NotificationSystem) {
	id := unique("w")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var wg sync.WaitGroup
	publishing := make(chan struct{})
	started := sync.OnceFunc(func() { close(publishing) })
	for i := range 4 {
		wg.Go(func() {
			for s.PublishWorkflowEvent(ctx, &notification.WorkflowEvent{ID: id}) == nil {
				started()
			}
		})
		wg.Go(func() {
			for {
				sub := s.Subscribe(ctx, "workflow:*")
				select {
				case _, open := <-sub.Messages():
					if !open {
						return
					}
				case <-ctx.Done():
					return
				}
				if i%2 == 0 {
					wg.Go(func() { _ = sub.Close() })
				}
				_ = sub.Close()
			}
		})
	}
	select {
	case <-publishing:
	case <-time.After(patience):
		t.Error("publishing does not get under way")
	}
	if err := s.Close(); err != nil {
		t.Errorf("closing: %v", err)
	}
	finished := make(chan struct{})
	go func() { wg.Wait(); close(finished) }()
	select {
	case <-finished:
	case <-time.After(patience):
		t.Fatal("after Close somebody still waits")
	}
}

func notifyBadEvents(t testing.TB, s notification.NotificationSystem) {
	sub := s.Subscribe(t.Context(), "*")
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	var noContext context.Context
	good := &notification.WorkflowEvent{ID: unique("w"), Status: "bad"}
	const latin1 = "caf\xe9" // would arrive as another ID
	for name, err := range map[string]error{
		"nil workflow event":  s.PublishWorkflowEvent(t.Context(), nil),
		"nil task event":      s.PublishTaskEvent(t.Context(), nil),
		"workflow without ID": s.PublishWorkflowEvent(t.Context(), &notification.WorkflowEvent{Status: "bad"}),
		"task without ID":     s.PublishTaskEvent(t.Context(), &notification.TaskEvent{WorkflowID: "w", Status: "bad"}),
		"workflow not UTF-8":  s.PublishWorkflowEvent(t.Context(), &notification.WorkflowEvent{ID: latin1, Status: "bad"}),
		"task not UTF-8": s.PublishTaskEvent(
			t.Context(), &notification.TaskEvent{ID: latin1, WorkflowID: "w", Status: "bad"}),
		"workflow of a task not UTF-8": s.PublishTaskEvent(
			t.Context(), &notification.TaskEvent{ID: "t", WorkflowID: latin1, Status: "bad"}),
		"data that is no JSON": s.PublishWorkflowEvent(
			t.Context(), &notification.WorkflowEvent{ID: "w", Status: "bad", Data: func() {}}),
		"nil context": s.PublishWorkflowEvent(noContext, good),
	} {
		if err == nil {
			t.Errorf("%s: got no error", name)
		}
	}
	if err := s.PublishWorkflowEvent(cancelled, good); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled context: got %v", err)
	}
	workflow(t, s, unique("w"), "good")
	if got := status(t, receive(t, sub, "*")); got != "good" {
		t.Errorf("a refused event was delivered, with status %q", got)
	}
}

func notifyBadSubscriptions(t testing.TB, s notification.NotificationSystem) {
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	var noContext context.Context
	for name, sub := range map[string]notification.Subscriber{
		"empty pattern":     s.Subscribe(t.Context(), ""),
		"cancelled context": s.Subscribe(cancelled, "workflow:*"),
		"nil context":       s.Subscribe(noContext, "workflow:*"),
	} {
		wantClosed(t, sub, "with "+name)
		must(t, sub.Close(), "closing a refused subscriber")
	}
}
