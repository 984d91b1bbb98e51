package notification_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/notification"
)

func TestEventsReachTheirChannels(t *testing.T) {
	t.Parallel()
	for name, history := range map[string]int{"history": 100, "plain": 0} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := redistest.Start(t).Client(t)
			n := newSystem(t, client, notification.WithHistory(history, 0))
			raw := client.PSubscribe(t.Context(), "*")
			defer func() { require.NoError(t, raw.Close()) }()
			_, err := raw.Receive(t.Context())
			require.NoError(t, err)

			require.NoError(t, n.PublishWorkflowEvent(t.Context(), &notification.WorkflowEvent{ID: "W", Status: "running"}))
			require.NoError(t, n.PublishTaskEvent(t.Context(), &notification.TaskEvent{
				ID: "T", WorkflowID: "W", Status: "done", Data: map[string]int{"n": 1},
			}))
			require.NoError(t, n.Publish(t.Context(), "other", struct{}{}))

			var ids []string
			for _, channel := range []string{"workflow:events", "workflow:W", "task:events", "task:T", "task:workflow:W", "other"} {
				m, err := raw.ReceiveMessage(t.Context())
				require.NoError(t, err)
				assert.Equal(t, channel, m.Channel)
				var fields map[string]any
				require.NoError(t, json.Unmarshal([]byte(m.Payload), &fields))
				assert.NotEmpty(t, fields["event_id"])
				at, err := time.Parse(time.RFC3339Nano, fields["time"].(string))
				require.NoError(t, err)
				assert.WithinDuration(t, time.Now(), at, time.Minute)
				ids = append(ids, fields["event_id"].(string))
			}
			assert.Equal(t, ids[0], ids[1])
			assert.Equal(t, ids[2], ids[3])
			assert.Equal(t, ids[2], ids[4])
			assert.NotEqual(t, ids[0], ids[2])
			assert.NotEqual(t, ids[2], ids[5])
		})
	}
}

func TestCopiesOfAnEventArriveOnce(t *testing.T) {
	t.Parallel()
	for name, history := range map[string]int{"history": 100, "plain": 0} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newSystem(t, redistest.Start(t).Client(t), notification.WithHistory(history, 0))
			all := subscribe(t, n, "workflow:*")
			again := subscribe(t, n, "workflow:*")
			exact := subscribe(t, n, "workflow:2")
			for _, id := range []string{"1", "2", "3"} {
				require.NoError(t, n.PublishWorkflowEvent(t.Context(), &notification.WorkflowEvent{ID: id, Status: "s"}))
			}
			for _, id := range []string{"1", "2", "3"} {
				m := next(t, all)
				event, err := notification.Decode[notification.WorkflowEvent](m)
				require.NoError(t, err)
				assert.Equal(t, id, event.ID)
				assert.Equal(t, "workflow:events", m.Channel)
				assert.Equal(t, "workflow:*", m.Pattern)
				assert.Equal(t, m.EventID, event.EventID)
				assert.True(t, m.Time.Equal(event.Time))
				assert.Nil(t, m.Gap)
				assert.Same(t, m, next(t, again))
			}
			m := next(t, exact)
			assert.Equal(t, "workflow:2", m.Channel)
			assert.Empty(t, m.Pattern)
			empty(t, all)
			empty(t, exact)
			assert.EqualValues(t, 3, n.GetMetrics().MessagesPublished)
			assert.EqualValues(t, 7, n.GetMetrics().MessagesReceived)
		})
	}
}

func TestForeignMessagesArriveAsTheyAre(t *testing.T) {
	t.Parallel()
	client := redistest.Start(t).Client(t)
	n := newSystem(t, client)
	s := subscribe(t, n, "foreign")
	for _, payload := range []string{"not json", "not json", `{"event_id":"1-1"}`, ""} {
		require.NoError(t, client.Publish(t.Context(), "foreign", payload).Err())
		m := next(t, s)
		assert.Equal(t, payload, m.Payload)
		assert.Empty(t, m.EventID)
	}
}

