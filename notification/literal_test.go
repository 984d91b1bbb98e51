package notification_test

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/notification"
)

// literalIDs are spelled like globs, are what those globs would match, or have a channel that carries more.
var literalIDs = []string{
	"order[1]", "order1", `a\b`, "ab", "*", "?", "x", "[", "a[", `\`, `a\`, "[^x]*", "events", "workflow:W", "workflow:*", "W",
}

// ofAll subscribes to each of the IDs as a workflow and as a task.
func ofAll(t *testing.T, n *notification.RedisNotificationSystem) map[string][]*notification.Subscription {
	t.Helper()
	subs := make(map[string][]*notification.Subscription)
	for _, id := range literalIDs {
		subs[id] = []*notification.Subscription{n.SubscribeWorkflow(t.Context(), id), n.SubscribeTask(t.Context(), id)}
		for _, s := range subs[id] {
			require.NoError(t, s.Err())
		}
	}
	return subs
}

// publishAll publishes one event of each ID, as a workflow and as a task.
func publishAll(t *testing.T, n *notification.RedisNotificationSystem, status string) {
	t.Helper()
	for _, id := range literalIDs {
		require.NoError(t, n.PublishWorkflowEvent(t.Context(), &notification.WorkflowEvent{ID: id, Status: status}))
		require.NoError(t, n.PublishTaskEvent(t.Context(), &notification.TaskEvent{ID: id, WorkflowID: "W", Status: status}))
	}
}

// wantOwn checks that each subscription gets exactly its own event next.
func wantOwn(t *testing.T, subs map[string][]*notification.Subscription, status string) {
	t.Helper()
	for id, both := range subs {
		for _, s := range both {
			m := next(t, s)
			var event struct{ ID, Status string }
			require.NoError(t, json.Unmarshal([]byte(m.Payload), &event))
			require.Equal(t, id, event.ID, s.Pattern())
			require.Equal(t, status, event.Status, s.Pattern())
			assert.Equal(t, s.Pattern(), m.Channel)
			assert.Empty(t, m.Pattern)
			assert.Nil(t, m.Gap)
		}
	}
}

func TestSubscribeToOneWorkflowOrTask(t *testing.T) {
	t.Parallel()
	for name, history := range map[string]int{"history": 10_000, "plain": 0} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := redistest.Start(t).Client(t)
			n := newSystem(t, client, notification.WithHistory(history, 0))
			// These are spelled like some of the channels.
			globs := []*notification.Subscription{subscribe(t, n, "workflow:*"), subscribe(t, n, "task:workflow:*")}
			subs := ofAll(t, n)
			for i := range 3 {
				publishAll(t, n, fmt.Sprint(i))
				wantOwn(t, subs, fmt.Sprint(i))
			}
			for i, s := range globs {
				assert.Equal(t, s.Pattern(), next(t, s).Pattern)
				require.NoError(t, s.Close())
				require.NoError(t, subs["*"][i].Err(), "the channel is another name")
			}
			if history == 0 {
				return
			}
			cut(t, n, client)
			publishAll(t, n, "after a cut")
			wantOwn(t, subs, "after a cut")
		})
	}
}

// What does not fit into the buffer is read from the journal, which has the events of the others too.
func TestOneWorkflowOrTaskCatchesUp(t *testing.T) {
	t.Parallel()
	client := redistest.Start(t).Client(t)
	n := newSystem(t, client, notification.WithBufferSize(2))
	subs := ofAll(t, n)
	for i := range 10 {
		publishAll(t, n, fmt.Sprint(i))
	}
	for i := range 10 {
		wantOwn(t, subs, fmt.Sprint(i))
	}
	publishAll(t, n, "live")
	wantOwn(t, subs, "live")
}

// What was missed during a cut is read from the journal, too.
func TestOneWorkflowOrTaskRecovers(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client := server.Client(t)
	n, other := newSystem(t, client), newSystem(t, client)
	subs := ofAll(t, n)
	publishAll(t, other, "before")
	wantOwn(t, subs, "before")
	for i := range 5 {
		require.NoError(t, client.Do(t.Context(), "client", "kill", "type", "pubsub").Err())
		publishAll(t, other, fmt.Sprint(i))
		wantOwn(t, subs, fmt.Sprint(i))
	}
}

// Other programs publish to the channel of an ID, too. On one that carries more, only what has the ID is its own.
func TestOneWorkflowAmongOtherPublishers(t *testing.T) {
	t.Parallel()
	client := redistest.Start(t).Client(t)
	n := newSystem(t, client)
	own, shared := n.SubscribeWorkflow(t.Context(), "order[1]"), n.SubscribeWorkflow(t.Context(), "events")
	for _, payload := range []string{"no JSON", `{"id":"x"}`, `{"id":1}`, `[]`, `{"id":"events"}`} {
		require.NoError(t, client.Publish(t.Context(), "workflow:order[1]", payload).Err())
		require.NoError(t, client.Publish(t.Context(), "workflow:events", payload).Err())
		assert.Equal(t, payload, next(t, own).Payload)
	}
	assert.JSONEq(t, `{"id":"events"}`, next(t, shared).Payload)
	empty(t, shared)
}

// A user who may listen to all workflows may listen to each, whatever its ID.
func TestPermissionForOneWorkflow(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	n := newSystem(t, limited(t, server, "resetchannels", "&workflow:*", "&cache:*"))
	s := n.SubscribeWorkflow(t.Context(), "order[1]")
	require.NoError(t, s.Err())
	require.NoError(t, n.PublishWorkflowEvent(t.Context(), &notification.WorkflowEvent{ID: "order[1]"}))
	next(t, s)
	// Refused are a glob and a channel that is spelled like it.
	for _, refused := range []*notification.Subscription{
		n.Subscribe(t.Context(), "task:*").(*notification.Subscription), n.SubscribeTask(t.Context(), "*"),
	} {
		requireClosed(t, refused)
		require.ErrorContains(t, refused.Err(), "NOPERM")
	}
	require.ErrorContains(t, n.HealthCheck(t.Context()), "and 1 more")
}

func TestLiteral(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"": "", "plain": "plain", "a]": "a]", "^-": "^-", "order[1]": `order\[1]`, `a\b`: `a\\b`, "*?": `\*\?`, "é[": `é\[`,
	} {
		assert.Equal(t, want, notification.Literal(text))
	}
}
