package client

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
)

// maxCommands bounds the values of the label command. All commands beyond count as "other".
const maxCommands = 128

// metrics is the collector of one client. Measuring a command takes a few map reads
// and atomic additions, and allocates nothing once the command is known.
type metrics struct {
	commands *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	pipeline prometheus.Observer
	pool     []poolMetric
	limit    *prometheus.Desc
	pubsub   *prometheus.Desc
	info, up *prometheus.Desc

	mu    sync.RWMutex // protects known
	known map[string]*commandMetrics
	other *commandMetrics

	version               string // of this module
	checked, nodesChecked verdict

	// main and nodes have the pools. They are set before the collector is handed out.
	main  *server
	nodes []*server
}

// commandMetrics are the metrics of one command.
type commandMetrics struct {
	counts  map[string]prometheus.Counter // by status
	seconds prometheus.Observer
}

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
		known:   make(map[string]*commandMetrics),
		version: moduleVersion(),
		pool:    poolMetrics(labels),
		limit: prometheus.NewDesc("cache_client_pool_max_connections",
			"Connections in use at most: per server, and of all lock nodes together.", []string{"pool"}, labels),
		pubsub: prometheus.NewDesc("cache_client_pubsub_connections", "Open subscribing connections.", nil, labels),
		info: prometheus.NewDesc("cache_info", "Always 1, with the version of this module, what the server said of its own, and the mode.",
			[]string{"version", "redis_version", "mode"}, labels),
		up: prometheus.NewDesc("cache_client_up",
			"Whether the last check succeeded, of the server or of a majority of the lock nodes; missing before the first.",
			[]string{"server"}, labels),
	}
	m.pipeline = m.seconds.WithLabelValues("pipeline")
	m.other = m.create("other")
	return m
}

// command returns the metrics of the command called name. There are such as long as there is
// room and the name looks like one: a key passed to Do by mistake must not become a label.
func (m *metrics) command(name string) *commandMetrics {
	m.mu.RLock()
	c := m.known[name]
	m.mu.RUnlock()
	if c != nil {
		return c
	}
	if !isCommandName(name) {
		return m.other
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if c := m.known[name]; c != nil {
		return c
	}
	if len(m.known) >= maxCommands {
		return m.other
	}
	m.known[name] = m.create(name)
	return m.known[name]
}

// create makes the metrics of one command. Prometheus creates a series when its
// labels are first named, so each known command has all its statuses, at 0.
func (m *metrics) create(name string) *commandMetrics {
	c := &commandMetrics{seconds: m.seconds.WithLabelValues(name), counts: make(map[string]prometheus.Counter)}
	for _, s := range []string{statusOK, statusError, statusTimeout, statusCanceled} {
		c.counts[s] = m.commands.WithLabelValues(name, s)
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

// count counts one outcome.
func (m *commandMetrics) count(err error) { m.counts[status(err)].Inc() }

// Values of the label status.
const (
	statusOK       = "ok"
	statusError    = "error"
	statusTimeout  = "timeout"
	statusCanceled = "canceled"
)

// status classifies the outcome of a command.
func status(err error) string {
	// Only a bare redis.Nil is a missing key: go-redis wraps that of sentinels that do
	// not know the master in the error of every command.
	if err == nil || err == redis.Nil { //nolint:errorlint // see above
		return statusOK
	}
	var timeout net.Error
	switch {
	case errors.Is(err, context.Canceled):
		return statusCanceled
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, redis.ErrPoolTimeout),
		errors.As(err, &timeout) && timeout.Timeout():
		return statusTimeout
	default:
		return statusError
	}
}

var _ prometheus.Collector = (*metrics)(nil)

// Describe implements prometheus.Collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	m.commands.Describe(ch)
	m.seconds.Describe(ch)
	for i, p := range m.pool {
		if i == 0 || p.desc != m.pool[i-1].desc { // open connections have two values
			ch <- p.desc
		}
	}
	ch <- m.limit
	ch <- m.pubsub
	ch <- m.info
	ch <- m.up
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	m.commands.Collect(ch)
	m.seconds.Collect(ch)
	main := m.main.poolStats()
	m.collectPool(ch, "main", m.main.endpoint.maxConns(), main)
	if main.PipelineStats != nil {
		m.collectPool(ch, "pipeline", m.main.endpoint.pipelinePoolSize(), (*redis.PoolStats)(main.PipelineStats))
	}
	pubsub := main.PubSubStats.Active
	if len(m.nodes) > 0 {
		var pools []*redis.PoolStats
		size := 0
		for _, n := range m.nodes {
			stats := n.poolStats()
			pools = append(pools, stats)
			if stats.PipelineStats != nil {
				pools = append(pools, (*redis.PoolStats)(stats.PipelineStats))
			}
			size += n.endpoint.maxConns() + n.endpoint.pipelinePoolSize()
			pubsub += stats.PubSubStats.Active
		}
		m.collectPool(ch, "lock_nodes", size, pools...)
	}
	ch <- prometheus.MustNewConstMetric(m.pubsub, prometheus.GaugeValue, float64(pubsub))
	ch <- prometheus.MustNewConstMetric(m.info, prometheus.GaugeValue, 1, m.version, m.main.productVersion(), m.main.endpoint.mode)
	m.checked.collect(ch, m.up, "main")
	if len(m.nodes) > 0 {
		m.nodesChecked.collect(ch, m.up, "lock_nodes")
	}
}

// poolStats returns the statistics of the pools. Those of a Cluster are zero until a check
// has succeeded: before, go-redis may look for the nodes first, and a scrape would wait for
// a network that does not answer.
func (s *server) poolStats() *redis.PoolStats {
	if s.endpoint.mode == modeCluster && !s.fit.Load() {
		return &redis.PoolStats{}
	}
	return s.client.PoolStats()
}

// poolMetric is a metric of the connection pools, which go-redis counts itself and which
// are read when they are collected.
type poolMetric struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	state []string // the value of the label state, for connections
	value func(*redis.PoolStats) float64
}