func TestHeartbeatsAreNoMessages(t *testing.T) {
	t.Parallel()
	client := redistest.Start(t).Client(t)
	n := newSystem(t, client, notification.WithHeartbeat(10*time.Millisecond))
	for _, prefix := range []string{"cache:", "other:", ""} {
		subscribe(t, newSystem(t, client, notification.WithHeartbeat(10*time.Millisecond), notification.WithKeyPrefix(prefix)), "x")
	}
	s := subscribe(t, n, "*")
	for range 20 {
		// Whatever happens to come in between would be received first.
		beats := calls(t, client, "xlen")
		require.Eventually(t, func() bool { return calls(t, client, "xlen") > beats+4 }, patience, time.Millisecond)
		require.NoError(t, n.Publish(t.Context(), "k", struct{}{}))
		require.Equal(t, "k", next(t, s).Channel)
	}
}

// calls returns how often the server has executed a command, those of scripts included.
func calls(tb testing.TB, client redis.UniversalClient, command string) int {
	tb.Helper()
	stats, err := client.InfoMap(tb.Context(), "commandstats").Result()
	assert.NoError(tb, err) // conditions of Eventually must not end their goroutine
	var count int
	_, err = fmt.Sscanf(stats["Commandstats"]["cmdstat_"+command], "calls=%d", &count)
	assert.NoError(tb, err)
	return count
}

func TestOneConnectionForAllSubscribers(t *testing.T) {
	t.Parallel()
	client := redistest.Start(t).Client(t)
	n := newSystem(t, client, notification.WithUnsubscribeDelay(-1))
	a := subscribe(t, n, "a")
	other := subscribe(t, n, "a")
	subscribe(t, n, "b*")
	require.Len(t, pubsubClients(t, client), 1)
	assert.Equal(t, 2, n.GetMetrics().ActiveChannels)

	require.NoError(t, a.Close())
	require.NoError(t, a.Close())
	require.NoError(t, n.Publish(t.Context(), "a", struct{}{}))
	next(t, other)
	require.NoError(t, other.Close())
	require.Eventually(t, func() bool {
		channels, err := client.PubSubChannels(t.Context(), "a").Result()
		return err == nil && len(channels) == 0
	}, patience, 5*time.Millisecond)
	// The name comes back as if it had never been there.
	back := subscribe(t, n, "a")
	require.NoError(t, n.Publish(t.Context(), "a", struct{}{}))
	next(t, back)
}

// Who comes back soon finds the name as it was left.
func TestQuickReturnCostsNothing(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	n := newSystem(t, server.Client(t), notification.WithUnsubscribeDelay(time.Hour))
	names := []string{"a", "b*"}
	for _, name := range names {
		require.NoError(t, subscribe(t, n, name).Close())
	}
	server.ResetCommands(t)
	for range 5 {
		for _, name := range names {
			s := subscribe(t, n, name)
			require.NoError(t, n.Publish(t.Context(), name[:1], struct{}{}))
			next(t, s)
			require.NoError(t, s.Close())
		}
	}
	subscribe(t, n, "new") // whatever was to be sent before is there by now
	counts := server.Commands(t)
	assert.EqualValues(t, 1, counts["subscribe"], "the new one")
	for _, command := range []string{"unsubscribe", "psubscribe", "punsubscribe"} {
		assert.Zero(t, counts[command], command)
	}
}

// pubsubClients returns the lines of CLIENT LIST that are in subscriber mode.
func pubsubClients(tb testing.TB, client redis.UniversalClient) []string {
	tb.Helper()
	list, err := client.Do(tb.Context(), "client", "list", "type", "pubsub").Text()
	assert.NoError(tb, err) // as in calls
	var lines []string
	for line := range splitLines(list) {
		lines = append(lines, line)
	}
	return lines
}

