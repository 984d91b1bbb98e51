package notification_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/notification"
)

// While Redis is away, names that nobody wants any more are not kept for it.
func TestNamesAreForgottenWithoutRedis(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	n := newSystem(t, server.Client(t), notification.WithUnsubscribeDelay(-1), notification.WithPingTimeout(10*time.Millisecond))
	r := record(t, subscribe(t, n, "k"))
	server.Kill()
	require.Eventually(t, func() bool { return health(n) != nil }, patience, time.Millisecond)
	for i := range 50 {
		require.NoError(t, n.Subscribe(t.Context(), fmt.Sprintf("task:%d", i)).Close())
	}
	require.Eventually(t, func() bool { return n.GetMetrics().ActiveChannels == 1 }, patience, time.Millisecond)
	server.Restart()
	p := &publisher{system: n}
	p.arrived(t, r)
	assert.Equal(t, 1, n.GetMetrics().ActiveChannels)
}

// An outage is logged at its beginning and its end, however many attempts to connect there are in between.
func TestLogOfAnOutage(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	log, logs := logging()
	n := newSystem(t, server.Client(t), log)
	subscribe(t, n, "k")
	server.Kill()
	lost := func() *observer.ObservedLogs {
		return logs.FilterMessage("notification: connection lost, reconnecting")
	}
	require.Eventually(t, func() bool { return lost().Len() > 5 }, patience, time.Millisecond)
	server.Restart()
	require.Eventually(t, func() bool { return n.HealthCheck(t.Context()) == nil }, patience, time.Millisecond)
	assert.Equal(t, 1, lost().FilterLevelExact(zap.WarnLevel).Len())
	assert.Equal(t, 2, logs.FilterMessage("notification: connected").FilterLevelExact(zap.InfoLevel).Len())
}

// A system that has never reached Redis has no heartbeats, which shows.
func TestHeartbeatAgeWithoutRedis(t *testing.T) {
	t.Parallel()
	client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1"})
	t.Cleanup(func() { _ = client.Close() })
	n := newSystem(t, client, notification.WithPingTimeout(time.Millisecond))
	age := func() float64 { return gauge(t, n, "heartbeat_age_seconds") }
	assert.Zero(t, age())
	n.Subscribe(t.Context(), "k")
	first := age()
	assert.Positive(t, first)
	require.Eventually(t, func() bool { return age() > first }, patience, time.Millisecond)
}

// Gaps are logged, however many messages they stand for.
func TestLogOfGaps(t *testing.T) {
	t.Parallel()
	for reason, tc := range map[notification.GapReason]struct {
		policy notification.Policy
		cause  func(t *testing.T, server *redistest.Server, n *notification.RedisNotificationSystem)
	}{
		notification.GapOverflow: {notification.PolicyDropNewest, func(t *testing.T, _ *redistest.Server, n *notification.RedisNotificationSystem) {
			t.Helper()
			s, other := subscribe(t, n, "k"), record(t, subscribe(t, n, "other"))
			for i := range 10 {
				require.NoError(t, n.Publish(t.Context(), "k", numbered{i}))
			}
			require.NoError(t, n.Publish(t.Context(), "other", numbered{1}))
			other.reached(t, 1)
			assert.EqualValues(t, 9, s.Dropped())
		}},
		notification.GapForeign: {notification.PolicyReplay, func(t *testing.T, server *redistest.Server, n *notification.RedisNotificationSystem) {
			t.Helper()
			s, client := subscribe(t, n, "k"), server.Client(t)
			for range 10 {
				require.NoError(t, client.Publish(t.Context(), "k", "").Err())
			}
			require.Eventually(t, func() bool { return s.Dropped() == 9 }, patience, time.Millisecond)
		}},
		notification.GapTrimmed: {notification.PolicyReplay, func(t *testing.T, server *redistest.Server, n *notification.RedisNotificationSystem) {
			t.Helper()
			require.NoError(t, n.Publish(t.Context(), "k", numbered{1}))
			s := n.SubscribeFrom(t.Context(), "k", "1-1")
			assert.NotNil(t, next(t, s).Gap)
		}},
		notification.GapLate: {notification.PolicyReplay, func(t *testing.T, server *redistest.Server, n *notification.RedisNotificationSystem) {
			t.Helper()
			server.Stop()
			s := subscribe(t, n, "k")
			server.Continue()
			assert.Equal(t, notification.GapLate, told(t, s).Reason)
		}},
	} {
		t.Run(string(reason), func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t)
			log, logs := logging()
			opts := []notification.Option{log, notification.WithPolicy(tc.policy), notification.WithBufferSize(1)}
			if reason == notification.GapLate {
				opts = append(opts, notification.WithPingTimeout(100*time.Millisecond))
			}
			n := newSystem(t, server.Client(t), opts...)
			tc.cause(t, server, n)
			entries := func() *observer.ObservedLogs {
				return logs.FilterMessage("notification: events may be missing").FilterLevelExact(zap.WarnLevel)
			}
			require.Eventually(t, func() bool { return entries().Len() == 1 }, patience, time.Millisecond)
			assert.Equal(t, map[string]any{"reason": string(reason), "name": "k"}, entries().All()[0].ContextMap())
		})
	}
}
