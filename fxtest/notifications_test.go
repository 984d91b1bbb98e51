package fxtest_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	cachetest "github.com/compozy/cache/fxtest"
	"github.com/compozy/cache/notification"
)

func TestFakeRecordsWhatIsPublished(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := cachetest.NewNotificationSystem()
		ctx := t.Context()
		event := &notification.WorkflowEvent{ID: "w", Status: "running", EventID: "mine"}
		require.NoError(t, s.PublishWorkflowEvent(ctx, event))
		event.Status = "changed afterwards"
		require.NoError(t, s.PublishTaskEvent(ctx, &notification.TaskEvent{ID: "t", WorkflowID: "w", Status: "done"}))
		require.NoError(t, s.Publish(ctx, "orders", struct{}{}))
		require.NoError(t, s.PublishWorkflowEvent(ctx, &notification.WorkflowEvent{ID: "events"}))
		s.Inject("orders", "raw")

		published := s.Published()
		require.Len(t, published, 4, "what others publish is not ours")
		assert.Equal(t, []string{"workflow:events", "workflow:w"}, published[0].Channels)
		assert.Equal(t, &notification.WorkflowEvent{ID: "w", Status: "running"}, published[0].Workflow)
		assert.Equal(t, //nolint:testifylint // the bytes matter: event_id comes first, as in Redis
			`{"event_id":"946684800000-0","time":"2000-01-01T00:00:00Z","id":"w","status":"running"}`, published[0].Payload)
		assert.Equal(t, []string{"task:events", "task:t", "task:workflow:w"}, published[1].Channels)
		assert.Equal(t, "done", published[1].Task.Status)
		assert.Equal(t, "946684800000-1", published[1].ID)
		assert.JSONEq(t, `{"event_id":"946684800000-2","time":"2000-01-01T00:00:00Z"}`, published[2].Payload)
		assert.Equal(t, []string{"workflow:events"}, published[3].Channels)
	})
}

func TestFakeRefusesValues(t *testing.T) {
	t.Parallel()
	s := cachetest.NewNotificationSystem()
	var argument *notification.ArgumentError
	for _, v := range []any{nil, 1, "text", []int{1}, make(chan int)} {
		require.ErrorAs(t, s.Publish(t.Context(), "c", v), &argument)
		assert.Equal(t, "v", argument.Argument)
	}
	require.ErrorAs(t, s.Publish(t.Context(), "", struct{}{}), &argument)
	require.ErrorAs(t, s.PublishWorkflowEvent(t.Context(), &notification.WorkflowEvent{ID: "w", Data: func() {}}), &argument)
	assert.Equal(t, "event.Data", argument.Argument)
	for _, v := range []any{map[string]any{"time": 1}, map[string]any{"event_id": 1}} {
		require.ErrorAs(t, s.Publish(t.Context(), "c", v), &argument)
		assert.Equal(t, "v", argument.Argument)
	}
	require.ErrorAs(t, s.Publish(t.Context(), "c", &notification.TaskEvent{WorkflowID: "\xff"}), &argument)
	assert.Equal(t, "event.WorkflowID", argument.Argument)
	assert.Empty(t, s.Published())
	decoded := &notification.WorkflowEvent{ID: "w", EventID: "1-1", Time: time.Now()}
	require.NoError(t, s.Publish(t.Context(), "c", decoded))
	assert.Same(t, decoded, s.Published()[0].Value)
	assert.NotContains(t, s.Published()[0].Payload, "1-1\"")
}

func TestFakeFails(t *testing.T) {
	t.Parallel()
	s := cachetest.NewNotificationSystem()
	down := errors.New("connection refused")
	s.Fail(down)
	err := s.PublishWorkflowEvent(t.Context(), &notification.WorkflowEvent{ID: "w"})
	require.ErrorIs(t, err, down)
	var publish *notification.PublishError
	require.ErrorAs(t, err, &publish)
	assert.Equal(t, "workflow:events", publish.Channel)
	s.Fail(nil)
	require.NoError(t, s.PublishWorkflowEvent(t.Context(), &notification.WorkflowEvent{ID: "w"}))
	assert.Len(t, s.Published(), 1)
}