func poolMetrics(labels prometheus.Labels) []poolMetric {
	counter := func(name, help string, value func(*redis.PoolStats) float64) poolMetric {
		desc := prometheus.NewDesc("cache_client_pool_"+name+"_total", help, []string{"pool"}, labels)
		return poolMetric{desc, prometheus.CounterValue, nil, value}
	}
	open := prometheus.NewDesc("cache_client_pool_connections", "Open connections.", []string{"pool", "state"}, labels)
	connections := func(state string, value func(*redis.PoolStats) float64) poolMetric {
		return poolMetric{open, prometheus.GaugeValue, []string{state}, value}
	}
	type stats = *redis.PoolStats
	return []poolMetric{
		counter("hits", "Connections taken from the pool.", func(s stats) float64 { return float64(s.Hits) }),
		counter("misses", "Connections opened for lack of an idle one.", func(s stats) float64 { return float64(s.Misses) }),
		counter("timeouts", "Waits for a connection that were given up.", func(s stats) float64 { return float64(s.Timeouts) }),
		counter("waits", "Waits for a connection.", func(s stats) float64 { return float64(s.WaitCount) }),
		counter("wait_seconds", "Time spent waiting for a connection.",
			func(s stats) float64 { return time.Duration(s.WaitDurationNs).Seconds() }),
		counter("stale_connections", "Connections removed as broken or too old.",
			func(s stats) float64 { return float64(s.StaleConns) }),
		connections("idle", func(s stats) float64 { return float64(s.IdleConns) }),
		// The two numbers are read one after the other, so they may not agree.
		connections("used", func(s stats) float64 { return float64(max(int64(s.TotalConns)-int64(s.IdleConns), 0)) }),
	}
}

// collectPool emits the metrics of what counts as one pool, with size connections at most.
func (m *metrics) collectPool(ch chan<- prometheus.Metric, pool string, size int, stats ...*redis.PoolStats) {
	for _, p := range m.pool {
		sum := 0.0
		for _, s := range stats {
			sum += p.value(s)
		}
		ch <- prometheus.MustNewConstMetric(p.desc, p.kind, sum, append([]string{pool}, p.state...)...)
	}
	ch <- prometheus.MustNewConstMetric(m.limit, prometheus.GaugeValue, float64(size), pool)
}
