package store

import (
	"slices"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/compozy/cache/store/internal/near"
)

// nearMetrics shows what near caches are like. There are none of them without a near cache.
type nearMetrics struct {
	entries, bytes, invalidated, dropped *prometheus.Desc // by name
	age, up, flushes                     *prometheus.Desc

	mu      sync.Mutex // guards what follows
	tracker *near.Tracker
	caches  map[string][]*near.Cache // by name
}

func newNearMetrics(labels prometheus.Labels) *nearMetrics {
	desc := func(what, help string, names ...string) *prometheus.Desc {
		return prometheus.NewDesc("cache_store_near_"+what, help, names, labels)
	}
	return &nearMetrics{
		entries:     desc("entries", "Values in near caches.", "name"),
		bytes:       desc("bytes", "What values in near caches count: encoded size, key and overhead.", "name"),
		invalidated: desc("invalidated_total", "Changes of keys that near caches have heard of.", "name"),
		dropped:     desc("dropped_total", "Values that near caches did not take, as they had changed meanwhile.", "name"),
		age:         desc("age_seconds", "How old the knowledge of near caches is; missing while they serve nothing."),
		up:          desc("up", "Whether near caches hear of changes, and serve values."),
		flushes:     desc("flushes_total", "How often near caches were emptied, by FLUSHALL or a new connection."),
		caches:      make(map[string][]*near.Cache),
	}
}

// add has a near cache shown.
func (m *nearMetrics) add(name string, tracker *near.Tracker, c *near.Cache) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.tracker, m.caches[name] = tracker, append(slices.Clip(m.caches[name]), c)
}

// Describe implements prometheus.Collector.
func (m *nearMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.entries, m.bytes, m.invalidated, m.dropped, m.age, m.up, m.flushes} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m *nearMetrics) Collect(ch chan<- prometheus.Metric) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.tracker == nil {
		return
	}
	gauge := func(d *prometheus.Desc, n float64, names ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, n, names...)
	}
	count := func(d *prometheus.Desc, n int64, names ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), names...)
	}
	for name, caches := range m.caches {
		var sum near.Stats
		for _, c := range caches {
			s := c.Stats()
			sum.Entries, sum.Bytes = sum.Entries+s.Entries, sum.Bytes+s.Bytes
			sum.Invalidated, sum.Dropped = sum.Invalidated+s.Invalidated, sum.Dropped+s.Dropped
		}
		gauge(m.entries, float64(sum.Entries), name)
		gauge(m.bytes, float64(sum.Bytes), name)
		count(m.invalidated, sum.Invalidated, name)
		count(m.dropped, sum.Dropped, name)
	}
	s, up := m.tracker.Status(), 0.0
	if s.Age >= 0 {
		gauge(m.age, s.Age.Seconds())
	}
	if s.Up {
		up = 1
	}
	gauge(m.up, up)
	count(m.flushes, s.Flushes)
}
