package notification

import (
	"github.com/prometheus/client_golang/prometheus"
)

// Collector returns the Prometheus collector of this system; see the package documentation for its metrics. Each
// call returns an equal collector: register one. Safe for concurrent use.
func (n *RedisNotificationSystem) Collector() prometheus.Collector {
	if n.none() {
		return prometheus.NewRegistry() // collects nothing
	}
	labels := prometheus.Labels{"cache": n.set.name}
	desc := func(name, help string, variable ...string) *prometheus.Desc {
		return prometheus.NewDesc("cache_notification_"+name, help, variable, labels)
	}
	return &collector{
		system:        n,
		published:     desc("published_total", "Events published."),
		publishErrors: desc("publish_errors_total", "Events that could not be published."),
		delivered:     desc("delivered_total", "Messages put into the buffers of subscriptions."),
		recovered:     desc("recovered_total", "Messages delivered from the journal instead of live."),
		dropped:       desc("dropped_total", "Messages dropped because a subscriber was too slow."),
		handlerErrors: desc("handler_errors_total", "Messages that a handler failed, panicked on or could not decode."),
		consumed:      desc("consumed_total", "Events that a function of Consume has handled."),
		retried:       desc("consume_retries_total", "Failed attempts of Consume after which the event came again."),
		claimed:       desc("consume_claims_total", "Events taken over from a process of a group that gave no sign of life."),
		deadLetters:   desc("dead_letters_total", "Events that Consume gave up, and put into the dead letters."),
		subErrors:     desc("subscribe_errors_total", "Subscriptions refused, or not confirmed by Redis in time."),
		gaps:          desc("gaps_total", "Gaps told to subscriptions, by reason.", "reason"),
		reconnects:    desc("reconnects_total", "Times the shared connection was replaced."),
		subscribers:   desc("subscribers", "Open subscriptions."),
		names:         desc("names", "Channels and patterns subscribed to in Redis."),
		buffered:      desc("buffered_messages", "Messages waiting in the buffers of all subscriptions."),
		fullest:       desc("buffer_use_ratio", "Fill level of the fullest buffer of a subscription, from 0 to 1."),
		behind:        desc("replaying_subscribers", "Subscriptions that are catching up from the journal."),
		heartbeatAge:  desc("heartbeat_age_seconds", "Time since a heartbeat last came back, or the first was due; 0 before the first subscription."),
		journalSeconds: desc("journal_seconds", "Age of the oldest event in the journal, which bridges cuts as long; "+
			"missing while there is none, or no heartbeat."),
	}
}

type collector struct {
	system                                                      *RedisNotificationSystem
	published, publishErrors, delivered, recovered, dropped     *prometheus.Desc
	handlerErrors, subErrors, gaps, reconnects                  *prometheus.Desc
	consumed, retried, claimed, deadLetters                     *prometheus.Desc
	subscribers, names, buffered, fullest, behind, heartbeatAge *prometheus.Desc
	journalSeconds                                              *prometheus.Desc
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		c.published, c.publishErrors, c.delivered, c.recovered, c.dropped, c.handlerErrors, c.subErrors, c.gaps,
		c.consumed, c.retried, c.claimed, c.deadLetters, c.reconnects, c.subscribers, c.names, c.buffered, c.fullest, c.behind, c.heartbeatAge, c.journalSeconds,
	} {
		ch <- d
	}
	c.system.metrics.publishSeconds.Describe(ch)
	c.system.metrics.e2eDuration.Describe(ch)
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	m := c.system.metrics
	counter := func(d *prometheus.Desc, v int64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	gauge := func(d *prometheus.Desc, v float64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v)
	}
	counter(c.published, m.published.Load())
	counter(c.publishErrors, m.publishErrors.Load())
	counter(c.delivered, m.delivered.Load())
	counter(c.recovered, m.recovered.Load())
	counter(c.dropped, m.dropped.Load())
	counter(c.handlerErrors, m.handlerErrors.Load())
	counter(c.consumed, m.consumed.Load())
	counter(c.retried, m.retried.Load())
	counter(c.claimed, m.claimed.Load())
	counter(c.deadLetters, m.deadLetters.Load())
	counter(c.subErrors, m.subscribeErrors.Load())
	for _, reason := range gapReasons() {
		counter(c.gaps, m.gaps[reason].Load(), string(reason))
	}
	counter(c.reconnects, c.system.feed.Lost())
	use := c.system.topics.bufferUse()
	gauge(c.subscribers, float64(use.subscribers))
	gauge(c.names, float64(c.system.feed.Names()))
	gauge(c.buffered, float64(use.buffered))
	gauge(c.fullest, use.fullest)
	gauge(c.behind, float64(use.behind))
	gauge(c.heartbeatAge, c.system.heartbeatAge().Seconds())
	if age, known := c.system.journalAge(); known {
		gauge(c.journalSeconds, age.Seconds())
	}
	m.publishSeconds.Collect(ch)
	m.e2eDuration.Collect(ch)
}
