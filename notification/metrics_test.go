package notification_test

import (
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/notification"
)

func TestMetrics(t *testing.T) {
	t.Parallel()
	client := redistest.Start(t).Client(t)
	a := newSystem(t, client, notification.WithName("a"), notification.WithHeartbeat(10*time.Millisecond))
	b := newSystem(t, client, notification.WithName("b"))
	registry := prometheus.NewPedanticRegistry()
	require.NoError(t, registry.Register(a.Collector()))
	require.NoError(t, registry.Register(b.Collector()), "two instances differ in their label")
	s := subscribe(t, a, "k")
	for range 3 {
		require.NoError(t, a.Publish(t.Context(), "k", struct{}{}))
	}
	require.Eventually(t, func() bool { return len(s.Messages()) == 3 }, patience, time.Millisecond)
	require.NoError(t, testutil.GatherAndCompare(registry, strings.NewReader(`
# HELP cache_notification_published_total Events published.
# TYPE cache_notification_published_total counter
cache_notification_published_total{cache="a"} 3
cache_notification_published_total{cache="b"} 0
# HELP cache_notification_delivered_total Messages put into the buffers of subscriptions.
# TYPE cache_notification_delivered_total counter
cache_notification_delivered_total{cache="a"} 3
cache_notification_delivered_total{cache="b"} 0
# HELP cache_notification_buffer_use_ratio Fill level of the fullest buffer of a subscription, from 0 to 1.
# TYPE cache_notification_buffer_use_ratio gauge
cache_notification_buffer_use_ratio{cache="a"} 0.03
cache_notification_buffer_use_ratio{cache="b"} 0
`), "cache_notification_published_total", "cache_notification_delivered_total", "cache_notification_buffer_use_ratio"))
	problems, err := testutil.GatherAndLint(registry)
	require.NoError(t, err)
	assert.Empty(t, problems)

	m := a.GetMetrics()
	assert.EqualValues(t, 3, m.MessagesPublished)
	assert.EqualValues(t, 3, m.MessagesReceived)
	assert.Equal(t, 1, m.ActiveChannels)
	assert.Equal(t, 1, m.Subscribers)
	assert.Positive(t, m.AverageLatency)
	assert.Positive(t, m.DeliveryLatency)
}

func TestSecondsThatTheJournalBridges(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client := server.Client(t)
	n := newSystem(t, client, notification.WithHeartbeat(10*time.Millisecond))
	seconds := func() (float64, bool) {
		t.Helper()
		registry := prometheus.NewPedanticRegistry()
		require.NoError(t, registry.Register(n.Collector()))
		families, err := registry.Gather()
		require.NoError(t, err)
		for _, f := range families {
			if f.GetName() == "cache_notification_journal_seconds" {
				return f.GetMetric()[0].GetGauge().GetValue(), true
			}
		}
		return 0, false
	}
	subscribe(t, n, "k")
	_, known := seconds()
	assert.False(t, known, "there are no events")
	require.NoError(t, n.Publish(t.Context(), "k", struct{}{}))
	require.Eventually(t, func() bool { _, known = seconds(); return known }, patience, time.Millisecond)
	before, _ := seconds()
	assert.Less(t, before, patience.Seconds())
	require.Eventually(t, func() bool { now, _ := seconds(); return now > before }, patience, time.Millisecond, "it grows older")

	require.NoError(t, client.FlushAll(t.Context()).Err())
	require.Eventually(t, func() bool { _, known = seconds(); return !known }, patience, time.Millisecond)
	require.NoError(t, n.Publish(t.Context(), "k", struct{}{}))
	require.Eventually(t, func() bool { _, known = seconds(); return known }, patience, time.Millisecond)
	server.Kill()
	require.Eventually(t, func() bool { _, known = seconds(); return !known }, patience, time.Millisecond)
}