func TestClosing(t *testing.T) {
	t.Parallel()
	t.Run("by its context", func(t *testing.T) {
		t.Parallel()
		n := newSystem(t, redistest.Start(t).Client(t))
		cause := assert.AnError
		ctx, cancel := context.WithCancelCause(t.Context())
		s := n.Subscribe(ctx, "x").(*notification.Subscription)
		cancel(cause)
		requireClosed(t, s)
		assert.ErrorIs(t, s.Err(), cause)
	})
	t.Run("by itself", func(t *testing.T) {
		t.Parallel()
		n := newSystem(t, redistest.Start(t).Client(t))
		s := subscribe(t, n, "x")
		require.NoError(t, s.Close())
		requireClosed(t, s)
		require.NoError(t, s.Err())
	})
	t.Run("with the system", func(t *testing.T) {
		t.Parallel()
		client := redistest.Start(t).Client(t)
		n := newSystem(t, client)
		s := subscribe(t, n, "x")
		require.NoError(t, n.Publish(t.Context(), "x", struct{}{}))
		require.Eventually(t, func() bool { return len(s.Messages()) == 1 }, patience, time.Millisecond)
		require.NoError(t, n.Close())
		require.NoError(t, n.Close())
		next(t, s)
		requireClosed(t, s)
		assert.ErrorIs(t, s.Err(), notification.ErrClosed)
		assert.ErrorIs(t, n.Publish(t.Context(), "x", struct{}{}), notification.ErrClosed)
		late := n.Subscribe(t.Context(), "x").(*notification.Subscription)
		requireClosed(t, late)
		assert.ErrorIs(t, late.Err(), notification.ErrClosed)
		require.Eventually(t, func() bool { return len(pubsubClients(t, client)) == 0 }, patience, time.Millisecond)
	})
}

func requireClosed(tb testing.TB, s *notification.Subscription) {
	tb.Helper()
	select {
	case m, ok := <-s.Messages():
		require.Falsef(tb, ok, "unexpected message %v", m)
	case <-time.After(patience):
		require.FailNow(tb, "not closed")
	}
	_, ok := <-s.Gaps()
	require.False(tb, ok)
}

