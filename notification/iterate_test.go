package notification_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/notification"
)

// TestReplayOfWhatIsGone: that nothing matches is no reason not to tell that something may have.
func TestReplayOfWhatIsGone(t *testing.T) {
	t.Parallel()
	client := redistest.Start(t).Client(t)
	n := newSystem(t, client)
	publish := func() string {
		require.NoError(t, n.PublishWorkflowEvent(t.Context(), &notification.WorkflowEvent{ID: "W", Status: "s"}))
		var last string
		for m, err := range n.Replay(t.Context(), "workflow:W", "", "") {
			require.NoError(t, err)
			last = m.EventID
		}
		return last
	}
	replay := func(pattern, from string) (messages []*notification.Message, err error) {
		for m, e := range n.Replay(t.Context(), pattern, from, "") {
			if e != nil {
				return messages, e
			}
			messages = append(messages, m)
		}
		return messages, nil
	}
	gone := publish()
	require.NoError(t, client.Del(t.Context(), "cache:{notification}:journal").Err())
	var gap *notification.GapError
	_, err := replay("workflow:W", gone)
	require.ErrorAs(t, err, &gap, "an empty journal")
	assert.Equal(t, notification.GapTrimmed, gap.Gap.Reason)
	assert.NotZero(t, gap.Gap.Time)
	_, err = replay("workflow:*", "")
	require.NoError(t, err, "there is no beginning that could be missing")

	last := publish()
	for last == gone { // within the same millisecond
		require.NoError(t, client.Del(t.Context(), "cache:{notification}:journal").Err())
		last = publish()
	}
	_, err = replay("other", gone)
	require.ErrorAs(t, err, &gap, "nothing that matches")
	messages, err := replay("workflow:W", gone)
	require.NoError(t, err)
	require.Len(t, messages, 1)
	require.NotNil(t, messages[0].Gap, "the next message tells")
	messages, err = replay("other", last)
	require.NoError(t, err)
	assert.Empty(t, messages)
}

func TestReplay(t *testing.T) {
	t.Parallel()
	n := newSystem(t, redistest.Start(t).Client(t))
	var batch []notification.Outgoing
	for i := range 1000 {
		batch = append(batch, &notification.WorkflowEvent{ID: fmt.Sprint(i % 10), Status: "s", Data: i})
	}
	require.NoError(t, n.PublishBatch(t.Context(), batch...))

	collect := func(pattern, from, to string) (messages []*notification.Message) {
		for m, err := range n.Replay(t.Context(), pattern, from, to) {
			require.NoError(t, err)
			require.Nil(t, m.Gap)
			messages = append(messages, m)
		}
		return messages
	}
	all := collect("workflow:*", "", "")
	require.Len(t, all, 1000)
	for i, m := range all {
		event, err := notification.Decode[notification.WorkflowEvent](m)
		require.NoError(t, err)
		require.Equal(t, json.Number(strconv.Itoa(i)), event.Data)
		require.Equal(t, m.EventID, event.EventID)
	}
	assert.Len(t, collect("workflow:7", "", ""), 100)
	assert.Len(t, collect("workflow:events", all[100].EventID, all[199].EventID), 100)
	assert.Empty(t, collect("none", "", ""))

	seen := 0
	for _, err := range n.Replay(t.Context(), "*", "", "") {
		require.NoError(t, err)
		seen++
		break
	}
	assert.Equal(t, 1, seen)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for name, sequence := range map[string]struct {
		ctx               context.Context
		pattern, from, to string
		want              error
	}{
		"cancelled": {ctx, "*", "", "", context.Canceled},
		"from":      {t.Context(), "*", "x", "", notification.ErrInvalidArgument},
		"to":        {t.Context(), "*", "", "x", notification.ErrInvalidArgument},
		"pattern":   {t.Context(), "", "", "", notification.ErrInvalidArgument},
	} {
		count := 0
		for m, err := range n.Replay(sequence.ctx, sequence.pattern, sequence.from, sequence.to) {
			assert.Nil(t, m)
			assert.ErrorIs(t, err, sequence.want, name)
			count++
		}
		assert.Equal(t, 1, count, name)
	}
	for range 20 { // the same one each time
		for _, err := range n.Replay(t.Context(), "*", "x", "y") {
			var argument *notification.ArgumentError
			require.ErrorAs(t, err, &argument)
			require.Equal(t, "from", argument.Argument)
		}
	}
}

