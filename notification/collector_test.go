package notification

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Every number is another one here, so that none can be taken for another.
func TestEveryNumberIsItsOwn(t *testing.T) {
	t.Parallel()
	client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1"}) // never asked
	t.Cleanup(func() { _ = client.Close() })
	n, err := NewRedisNotificationSystem(client, WithBufferSize(40))
	require.NoError(t, err)
	m := n.metrics
	m.published.Store(2)
	m.publishErrors.Store(101)
	m.delivered.Store(102)
	m.recovered.Store(103)
	m.dropped.Store(104)
	m.handlerErrors.Store(105)
	m.subscribeErrors.Store(106)
	m.consumed.Store(108)
	m.retried.Store(109)
	m.claimed.Store(110)
	m.deadLetters.Store(111)
	assert.NotContains(t, gather(t, n.Collector()), "journal_seconds", "as long as no heartbeat tells")
	m.oldest.Store(time.Now().Add(-time.Hour).UnixMilli())
	m.publishTook(3 * time.Second)
	m.publishTook(5 * time.Second)
	m.arrived(7 * time.Second)
	m.arrived(9 * time.Second)
	m.arrived(14 * time.Second)
	expected := map[string]float64{
		"published_total": 2, "publish_errors_total": 101, "delivered_total": 102, "recovered_total": 103,
		"dropped_total": 104, "handler_errors_total": 105, "subscribe_errors_total": 106, "reconnects_total": 0,
		"consumed_total": 108, "consume_retries_total": 109, "consume_claims_total": 110, "dead_letters_total": 111,
		"publish_duration_seconds count": 2, "publish_duration_seconds sum": 8,
		"delivery_duration_seconds count": 3, "delivery_duration_seconds sum": 30,
		"subscribers": 5, "names": 4, "buffered_messages": 13, "buffer_use_ratio": 0.25, "replaying_subscribers": 1,
		"heartbeat_age_seconds": 0, // without subscriptions of its own
	}
	gaps := int64(0)
	for i, reason := range gapReasons() {
		count := int64(201 + i)
		m.gaps[reason].Store(count)
		expected["gaps_total "+string(reason)] = float64(count)
		gaps += count
	}
	for i, name := range []string{"a", "a", "b", "c*", "d"} {
		s := newSubscription(n.common, name)
		n.topics.attach(s)
		if i == 0 {
			s.state = behind
		}
		for range []int{10, 3, 0, 0, 0}[i] {
			s.messages <- new(Message)
		}
	}
	got := gather(t, n.Collector())
	assert.InDelta(t, 3600, got["journal_seconds"], 60)
	delete(got, "journal_seconds")
	assert.Equal(t, expected, got)
	assert.Equal(t, &NotificationMetrics{
		EventsConsumed: 108, EventsRetried: 109, EventsClaimed: 110, DeadLetters: 111,
		MessagesPublished: 2, PublishErrors: 101, MessagesReceived: 102, MessagesRecovered: 103, DroppedMessages: 104,
		HandlerErrors: 105, SubscribeErrors: 106, Gaps: gaps, ActiveChannels: 4, Subscribers: 5,
		AverageLatency: 4 * time.Second, DeliveryLatency: 10 * time.Second,
	}, n.GetMetrics())
}

// gather returns every series of a collector, without the prefix of its name.
func gather(t *testing.T, c prometheus.Collector) map[string]float64 {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	require.NoError(t, registry.Register(c))
	families, err := registry.Gather()
	require.NoError(t, err)
	series := make(map[string]float64)
	for _, family := range families {
		name := strings.TrimPrefix(family.GetName(), "cache_notification_")
		for _, m := range family.GetMetric() {
			key := name
			for _, label := range m.GetLabel() {
				if label.GetName() == "reason" {
					key += " " + label.GetValue()
				}
			}
			switch {
			case m.GetHistogram() != nil:
				series[key+" count"] = float64(m.GetHistogram().GetSampleCount())
				series[key+" sum"] = m.GetHistogram().GetSampleSum()
			case m.GetGauge() != nil:
				series[key] = m.GetGauge().GetValue()
			default:
				series[key] = m.GetCounter().GetValue()
			}
		}
	}
	return series
}
