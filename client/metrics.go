package client

import (
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
)

// maxCommands bounds the values of the label command.
const maxCommands = 128

// otherCommand stands for all commands beyond them.
const otherCommand = "other"

// metrics is the collector of one client. Measuring a command takes two map reads
// and a few atomic additions, and allocates nothing once the command is known.
type metrics struct {
	commands *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	pipeline prometheus.Observer
	pool     poolDescs

	// known maps command names to their metrics. Readers load it without a lock;
	// writers replace it under mu, which happens once per name.
	known atomic.Pointer[map[string]*commandMetrics]
	mu    sync.Mutex
	other *commandMetrics

	// set by watch, before the collector is handed out
	stats func() *redis.PoolStats
	main  *endpoint
	nodes []*server
}

// commandMetrics are the metrics of one command.
type commandMetrics struct {
	counts  [statuses]prometheus.Counter
	seconds prometheus.Observer
}

// count counts one outcome.
func (m *commandMetrics) count(err error) { m.counts[status(err)].Inc() }

// newMetrics creates the metrics of the instance called name.
func newMetrics(name string) *metrics {
	labels := prometheus.Labels{"cache": name}
	m := &metrics{
		commands: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name:        "cache_client_commands_total",
			Help:        "Commands by name and status.",
			ConstLabels: labels,
		}, []string{"command", "status"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:        "cache_client_command_duration_seconds",
			Help:        "Time of commands by name, retries included; a pipeline counts once.",
			ConstLabels: labels,
			// From a fast answer on the same machine to the read timeout.
			Buckets: []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5},
		}, []string{"command"}),
		pool: newPoolDescs(labels),
	}
	m.known.Store(&map[string]*commandMetrics{})
	m.pipeline = m.seconds.WithLabelValues("pipeline")
	m.other = m.create(otherCommand)
	return m
}

// watch sets what is exported about pools: the main client's statistics, where
// their sizes are, and the lock nodes.
func (m *metrics) watch(stats func() *redis.PoolStats, main *endpoint, nodes []*server) {
	m.stats, m.main, m.nodes = stats, main, nodes
}

// command returns the metrics of the command called name.
func (m *metrics) command(name string) *commandMetrics {
	if c, ok := (*m.known.Load())[name]; ok {
		return c
	}
	return m.learn(name)
}

// learn adds a command, as long as there is room and the name looks like one: a key
// passed to Do by mistake must not become a label.
func (m *metrics) learn(name string) *commandMetrics {
	if !isCommandName(name) {
		return m.other
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	old := *m.known.Load()
	if c, ok := old[name]; ok {
		return c
	}
	if len(old) >= maxCommands {
		return m.other
	}
	next := maps.Clone(old)
	next[name] = m.create(name)
	m.known.Store(&next)
	return next[name]
}

// create makes the metrics of one command. Prometheus creates a series when its
// labels are first named, so each known command has all its statuses, at 0.
func (m *metrics) create(name string) *commandMetrics {
	c := &commandMetrics{seconds: m.seconds.WithLabelValues(name)}
	for i := range c.counts {
		c.counts[i] = m.commands.WithLabelValues(name, statusName(i))
	}
	return c
}

// isCommandName reports whether name looks like "get", "json.set" or "zrange_store".
func isCommandName(name string) bool {
	for _, r := range name {
		if (r < 'a' || r > 'z') && r != '.' && r != '_' && r != '-' {
			return false
		}
	}
	return name != "" && len(name) <= 24
}

var _ prometheus.Collector = (*metrics)(nil)

// Describe implements prometheus.Collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	m.commands.Describe(ch)
	m.seconds.Describe(ch)
	m.pool.describe(ch)
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	m.commands.Collect(ch)
	m.seconds.Collect(ch)
	main := m.stats()
	m.pool.collect(ch, "main", m.main.options.PoolSize, main)
	if main.PipelineStats != nil {
		m.pool.collect(ch, "pipeline", m.main.pipelinePoolSize(), (*redis.PoolStats)(main.PipelineStats))
	}
	pubsub := main.PubSubStats.Active
	if len(m.nodes) > 0 {
		sum, size := &redis.PoolStats{}, 0
		for _, n := range m.nodes {
			addStats(sum, n.client.PoolStats())
			size += n.endpoint.options.PoolSize + n.endpoint.pipelinePoolSize()
		}
		m.pool.collect(ch, "lock_nodes", size, sum)
		pubsub += sum.PubSubStats.Active
	}
	ch <- prometheus.MustNewConstMetric(m.pool.pubsub, prometheus.GaugeValue, float64(pubsub))
}

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
