package fxtest_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	cachetest "github.com/compozy/cache/fxtest"
	"github.com/compozy/cache/notification"
)

func TestFakeSubscribesToOneWorkflowOrTask(t *testing.T) {
	t.Parallel()
	s := cachetest.NewNotificationSystem()
	ids := []string{"order[1]", "order1", `a\b`, "ab", "*", "[", `\`, "events", "workflow:W", "W"}
	for _, id := range ids {
		workflow, task := s.SubscribeWorkflow(t.Context(), id), s.SubscribeTask(t.Context(), id)
		for _, other := range ids {
			require.NoError(t, s.PublishWorkflowEvent(t.Context(), &notification.WorkflowEvent{ID: other}))
			require.NoError(t, s.PublishTaskEvent(t.Context(), &notification.TaskEvent{ID: other, WorkflowID: "W"}))
		}
		for _, sub := range []*cachetest.Subscriber{workflow, task} {
			require.Len(t, sub.Messages(), 1, id)
			m := <-sub.Messages()
			var event struct{ ID string }
			require.NoError(t, json.Unmarshal([]byte(m.Payload), &event))
			assert.Equal(t, id, event.ID)
			assert.Equal(t, sub.Pattern(), m.Channel)
			assert.Empty(t, m.Pattern)
		}
	}
	for _, sub := range []*cachetest.Subscriber{s.SubscribeWorkflow(t.Context(), ""), s.SubscribeTask(t.Context(), "")} {
		var refused *notification.ArgumentError
		require.ErrorAs(t, sub.Err(), &refused)
		assert.Equal(t, "id", refused.Argument)
	}
}