func TestBadInputIsRefusedBeforeAnyCommand(t *testing.T) {
	t.Parallel()
	// Nothing listens there: anything that got as far as a command would fail differently.
	client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1"})
	defer func() { require.NoError(t, client.Close()) }()
	n := newSystem(t, client)
	ctx := t.Context()
	var none context.Context
	for argument, err := range map[string]error{
		"event":      n.PublishWorkflowEvent(ctx, nil),
		"event.ID":   n.PublishWorkflowEvent(ctx, &notification.WorkflowEvent{}),
		"event.Data": n.PublishWorkflowEvent(ctx, &notification.WorkflowEvent{ID: "1", Data: math.NaN()}),
		"ctx":        n.PublishTaskEvent(none, &notification.TaskEvent{ID: "1", WorkflowID: "1"}),
		"channel":    n.Publish(ctx, "", struct{}{}),
		"v":          n.Publish(ctx, "x", []int{1}),
		"pattern":    n.Subscribe(ctx, "").(*notification.Subscription).Err(),
	} {
		var refused *notification.ArgumentError
		require.ErrorAsf(t, err, &refused, "argument %s", argument)
		assert.Equal(t, argument, refused.Argument)
		assert.ErrorIs(t, err, notification.ErrInvalidArgument)
	}
	const latin1 = "caf\xe9" // would arrive as another ID
	for argument, err := range map[string]error{
		"event.ID":             n.PublishWorkflowEvent(ctx, &notification.WorkflowEvent{ID: latin1}),
		"event.WorkflowID":     n.PublishTaskEvent(ctx, &notification.TaskEvent{ID: "1", WorkflowID: latin1}),
		"events[1].ID":         n.PublishBatch(ctx, &notification.WorkflowEvent{ID: "1"}, &notification.WorkflowEvent{ID: latin1}),
		"events[0].ID":         n.PublishBatch(ctx, notification.To("x", notification.WorkflowEvent{ID: latin1})),
		"events[0].WorkflowID": n.PublishBatch(ctx, notification.To("x", &notification.TaskEvent{WorkflowID: latin1})),
		"id":                   n.SubscribeTask(ctx, latin1).Err(),
	} {
		var refused *notification.ArgumentError
		require.ErrorAsf(t, err, &refused, "argument %s", argument)
		assert.Equal(t, argument, refused.Argument)
		assert.NotContains(t, err.Error(), latin1)
	}
	for _, s := range []*notification.Subscription{
		n.SubscribeWorkflow(ctx, ""), n.SubscribeTask(ctx, ""), n.SubscribeWorkflow(none, "1"), n.SubscribeTask(none, "1"),
		n.SubscribeWorkflow(ctx, "\xff"), n.SubscribeTask(ctx, "\xff"),
	} {
		require.ErrorIs(t, s.Err(), notification.ErrInvalidArgument)
		requireClosed(t, s)
	}
	for _, pattern := range []string{"a[", `a\`, "[]*[x"} {
		s := n.Subscribe(ctx, pattern).(*notification.Subscription)
		require.ErrorIs(t, s.Err(), notification.ErrInvalidArgument, pattern)
		requireClosed(t, s)
	}
	for _, v := range []any{nil, "x", 1, true, json.RawMessage("[]"), make(chan int)} {
		require.ErrorIs(t, n.Publish(ctx, "x", v), notification.ErrInvalidArgument)
	}
	_, err := notification.NewRedisNotificationSystem(nil)
	require.ErrorIs(t, err, notification.ErrInvalidArgument)
	ring := redis.NewRing(&redis.RingOptions{Addrs: map[string]string{"a": "127.0.0.1:1"}})
	defer func() { require.NoError(t, ring.Close()) }()
	_, err = notification.NewRedisNotificationSystem(ring)
	require.ErrorIs(t, err, notification.ErrInvalidArgument)
	_, err = notification.NewRedisNotificationSystem(client, notification.WithKeyPrefix("a{}:"))
	require.ErrorIs(t, err, notification.ErrInvalidArgument)
	_, err = notification.NewRedisNotificationSystem(client, notification.WithPolicy("x"))
	require.ErrorIs(t, err, notification.ErrInvalidArgument)
}

func TestSubscribeWithoutRedisBecomesLiveByItself(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client := server.Client(t)
	server.Kill()
	n := newSystem(t, client, notification.WithPingTimeout(20*time.Millisecond))
	s := subscribe(t, n, "x")
	require.ErrorIs(t, n.HealthCheck(t.Context()), notification.ErrNotLive)
	require.NoError(t, n.Alive())
	server.Restart()
	require.Eventually(t, func() bool { return n.HealthCheck(t.Context()) == nil }, patience, 5*time.Millisecond)
	require.NoError(t, n.Publish(t.Context(), "x", struct{}{}))
	m := next(t, s)
	require.NotNil(t, m.Gap)
	assert.Equal(t, notification.GapLate, m.Gap.Reason)
	assert.Equal(t, notification.GapLate, (<-s.Gaps()).Reason)
	require.NoError(t, n.Publish(t.Context(), "x", struct{}{}))
	assert.Nil(t, next(t, s).Gap)
}

func TestRefusedNameHarmsNoOther(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	admin := server.Client(t)
	client := limited(t, server, "resetchannels", "&allowed:*", "&cache:*")
	n := newSystem(t, client)
	good := subscribe(t, n, "allowed:*")
	for _, name := range []string{"forbidden", "forbidden:*", "forbidden"} {
		bad := n.Subscribe(t.Context(), name).(*notification.Subscription)
		requireClosed(t, bad)
		assert.ErrorContains(t, bad.Err(), "NOPERM")
	}
	require.NoError(t, admin.Do(t.Context(), "client", "kill", "type", "pubsub").Err())
	require.NoError(t, n.Publish(t.Context(), "allowed:1", struct{}{}))
	assert.Nil(t, next(t, good).Gap)
	var failed *notification.PublishError
	require.ErrorAs(t, n.Publish(t.Context(), "forbidden", struct{}{}), &failed)
	assert.False(t, failed.Uncertain)
	assert.EqualValues(t, 1, admin.XLen(t.Context(), "cache:{notification}:journal").Val(), "nothing half done")

	// The first name of a system may be the one.
	other := newSystem(t, client)
	bad := other.Subscribe(t.Context(), "forbidden").(*notification.Subscription)
	requireClosed(t, bad)
	served := subscribe(t, other, "allowed:1")
	require.ErrorContains(t, other.HealthCheck(t.Context()), `"forbidden" refused`, "it is the only thing that is wrong")
	require.NoError(t, other.Publish(t.Context(), "allowed:1", struct{}{}))
	next(t, served)
}
