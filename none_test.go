package cache_test

import (
	"context"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache"
	"github.com/compozy/cache/client"
	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/lock"
	"github.com/compozy/cache/notification"
	"github.com/compozy/cache/store"
)

// TestWhatWasNeverMade calls everything on nil pointers and zero values: nothing
// panics, and what can return an error says what is wrong.
func TestWhatWasNeverMade(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	invalid := func(err error) {
		t.Helper()
		require.ErrorIs(t, err, cache.ErrInvalidArgument)
	}
	empty := func(c prometheus.Collector) {
		t.Helper()
		registry := prometheus.NewRegistry()
		require.NoError(t, registry.Register(c))
		families, err := registry.Gather()
		require.NoError(t, err)
		require.Empty(t, families)
	}
	for _, m := range []*cache.RedisLockManager{nil, {}} {
		_, err := m.Acquire(ctx, "r", time.Minute)
		invalid(err)
		_, err = m.AcquireWait(ctx, "r", time.Minute)
		invalid(err)
		invalid(m.WithLock(ctx, "r", time.Minute, func(context.Context, cache.FencedLock) error { return nil }))
		invalid(m.HealthCheck(ctx))
		invalid(m.Alive())
		invalid(m.Close(ctx))
		require.Equal(t, &cache.LockMetrics{}, m.GetMetrics())
		require.NotEmpty(t, m.String())
		empty(m.Collector())
	}
	for _, l := range []*cache.RedisLock{nil, {}} {
		require.ErrorIs(t, l.Release(ctx), cache.ErrLockNotHeld)
		require.ErrorIs(t, l.Refresh(ctx), cache.ErrLockNotHeld)
		require.False(t, l.IsHeld())
		require.Empty(t, l.Resource())
		require.Zero(t, l.Token())
		require.Zero(t, l.Until())
		require.NotEmpty(t, l.String())
		require.NotNil(t, l.Context())
		require.NotNil(t, l.Lost())
	}
	var none *cache.RedisLock
	require.ErrorIs(t, context.Cause(none.Context()), cache.ErrLockNotHeld)
	<-none.Lost()

	for _, n := range []*cache.RedisNotificationSystem{nil, {}} {
		invalid(n.PublishWorkflowEvent(ctx, &cache.WorkflowEvent{ID: "w", Status: "s"}))
		invalid(n.PublishTaskEvent(ctx, &cache.TaskEvent{ID: "t", WorkflowID: "w", Status: "s"}))
		invalid(n.Publish(ctx, "c", struct{}{}))
		invalid(n.PublishBatch(ctx, &cache.WorkflowEvent{ID: "w", Status: "s"}))
		invalid(n.Subscribe(ctx, "c").(*cache.Subscription).Err())
		invalid(n.SubscribeFrom(ctx, "c", "").Err())
		invalid(n.SubscribeWorkflow(ctx, "w").Err())
		invalid(n.SubscribeTask(ctx, "t").Err())
		for _, err := range n.Replay(ctx, "c", "", "") {
			invalid(err)
		}
		invalid(notification.Handle(ctx, n, "c", func(context.Context, any) error { return nil }))
		invalid(n.HealthCheck(ctx))
		invalid(n.Alive())
		invalid(n.Shutdown(ctx))
		invalid(n.Close())
		require.Equal(t, &cache.NotificationMetrics{}, n.GetMetrics())
		require.NotEmpty(t, n.String())
		empty(n.Collector())
	}
	for _, s := range []*cache.Store{nil, {}} {
		invalid(s.HealthCheck(ctx))
		invalid(s.Close(ctx))
		require.NotEmpty(t, s.String())
		empty(s.Collector())
		_, err := store.NewCache[int](s, "c")
		invalid(err)
		_, err = store.NewState[int](s, "s")
		invalid(err)
	}
	for _, s := range []*cache.Subscription{nil, {}} {
		invalid(s.Close())
		invalid(s.Err())
		_, open := <-s.Messages()
		require.False(t, open)
		_, open = <-s.Gaps()
		require.False(t, open)
		require.Zero(t, s.Dropped())
		require.Empty(t, s.LastEventID())
		require.Empty(t, s.Pattern())
		require.NotEmpty(t, s.String())
	}
}

// TestClientThatIsNone gives constructors what has the type of a client and is none, and
// options that are nil.
func TestClientThatIsNone(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]redis.UniversalClient{
		"nil": nil, "nil client": (*redis.Client)(nil), "nil cluster": (*redis.ClusterClient)(nil),
		"nil Redis": (*cache.Redis)(nil), "zero Redis": &cache.Redis{},
		"zero client": &redis.Client{}, "zero cluster": &redis.ClusterClient{}, "zero ring": &redis.Ring{},
	} {
		_, err := lock.NewRedisLockManager(c)
		require.ErrorIs(t, err, cache.ErrInvalidArgument, name)
		_, err = lock.NewRedisLockManager(nil, lock.WithNodes(c))
		require.ErrorIs(t, err, cache.ErrInvalidArgument, name)
		_, err = notification.NewRedisNotificationSystem(c)
		require.ErrorIs(t, err, cache.ErrInvalidArgument, name)
		_, err = store.New(c)
		require.ErrorIs(t, err, cache.ErrInvalidArgument, name)
	}
	c := redistest.Start(t).Client(t)
	_, err := lock.NewRedisLockManager(c, nil)
	assert.ErrorIs(t, err, cache.ErrInvalidArgument)
	_, err = notification.NewRedisNotificationSystem(c, nil)
	assert.ErrorIs(t, err, cache.ErrInvalidArgument)
	_, err = client.New(nil, nil)
	assert.ErrorIs(t, err, cache.ErrInvalidArgument)
}