// What ends a replay is the last thing it yields, whenever it happens.
func TestReplayThatCannotGoOn(t *testing.T) {
	t.Parallel()
	const events = 600 // more than are read at once
	for name, test := range map[string]struct {
		opts   []notification.Option
		before func(t *testing.T, n *notification.RedisNotificationSystem)
		during func(t *testing.T, n *notification.RedisNotificationSystem, client *redis.Client)
		want   error // nil means a gap
	}{
		"without history": {opts: []notification.Option{notification.WithHistory(0, 0)}, want: notification.ErrNoHistory},
		"after closing": {before: func(t *testing.T, n *notification.RedisNotificationSystem) {
			t.Helper()
			require.NoError(t, n.Close())
		}, want: notification.ErrClosed},
		"closed meanwhile": {during: func(t *testing.T, n *notification.RedisNotificationSystem, _ *redis.Client) {
			t.Helper()
			require.NoError(t, n.Close())
		}, want: notification.ErrClosed},
		"deleted meanwhile": {during: func(t *testing.T, _ *notification.RedisNotificationSystem, client *redis.Client) {
			t.Helper()
			require.NoError(t, client.Del(t.Context(), journalKey).Err())
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := redistest.Start(t).Client(t)
			n := newSystem(t, client, test.opts...)
			p := &publisher{system: n}
			require.Zero(t, p.publish(t.Context(), "k", events))
			if test.before != nil {
				test.before(t, n)
			}
			var last *notification.Message
			var ends []error
			read := 0
			for m, err := range n.Replay(t.Context(), "k", "", "") {
				if err != nil {
					assert.Nil(t, m)
					ends = append(ends, err)
					continue
				}
				if read == 0 {
					test.during(t, n, client)
				}
				read++
				last = m
			}
			require.Len(t, ends, 1)
			assert.Equal(t, test.during != nil, read > 0)
			assert.Less(t, read, events)
			if test.want != nil {
				require.ErrorIs(t, ends[0], test.want)
				return
			}
			var gap *notification.GapError
			require.ErrorAs(t, ends[0], &gap)
			assert.Equal(t, notification.GapTrimmed, gap.Gap.Reason)
			assert.Equal(t, last.EventID, gap.Gap.After)
		})
	}
}

// A journal that is trimmed during a replay leaves a gap, and the replay goes on behind it.
func TestReplayOfAJournalThatIsTrimmed(t *testing.T) {
	t.Parallel()
	const events, left = 600, 10
	client := redistest.Start(t).Client(t)
	n := newSystem(t, client)
	p := &publisher{system: n}
	require.Zero(t, p.publish(t.Context(), "k", events))
	var before *notification.Message
	last, gaps := 0, 0
	for m, err := range n.Replay(t.Context(), "k", "", "") {
		require.NoError(t, err)
		number, err := numberOf(m)
		require.NoError(t, err)
		switch {
		case before == nil:
			require.NoError(t, client.XTrimMaxLen(t.Context(), journalKey, left).Err())
		case m.Gap != nil:
			gaps++
			assert.Equal(t, events-left+1, number)
			assert.Equal(t, notification.GapTrimmed, m.Gap.Reason)
			assert.Equal(t, before.EventID, m.Gap.After)
			assert.Equal(t, m.EventID, m.Gap.Before)
		default:
			require.Equal(t, last+1, number)
		}
		before, last = m, number
	}
	assert.Equal(t, 1, gaps)
	assert.Equal(t, events, last)
}
