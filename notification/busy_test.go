package notification_test

import (
	"context"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/notification"
)

// While a script of somebody else takes too long, the server answers BUSY to everything. That is no refusal.
func TestBusyServerClosesNothing(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.WithConfig("busy-reply-threshold", "50"))
	n := newSystem(t, server.Client(t), notification.WithPingTimeout(2*time.Second))
	before := []*notification.Subscription{subscribe(t, n, "a"), subscribe(t, n, "b*")}
	require.NoError(t, n.Publish(t.Context(), "a", numbered{1}))
	next(t, before[0])

	release := server.Occupy(t)
	during := subscribe(t, n, "c")
	require.Eventually(t, func() bool {
		return redis.HasErrorPrefix(n.HealthCheck(t.Context()), "BUSY")
	}, patience, time.Millisecond, "its cause is told")
	for _, err := range []error{
		n.Publish(t.Context(), "a", numbered{2}),
		n.PublishBatch(t.Context(), notification.To("a", numbered{2}), notification.To("a", numbered{2})),
	} {
		var failed *notification.PublishError
		require.ErrorAs(t, err, &failed)
		require.ErrorContains(t, err, "BUSY")
		assert.False(t, failed.Uncertain, "the server has done nothing")
	}
	release()

	require.Eventually(t, func() bool { return n.HealthCheck(t.Context()) == nil }, patience, 5*time.Millisecond)
	for channel, s := range map[string]*notification.Subscription{"a": before[0], "b1": before[1], "c": during} {
		require.NoError(t, s.Err(), channel)
		require.NoError(t, n.Publish(t.Context(), channel, numbered{3}))
		m := next(t, s)
		v, err := notification.Decode[numbered](m)
		require.NoError(t, err)
		assert.Equal(t, 3, v.N, "what was refused was not published")
		assert.Equal(t, s == during, m.Gap != nil, "nothing was lost by those that were live")
	}
}

// A publisher waits for a moment, which is enough for a script that has just become too slow.
func TestPublishOutlivesABusyMoment(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.WithConfig("busy-reply-threshold", "50"))
	client := server.Client(t)
	n := newSystem(t, client)
	require.NoError(t, n.Publish(t.Context(), "k", numbered{1}))
	release := server.Occupy(t)
	client.AddHook(afterBusy{do: release})
	require.NoError(t, n.Publish(t.Context(), "k", numbered{2}))
	assert.EqualValues(t, 2, client.XLen(t.Context(), journalKey).Val())
}

// afterBusy calls a function when a command was answered BUSY.
type afterBusy struct {
	redistest.Hook
	do func()
}

func (h afterBusy) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		if redis.HasErrorPrefix(err, "BUSY") {
			h.do()
		}
		return err
	}
}