func TestReconnectsAndGapsAreLogged(t *testing.T) {
	t.Parallel()
	client := redistest.Start(t).Client(t)
	log, logs := logging()
	n := newSystem(t, client, log, notification.WithHeartbeat(time.Hour))
	r, _ := record(t, subscribe(t, n, "k")), subscribe(t, n, "other")
	p := &publisher{system: n}
	require.Zero(t, p.publish(t.Context(), "k", 3))
	r.reached(t, p.last)
	assert.Zero(t, logs.FilterLevelExact(zap.WarnLevel).Len())
	only := func(message string) map[string]any {
		t.Helper()
		found := func() *observer.ObservedLogs { return logs.FilterMessage("notification: " + message) }
		// The system may be healthy a moment before it says so.
		require.Eventually(t, func() bool { return found().Len() > 0 }, patience, time.Millisecond, message)
		require.Equal(t, 1, found().Len(), message)
		return found().All()[0].ContextMap()
	}

	cut(t, n, client)
	lost := only("connection lost, reconnecting")
	assert.NotEmpty(t, lost["error"])
	assert.EqualValues(t, 1, lost["failures"])
	assert.Contains(t, only("recovered"), "events")
	assert.Zero(t, logs.FilterMessage("notification: events may be missing").Len(), "nothing was lost")

	logs.TakeAll()
	require.NoError(t, client.FlushAll(t.Context()).Err())
	cut(t, n, client)
	only("connection lost, reconnecting")
	gap := only("events may be missing")
	assert.Equal(t, string(notification.GapWiped), gap["reason"])
	assert.EqualValues(t, 2, gap["subscriptions"])
}

func TestHealth(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	n := newSystem(t, server.Client(t), notification.WithHeartbeat(20*time.Millisecond), notification.WithPingTimeout(50*time.Millisecond))
	server.Stop()
	require.NoError(t, n.HealthCheck(t.Context()), "nobody listens, so nothing is wrong")
	require.NoError(t, n.Alive())
	server.Continue()
	subscribe(t, n, "k")
	require.Eventually(t, func() bool { return n.HealthCheck(t.Context()) == nil }, patience, time.Millisecond)
	server.Stop()
	require.Eventually(t, func() bool { return health(n) != nil }, patience, time.Millisecond)
	require.ErrorIs(t, n.HealthCheck(t.Context()), notification.ErrNotLive)
	require.NoError(t, n.Alive())
	server.Continue()
	require.Eventually(t, func() bool { return n.HealthCheck(t.Context()) == nil }, patience, time.Millisecond)
	require.NoError(t, n.Close())
	require.ErrorIs(t, n.HealthCheck(t.Context()), notification.ErrClosed)
	require.NoError(t, n.Alive())
}

// gauge returns the value of a metric that has one. It may be used in conditions.
func gauge(t *testing.T, n *notification.RedisNotificationSystem, name string) float64 {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	assert.NoError(t, registry.Register(n.Collector()))
	families, err := registry.Gather()
	assert.NoError(t, err)
	for _, family := range families {
		if family.GetName() == "cache_notification_"+name {
			return family.GetMetric()[0].GetGauge().GetValue()
		}
	}
	assert.Fail(t, "no such metric", name)
	return 0
}

func TestHeartbeatAge(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	n := newSystem(t, server.Client(t), notification.WithHeartbeat(20*time.Millisecond))
	age := func() float64 { return gauge(t, n, "heartbeat_age_seconds") }
	assert.Zero(t, age(), "nobody listens, so none is expected")
	subscribe(t, n, "k")
	require.Eventually(t, func() bool { return age() > 0 }, patience, time.Millisecond)
	server.Stop()
	require.Eventually(t, func() bool { return age() > 0.5 }, patience, time.Millisecond)
	server.Continue()
	require.Eventually(t, func() bool { return age() < 0.5 }, patience, time.Millisecond)
}

func TestInProcessServer(t *testing.T) {
	t.Parallel()
	server := miniredis.RunT(t)
	client, target := switched(t, server.Addr())
	n := newSystem(t, client, notification.WithBufferSize(2), notification.WithHeartbeat(10*time.Millisecond))
	r := record(t, subscribe(t, n, "k*"))
	p := &publisher{system: n}
	require.Zero(t, p.publish(t.Context(), "k", 100))
	r.reached(t, p.last)
	assert.Zero(t, r.verify(t, p.sent))
	assert.Empty(t, r.gaps())
	server.Close()
	require.NoError(t, server.StartAddr("127.0.0.1:0")) // by now others may have the port it had
	addr := server.Addr()
	target.Store(&addr)
	require.Eventually(t, func() bool { return n.HealthCheck(t.Context()) == nil }, patience, time.Millisecond)
	require.Zero(t, p.publish(t.Context(), "k", 100))
	r.reached(t, p.last)
	assert.Zero(t, r.verify(t, p.sent))
}