func TestFakeSubscribers(t *testing.T) {
	t.Parallel()
	s := cachetest.NewNotificationSystem()
	ctx, cancel := context.WithCancelCause(t.Context())
	byContext, ok := s.Subscribe(ctx, "b*").(*cachetest.Subscriber)
	require.True(t, ok)
	itself, _ := s.Subscribe(t.Context(), "a").(*cachetest.Subscriber)
	bySystem, _ := s.Subscribe(t.Context(), "c").(*cachetest.Subscriber)
	refused, _ := s.Subscribe(t.Context(), "[a").(*cachetest.Subscriber)
	assert.Equal(t, []string{"a", "b*", "c"}, s.Subscribers())
	assert.Equal(t, "b*", byContext.Pattern())
	require.ErrorIs(t, refused.Err(), notification.ErrInvalidArgument)

	assert.Equal(t, 1, s.Inject("bc", "raw"))
	m := <-byContext.Messages()
	assert.Equal(t, &notification.Message{Channel: "bc", Pattern: "b*", Payload: "raw"}, m)

	cause := errors.New("cause")
	cancel(cause)
	_, open := <-byContext.Messages()
	assert.False(t, open)
	require.ErrorIs(t, byContext.Err(), cause)
	require.NoError(t, itself.Close())
	require.NoError(t, itself.Err())
	require.NoError(t, bySystem.Err())
	require.NoError(t, s.Close())
	require.ErrorIs(t, bySystem.Err(), notification.ErrClosed)
	assert.Empty(t, s.Subscribers())
	assert.Zero(t, s.Inject("a", "raw"))
}

func TestFakeMissesEvents(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := cachetest.NewNotificationSystem()
		sub, _ := s.Subscribe(t.Context(), "c").(*cachetest.Subscriber)
		publish := func() *notification.Message {
			require.NoError(t, s.Publish(t.Context(), "c", struct{}{}))
			return <-sub.Messages()
		}
		before := publish()
		assert.Nil(t, before.Gap)

		s.Miss(notification.GapFailover)
		want := notification.Gap{Reason: notification.GapFailover, After: before.EventID, Time: time.Now()}
		assert.Equal(t, want, <-sub.Gaps())
		after := publish()
		want.Before = after.EventID
		assert.Equal(t, &want, after.Gap)
		assert.Nil(t, publish().Gap, "it is reported once")

		for range 10 {
			s.Miss(notification.GapTrimmed) // nobody needs to read it
		}
		require.NoError(t, sub.Close())
		s.Miss(notification.GapTrimmed)
		reported := 0
		for range sub.Gaps() {
			reported++
		}
		assert.Equal(t, 4, reported)
	})
}

func TestFakeKeepsWhatASlowSubscriberHasNotRead(t *testing.T) {
	t.Parallel()
	s := cachetest.NewNotificationSystem()
	slow := s.Subscribe(t.Context(), "c")
	const events = 3000
	for i := range events {
		if i == 2000 {
			s.Miss(notification.GapTrimmed)
		}
		require.NoError(t, s.Publish(t.Context(), "c", map[string]int{"n": i}))
	}
	for i := range events {
		m := <-slow.Messages()
		v, err := notification.Decode[struct{ N int }](m)
		require.NoError(t, err)
		assert.Equal(t, i, v.N)
		assert.Equal(t, i == 2000, m.Gap != nil, i)
	}
	assert.Zero(t, s.Dropped())
	require.NoError(t, s.Publish(t.Context(), "c", map[string]int{"n": events}), "and as before when all is read")
	assert.NotNil(t, <-slow.Messages())
	require.NoError(t, s.Close())
}

func TestFakeCountsWhatAClosedSubscriberMisses(t *testing.T) {
	t.Parallel()
	s := cachetest.NewNotificationSystem()
	slow := s.Subscribe(t.Context(), "c")
	for range 1030 {
		s.Inject("c", "raw")
	}
	require.NoError(t, s.Close())
	read := 0
	for range slow.Messages() {
		read++
	}
	assert.Equal(t, 1030, read+s.Dropped())
	assert.GreaterOrEqual(t, read, 1024)
}

func TestFakeEventIDsGrow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := cachetest.NewNotificationSystem()
		for range 3 {
			require.NoError(t, s.Publish(t.Context(), "c", struct{}{}))
		}
		time.Sleep(time.Millisecond) // in a bubble: its clock
		require.NoError(t, s.Publish(t.Context(), "c", struct{}{}))
		var ids []string
		for _, e := range s.Published() {
			ids = append(ids, e.ID)
		}
		assert.Equal(t, []string{"946684800000-0", "946684800000-1", "946684800000-2", "946684800001-0"}, ids)
	})
}
