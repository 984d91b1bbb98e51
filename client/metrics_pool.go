package client

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
)

// poolDescs describe the metrics of the connection pools, which go-redis counts
// itself and which are read when they are collected.
type poolDescs struct {
	hits, misses, timeouts, waits, waitSeconds, stale *prometheus.Desc
	conns, limit, pubsub                              *prometheus.Desc
}

func newPoolDescs(labels prometheus.Labels) poolDescs {
	desc := func(name, help string, variable ...string) *prometheus.Desc {
		return prometheus.NewDesc("cache_client_"+name, help, variable, labels)
	}
	return poolDescs{
		hits:        desc("pool_hits_total", "Connections taken from the pool.", "pool"),
		misses:      desc("pool_misses_total", "Connections opened for lack of an idle one.", "pool"),
		timeouts:    desc("pool_timeouts_total", "Waits for a connection that were given up.", "pool"),
		waits:       desc("pool_waits_total", "Waits for a connection.", "pool"),
		waitSeconds: desc("pool_wait_seconds_total", "Time spent waiting for a connection.", "pool"),
		stale:       desc("pool_stale_connections_total", "Connections removed as broken or too old.", "pool"),
		conns:       desc("pool_connections", "Open connections.", "pool", "state"),
		limit:       desc("pool_max_connections", "Connections in use at most: per server, and of all lock nodes together.", "pool"),
		pubsub:      desc("pubsub_connections", "Open subscribing connections."),
	}
}

func (d *poolDescs) describe(ch chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{
		d.hits, d.misses, d.timeouts, d.waits, d.waitSeconds, d.stale, d.conns, d.limit, d.pubsub,
	} {
		ch <- desc
	}
}

// collect emits the metrics of one pool whose size is the limit of its connections.
func (d *poolDescs) collect(ch chan<- prometheus.Metric, pool string, size int, s *redis.PoolStats) {
	counter := func(desc *prometheus.Desc, v float64) {
		ch <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, v, pool)
	}
	counter(d.hits, float64(s.Hits))
	counter(d.misses, float64(s.Misses))
	counter(d.timeouts, float64(s.Timeouts))
	counter(d.waits, float64(s.WaitCount))
	counter(d.waitSeconds, time.Duration(s.WaitDurationNs).Seconds())
	counter(d.stale, float64(s.StaleConns))
	gauge := func(desc *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, v, labels...)
	}
	gauge(d.conns, float64(s.IdleConns), pool, "idle")
	// The two numbers are read one after the other, so they may not agree.
	gauge(d.conns, float64(max(int64(s.TotalConns)-int64(s.IdleConns), 0)), pool, "used")
	gauge(d.limit, float64(size), pool)
}

// addStats adds what collect uses of s, its pipelines' pool included, to sum.
func addStats(sum, s *redis.PoolStats) {
	sum.Hits += s.Hits
	sum.Misses += s.Misses
	sum.Timeouts += s.Timeouts
	sum.WaitCount += s.WaitCount
	sum.WaitDurationNs += s.WaitDurationNs
	sum.TotalConns += s.TotalConns
	sum.IdleConns += s.IdleConns
	sum.StaleConns += s.StaleConns
	sum.PubSubStats.Active += s.PubSubStats.Active
	if s.PipelineStats != nil {
		addStats(sum, (*redis.PoolStats)(s.PipelineStats))
	}
}
