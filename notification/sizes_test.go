package notification_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/notification"
)

// An event above the limit is refused before anything is sent, whichever way it is published, and is never uncertain.
func TestLargeEventIsRefused(t *testing.T) {
	t.Parallel()
	admin := redistest.Start(t).Client(t)
	for name, c := range map[string]struct {
		opts []notification.Option
		size int
	}{
		"the default":     {nil, 1 << 20},
		"a lower limit":   {[]notification.Option{notification.WithMaxEventSize(1000)}, 1000},
		"without history": {[]notification.Option{notification.WithHistory(0, 0)}, 1 << 20},
		// Three copies of which would be more than Redis lets wait for a connection that listens.
		"eleven megabytes": {nil, 11_000_000},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newSystem(t, admin, append(c.opts, notification.WithKeyPrefix(name))...)
			large := strings.Repeat("x", c.size)
			small := notification.To("k", struct{}{})
			for argument, err := range map[string]error{
				"event.Data":     n.PublishTaskEvent(t.Context(), &notification.TaskEvent{ID: "t", Data: large}),
				"v":              n.Publish(t.Context(), "k", map[string]string{"v": large}),
				"events[0].Data": n.PublishBatch(t.Context(), &notification.WorkflowEvent{ID: "w", Data: large}),
				"events[1].v":    n.PublishBatch(t.Context(), small, notification.To("k", map[string]string{"v": large})),
			} {
				var refused *notification.ArgumentError
				require.ErrorAs(t, err, &refused)
				assert.Equal(t, argument, refused.Argument)
				assert.ErrorContains(t, err, "WithMaxEventSize")
				var failed *notification.PublishError
				assert.NotErrorAs(t, err, &failed)
			}
			require.ErrorIs(t, n.PublishWorkflowEvent(t.Context(), &notification.WorkflowEvent{ID: large}), notification.ErrInvalidArgument)
			assert.Zero(t, n.GetMetrics().MessagesPublished)
			assert.Empty(t, admin.Keys(t.Context(), name+"*").Val(), "nothing was sent")
			fits := strings.Repeat("x", 1000-200)
			require.NoError(t, n.PublishWorkflowEvent(t.Context(), &notification.WorkflowEvent{ID: "w", Data: fits}))
		})
	}
}

func TestOptionsOfPublishing(t *testing.T) {
	t.Parallel()
	client := redistest.Start(t).Client(t)
	for name, opt := range map[string]notification.Option{
		"WithMaxEventSize":      notification.WithMaxEventSize(-1),
		"WithMaxEventSize ":     notification.WithMaxEventSize(512<<20 + 1),
		"WithHistoryBytes":      notification.WithHistoryBytes(-1),
		"WithChannelPrefix":     notification.WithChannelPrefix("a*"),
		"WithChannelPrefix  ":   notification.WithChannelPrefix("?"),
		"WithChannelPrefix   ":  notification.WithChannelPrefix("[a]"),
		"WithChannelPrefix :":   notification.WithChannelPrefix(`a\\`),
		"WithChannelPrefix ::":  notification.WithChannelPrefix("\xff"),
		"WithChannelPrefix   :": notification.WithChannelPrefix("cache:lock:inbox:"),
		"WithChannelPrefix  ::": notification.WithChannelPrefix("a{notification}:heartbeat:"),
	} {
		_, err := notification.NewRedisNotificationSystem(client, opt)
		var refused *notification.ArgumentError
		require.ErrorAs(t, err, &refused, name)
		assert.Equal(t, strings.TrimRight(name, " :"), refused.Argument)
	}
}

// Channels in Redis have the prefix, names in errors do not, and each prefix has a journal of its own.
func TestPublishWithChannelPrefix(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client := server.Client(t)
	raw := client.PSubscribe(t.Context(), "*")
	t.Cleanup(func() { _ = raw.Close() })
	_, err := raw.Receive(t.Context())
	require.NoError(t, err)
	n := newSystem(t, client, notification.WithChannelPrefix("staging:"))
	require.NoError(t, n.PublishTaskEvent(t.Context(), &notification.TaskEvent{ID: "t", WorkflowID: "w"}))
	for _, channel := range []string{"staging:task:events", "staging:task:t", "staging:task:workflow:w"} {
		m, err := raw.ReceiveMessage(t.Context())
		require.NoError(t, err)
		assert.Equal(t, channel, m.Channel)
	}
	assert.EqualValues(t, 1, client.XLen(t.Context(), "cache:{notification}:staging::journal").Val())
	assert.Zero(t, client.Exists(t.Context(), journalKey).Val())

	refused := newSystem(t, limited(t, server, "resetchannels"), notification.WithChannelPrefix("staging:"))
	err = refused.Publish(t.Context(), "k", struct{}{})
	var failed *notification.PublishError
	require.ErrorAs(t, err, &failed)
	assert.Equal(t, "k", failed.Channel)
	require.ErrorIs(t, n.Publish(t.Context(), "x:{notification}:heartbeat:y", struct{}{}), notification.ErrInvalidArgument)
}
