package notification

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// NotificationMetrics is a snapshot of what a system has done since it was made.
//
//nolint:revive // The name is part of the published API, and package cache exports it under the same name.
type NotificationMetrics struct {
	MessagesPublished int64 // events published
	MessagesReceived  int64 // messages put into the buffers of subscriptions
	MessagesRecovered int64 // of these, read from the journal
	PublishErrors     int64 // events that could not be published
	SubscribeErrors   int64 // subscriptions refused, or not confirmed in time
	DroppedMessages   int64 // messages dropped because a subscriber was too slow
	HandlerErrors     int64 // messages a function of Handle or Consume failed on, panicked on or could not decode
	Gaps              int64 // gaps reported to subscriptions, whatever the reason
	EventsConsumed    int64 // events that a function of Consume has handled
	EventsRetried     int64 // failed attempts of Consume after which the event came again
	EventsClaimed     int64 // events taken over from a process of a group that gave no sign of life
	DeadLetters       int64 // events given up by Consume
	Reconnects        int64 // times the shared connection was replaced
	ActiveChannels    int   // names subscribed to in Redis
	Subscribers       int   // open subscriptions

	AverageLatency  time.Duration // mean time a successful publish took
	DeliveryLatency time.Duration // mean time from publish to arrival, by the publisher's clock
}

// metrics counts without locks, as every delivery passes through here.
type metrics struct {
	published, publishErrors    atomic.Int64
	delivered, recovered        atomic.Int64
	subscribeErrors, dropped    atomic.Int64
	handlerErrors               atomic.Int64
	consumed, retried           atomic.Int64
	claimed, deadLetters        atomic.Int64
	publishTime, deliveryTime   atomic.Int64 // nanoseconds
	deliveryCount               atomic.Int64
	oldest                      atomic.Int64                // the time of the journal's first event, in Unix milliseconds; 0: unknown, or none
	gaps                        map[GapReason]*atomic.Int64 // filled once, never written again
	publishSeconds, e2eDuration prometheus.Histogram
}

func newMetrics(name string) *metrics {
	m := &metrics{gaps: make(map[GapReason]*atomic.Int64)}
	for _, reason := range gapReasons() {
		m.gaps[reason] = new(atomic.Int64)
	}
	labels := prometheus.Labels{"cache": name}
	// From a loopback round trip to a failover.
	buckets := []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}
	m.publishSeconds = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "cache_notification_publish_duration_seconds", ConstLabels: labels, Buckets: buckets,
		Help: "Time a successful publish took, waiting in a batch included.",
	})
	m.e2eDuration = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "cache_notification_delivery_duration_seconds", ConstLabels: labels, Buckets: buckets,
		Help: "Time from publishing an event, by the publisher's clock, to its arrival, live or from the journal after a cut.",
	})
	return m
}

func (m *metrics) publishTook(d time.Duration) {
	m.publishTime.Add(int64(d))
	m.publishSeconds.Observe(d.Seconds())
}

// arrived observes how old an event is. Clocks of two machines differ, so an age may come out negative.
func (m *metrics) arrived(age time.Duration) {
	age = max(age, 0)
	m.deliveryTime.Add(int64(age))
	m.deliveryCount.Add(1)
	m.e2eDuration.Observe(age.Seconds())
}

func (m *metrics) gap(reason GapReason) {
	if count := m.gaps[reason]; count != nil {
		count.Add(1)
	}
}

// GetMetrics returns a snapshot. Safe for concurrent use.
func (n *RedisNotificationSystem) GetMetrics() *NotificationMetrics {
	if n.none() {
		return &NotificationMetrics{}
	}
	m := n.metrics
	snapshot := &NotificationMetrics{
		MessagesPublished: m.published.Load(),
		MessagesReceived:  m.delivered.Load(),
		MessagesRecovered: m.recovered.Load(),
		PublishErrors:     m.publishErrors.Load(),
		SubscribeErrors:   m.subscribeErrors.Load(),
		DroppedMessages:   m.dropped.Load(),
		HandlerErrors:     m.handlerErrors.Load(),
		EventsConsumed:    m.consumed.Load(),
		EventsRetried:     m.retried.Load(),
		EventsClaimed:     m.claimed.Load(),
		DeadLetters:       m.deadLetters.Load(),
		Reconnects:        n.feed.Lost(),
		ActiveChannels:    n.feed.Names(),
		Subscribers:       n.topics.subscribers(),
		AverageLatency:    mean(m.publishTime.Load(), m.published.Load()),
		DeliveryLatency:   mean(m.deliveryTime.Load(), m.deliveryCount.Load()),
	}
	for _, count := range m.gaps {
		snapshot.Gaps += count.Load()
	}
	return snapshot
}

func mean(sum, count int64) time.Duration {
	if count == 0 {
		return 0
	}
	return time.Duration(sum / count)
}
