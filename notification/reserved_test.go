package notification_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/notification"
)

// Globs match the channels that the module itself uses, but their messages are for nobody else. What only looks like one
// is delivered.
func TestChannelsOfTheModuleAreNotDelivered(t *testing.T) {
	t.Parallel()
	client := redistest.Start(t).Client(t)
	n := newSystem(t, client)
	s := subscribe(t, n, "*")
	exact := subscribe(t, n, "cache:probe")
	own := [][2]string{
		{"cache:lock:inbox:abc", "free cache:lock:inbox:abc:1"},
		{"cache:lock:inbox:abc", "whatever"},
		{"other:lock:inbox:abc", "120 other:lock:inbox:abc:1:2"},
		{"lock:inbox:abc", "free lock:inbox:abc:"},
		{"cache:probe", ""},
		{"cache:{notification}:heartbeat:x:1", "1\nx"},
		{"other:{notification}:heartbeat:x:1", "1\nx"},
	}
	theirs := [][2]string{
		{"other:lock:inbox:abc", "hello"},
		{"other:lock:inbox:abc", "free other:lock:inbox:ab:1"},
		{"my:lock:inbox:", `{"id":"x"}`},
		{"cache:lock", "free cache:lock:1"},
		{"probe", ""},
		{"cache:probe", "x"},
	}
	for _, m := range own {
		require.NoError(t, client.Publish(t.Context(), m[0], m[1]).Err())
	}
	for _, m := range theirs {
		require.NoError(t, client.Publish(t.Context(), m[0], m[1]).Err())
		got := next(t, s)
		assert.Equal(t, m[0], got.Channel)
		assert.Equal(t, m[1], got.Payload)
	}
	assert.Equal(t, "x", next(t, exact).Payload)
	assert.Zero(t, n.GetMetrics().DroppedMessages)
}

// What nobody would get is refused, so that nothing is lost without a word.
func TestChannelsOfTheModuleAreRefused(t *testing.T) {
	t.Parallel()
	client := redistest.Start(t).Client(t)
	n := newSystem(t, client, notification.WithKeyPrefix("workflow:"))
	for _, channel := range []string{"workflow:lock:inbox:abc", "workflow:{notification}:heartbeat:x:1", "x{notification}:heartbeat:"} {
		for argument, err := range map[string]error{
			"channel":           n.Publish(t.Context(), channel, struct{}{}),
			"events[0].channel": n.PublishBatch(t.Context(), notification.To(channel, struct{}{})),
			"pattern":           n.Subscribe(t.Context(), channel).(*notification.Subscription).Err(),
		} {
			var refused *notification.ArgumentError
			require.ErrorAs(t, err, &refused, channel)
			assert.Equal(t, argument, refused.Argument)
		}
	}
	// A key prefix may be such that an ID leads there.
	for _, id := range []string{"lock:inbox:abc", "{notification}:heartbeat:"} {
		event := &notification.WorkflowEvent{ID: id}
		require.ErrorIs(t, n.PublishWorkflowEvent(t.Context(), event), notification.ErrInvalidArgument)
		require.ErrorIs(t, n.SubscribeWorkflow(t.Context(), id).Err(), notification.ErrInvalidArgument)
	}
	assert.Zero(t, client.Exists(t.Context(), "workflow:{notification}:journal").Val())
}
