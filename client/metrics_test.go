package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/config"
	"github.com/compozy/cache/internal/redistest"
)

// counted returns the value of cache_client_commands_total.
func counted(r *Redis, command, status string) float64 {
	return testutil.ToFloat64(r.metrics.commands.WithLabelValues(command, status))
}

func TestMetricsOfCommands(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	r := ready(t, &config.Config{URL: srv.URL()})
	ctx := t.Context()
	require.NoError(t, r.Set(ctx, "k", "v", 0).Err())
	require.NoError(t, r.Get(ctx, "k").Err())
	require.ErrorIs(t, r.Get(ctx, "missing").Err(), redis.Nil)
	require.Error(t, r.LPush(ctx, "k", "x").Err())
	canceled, cancel := context.WithCancel(ctx)
	cancel()
	require.Error(t, r.Get(canceled, "k").Err())
	_, err := r.Pipelined(ctx, func(p redis.Pipeliner) error {
		p.Incr(ctx, "n")
		p.Incr(ctx, "n")
		p.Get(ctx, "missing")
		p.LPush(ctx, "k", "x")
		return nil
	})
	require.Error(t, err)
	_, err = r.TxPipelined(ctx, func(p redis.Pipeliner) error { p.Incr(ctx, "n"); return nil })
	require.NoError(t, err)

	require.InDelta(t, 1, counted(r, "set", "ok"), 0)
	require.InDelta(t, 3, counted(r, "get", "ok"), 0)
	require.InDelta(t, 0, counted(r, "get", "error"), 0)
	require.InDelta(t, 1, counted(r, "get", "canceled"), 0)
	require.InDelta(t, 2, counted(r, "lpush", "error"), 0)
	require.InDelta(t, 3, counted(r, "incr", "ok"), 0)
	require.InDelta(t, 2, counted(r, "exec", "ok"), 0, "the check of the start sends one as well")
}

// Sentinels answer nil about a master they do not know, and go-redis wraps that: no
// command got through, so none was ok.
func TestMetricsOfAnUnknownMaster(t *testing.T) {
	t.Parallel()
	set := redistest.StartSentinel(t)
	r := open(t, &config.Config{MasterName: "nobody", Addrs: set.Addrs(), MaxRetries: -1, MinIdleConns: 1})
	err := r.Get(t.Context(), "k").Err()
	require.ErrorIs(t, err, redis.Nil)
	require.NotEqual(t, redis.Nil, err)
	_, err = r.Pipelined(t.Context(), func(p redis.Pipeliner) error { p.Get(t.Context(), "k"); return nil })
	require.ErrorIs(t, err, redis.Nil)
	require.InDelta(t, 2, counted(r, "get", "error"), 0)
	require.InDelta(t, 0, counted(r, "get", "ok"), 0)
}

func TestMetricsOfTimeouts(t *testing.T) {
	t.Parallel()
	l := listen(t, nil)
	r := open(t, &config.Config{URL: "redis://" + l.address() + "?read_timeout=10ms&max_retries=-1"})
	require.Error(t, r.Get(t.Context(), "k").Err())
	require.InDelta(t, 1, counted(r, "get", "timeout"), 0)
}

func TestStatus(t *testing.T) {
	t.Parallel()
	for want, errs := range map[string][]error{
		"ok":       {nil, redis.Nil},
		"error":    {errors.New("ERR"), redis.ErrClosed, os.ErrNotExist, fmt.Errorf("wrapped: %w", redis.Nil)},
		"timeout":  {context.DeadlineExceeded, os.ErrDeadlineExceeded, redis.ErrPoolTimeout},
		"canceled": {context.Canceled, fmt.Errorf("wrapped: %w", context.Canceled)},
	} {
		for _, err := range errs {
			require.Equal(t, want, status(err), "%v", err)
		}
	}
}

func TestMetricsAreClean(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	r := ready(t, &config.Config{URL: srv.URL(), LockNodes: []string{srv.Addr()}}, WithName("sessions"))
	require.NoError(t, r.Set(t.Context(), "k", "v", 0).Err())
	other := ready(t, &config.Config{URL: srv.URL()}, WithName(""))
	reg := prometheus.NewPedanticRegistry()
	require.NoError(t, reg.Register(r.Collector()))
	require.NoError(t, reg.Register(other.Collector()), "two instances fit into one registry")

	problems, err := testutil.GatherAndLint(reg)
	require.NoError(t, err)
	require.Empty(t, problems)

	families, err := reg.Gather()
	require.NoError(t, err)
	for _, f := range families {
		names := make(map[string]bool)
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetName() == "cache" {
					names[l.GetValue()] = true
				}
			}
		}
		require.Equal(t, map[string]bool{"sessions": true, "default": true}, names, f.GetName())
	}
}

// The package comment is where users look for the metrics.
func TestMetricsAreDocumented(t *testing.T) {
	t.Parallel()
	r := build(t, &config.Config{LockNodes: []string{"a:1"}})
	r.metrics.command("get")
	r.metrics.checked.note(t.Context(), nil)
	doc, err := os.ReadFile("doc.go")
	require.NoError(t, err)
	documented := make(map[string]bool)
	for _, m := range regexp.MustCompile(`cache_(client_\w+|info)`).FindAllString(string(doc), -1) {
		documented[m] = true
	}
	reg := prometheus.NewPedanticRegistry()
	require.NoError(t, reg.Register(r.Collector()))
	families, err := reg.Gather()
	require.NoError(t, err)
	exported := make(map[string]bool)
	for _, f := range families {
		exported[f.GetName()] = true
	}
	require.Equal(t, exported, documented)
}

func TestMetricsOfPools(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	r := ready(t, &config.Config{URL: srv.URL(), PoolSize: 3, MinIdleConns: 1, LockNodes: []string{srv.Addr()}})
	require.NoError(t, r.LockNodes()[0].Ping(t.Context()).Err())
	_, err := r.Pipelined(t.Context(), func(p redis.Pipeliner) error { return p.Ping(t.Context()).Err() })
	require.NoError(t, err)
	sub := r.Subscribe(t.Context(), "ch")
	_, err = sub.Receive(t.Context())
	require.NoError(t, err)
	defer func() { _ = sub.Close() }()

	text := collect(t, r)
	require.Contains(t, text, `cache_client_pool_max_connections{cache="default",pool="main"} 3`)
	require.Contains(t, text, `cache_client_pool_max_connections{cache="default",pool="lock_nodes"} 13`, "10 for pipelines")
	require.Contains(t, text, `cache_client_pool_connections{cache="default",pool="lock_nodes",state="idle"} 1`, "one is enough for a check")
	require.Contains(t, text, `cache_client_pool_connections{cache="default",pool="pipeline",state="idle"} 1`)
	require.Contains(t, text, `cache_client_pool_misses_total{cache="default",pool="lock_nodes"} 1`)
	require.Contains(t, text, `cache_client_pubsub_connections{cache="default"} 1`)
	require.Contains(t, text, `cache_client_command_duration_seconds{cache="default",command="pipeline"}`)
}

func TestMetricsOfPoolSizes(t *testing.T) {
	t.Parallel()
	const limit = `cache_client_pool_max_connections{cache="default",pool=`
	text := collect(t, build(t, &config.Config{
		URL:       "redis://localhost:1?pool_size=30&pipeline_pool_size=50",
		LockNodes: []string{"redis://a:1?pool_size=7&pipeline_pool_size=2", "redis://b:1?pipeline_pool_size=-1", "c:1"},
	}))
	require.Contains(t, text, limit+`"main"} 30`)
	require.Contains(t, text, limit+`"pipeline"} 50`)
	require.Contains(t, text, limit+`"lock_nodes"} 99`, "7 and 2, 10 and none, 30 and 50 as the main server has them")

	text = collect(t, build(t, &config.Config{URL: "redis://localhost:1?pipeline_pool_size=-1"}))
	require.NotContains(t, text, `pool="pipeline"`)
}

// collect renders all metrics as text, histograms by their number of observations.
func collect(t *testing.T, r *Redis) string {
	t.Helper()
	reg := prometheus.NewPedanticRegistry()
	require.NoError(t, reg.Register(r.Collector()))
	families, err := reg.Gather()
	require.NoError(t, err)
	var text strings.Builder
	for _, f := range families {
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
			}
			value := m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
			fmt.Fprintf(&text, "%s{%s} %g\n", f.GetName(), strings.Join(labels, ","), value)
		}
	}
	return text.String()
}

// Whoever mistakes Do, or makes up commands, must not flood the metrics.
func TestCommandLabelsAreBounded(t *testing.T) {
	t.Parallel()
	m := newMetrics("x")
	for _, name := range []string{"", "user:42", "GET", "get key", "größe", strings.Repeat("x", 25), "a1"} {
		require.Same(t, m.other, m.command(name), name)
	}
	require.NotSame(t, m.other, m.command("json.set"))
	for i := range 10 * maxCommands {
		m.command("c" + strings.Repeat("a", i%20) + string(rune('a'+i%26)) + string(rune('a'+i/26%26)))
	}
	require.Len(t, m.known, maxCommands)
	require.Same(t, m.other, m.command("newcommand"))
	first := m.command("json.set")
	require.Same(t, first, m.command("json.set"))
}

func TestMetricsAfterClose(t *testing.T) {
	t.Parallel()
	r := build(t, &config.Config{LockNodes: []string{"a:1"}})
	require.NoError(t, r.Close())
	require.NotEmpty(t, collect(t, r))
}

// A scrape must not wait for a Cluster that does not answer.
func TestMetricsOfClusterThatIsAway(t *testing.T) {
	t.Parallel()
	var dials atomic.Int64
	r := open(t, &config.Config{Cluster: true, Dialer: func(ctx context.Context, _, _ string) (net.Conn, error) {
		dials.Add(1)
		<-ctx.Done()
		return nil, ctx.Err()
	}})
	eventually(t, func() bool { return dials.Load() == 1 }, "the idle keeper's probe")
	require.Contains(t, collect(t, r), "cache_client_pool_hits_total")
	require.Equal(t, int64(1), dials.Load())
}

// A lock node that answers says nothing about the Cluster.
func TestMetricsOfClusterThatIsAwayBesideALockNode(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	var dials atomic.Int64
	r := open(t, &config.Config{
		Cluster: true, Addrs: []string{"away:1"}, LockNodes: []string{srv.Addr()}, PingTimeout: patience,
		Dialer: func(ctx context.Context, network, addr string) (net.Conn, error) {
			if addr == srv.Addr() {
				return new(net.Dialer).DialContext(ctx, network, addr)
			}
			dials.Add(1)
			<-ctx.Done()
			return nil, ctx.Err()
		},
	})
	eventually(t, func() bool { return dials.Load() == 1 }, "the idle keeper's probe")
	require.NoError(t, r.LockNodes()[0].Set(t.Context(), "k", "v", 0).Err())
	_, err := r.LockNodes()[0].Pipelined(t.Context(), func(p redis.Pipeliner) error { return p.Get(t.Context(), "k").Err() })
	require.NoError(t, err)
	require.NoError(t, r.CheckLockNodes(t.Context()))
	require.Contains(t, collect(t, r), "cache_client_pool_hits_total")
	require.Equal(t, int64(1), dials.Load())
}

func TestMetricsOfCluster(t *testing.T) {
	t.Parallel()
	set := redistest.StartCluster(t, 3)
	r := ready(t, &config.Config{Cluster: true, Addrs: set.Addrs(), MinIdleConns: 1})
	require.NoError(t, r.Set(t.Context(), "k", "v", 0).Err())
	require.InDelta(t, 1, counted(r, "set", "ok"), 0)
	idle := regexp.MustCompile(`cache_client_pool_connections\{cache="default",pool="main",state="idle"\} ([3-9]|\d\d)\n`)
	eventually(t, func() bool { return idle.MatchString(collect(t, r)) }, "connections to every master")
}

// Not parallel, as testing.AllocsPerRun demands.
//
//nolint:paralleltest // see above
func TestHookAllocatesNothing(t *testing.T) {
	srv := redistest.Start(t)
	cfg := &config.Config{URL: srv.URL(), MinIdleConns: -1}
	cfg = cfg.WithDefaults()
	cfg.MinIdleConns = 0 // nothing in the background
	ours := ready(t, cfg)
	o := *single(t, ours.UniversalClient)
	o.Dialer, o.MaxRetries, o.MinRetryBackoff, o.MaxRetryBackoff = nil, 3, 0, 0
	plain := redis.NewClient(&o)
	t.Cleanup(func() { require.NoError(t, plain.Close()) })

	ctx := context.Background()
	for name, run := range map[string]func(redis.UniversalClient) error{
		"get":     func(c redis.UniversalClient) error { return c.Get(ctx, "k").Err() },
		"set":     func(c redis.UniversalClient) error { return c.Set(ctx, "k", "v", 0).Err() },
		"evalsha": func(c redis.UniversalClient) error { return c.EvalSha(ctx, sha, []string{"k"}, 1).Err() },
		"pipeline": func(c redis.UniversalClient) error {
			p := c.Pipeline()
			p.Get(ctx, "k")
			p.Set(ctx, "k", "v", 0)
			_, err := p.Exec(ctx)
			return err
		},
		"transaction": func(c redis.UniversalClient) error {
			p := c.TxPipeline()
			p.Set(ctx, "k", "v", 0)
			_, err := p.Exec(ctx)
			return err
		},
		"missing": func(c redis.UniversalClient) error {
			if err := c.Get(ctx, "missing").Err(); !errors.Is(err, redis.Nil) {
				return fmt.Errorf("want redis.Nil, got %w", err)
			}
			return nil
		},
	} {
		require.NoError(t, plain.ScriptLoad(ctx, script).Err())
		require.NoError(t, plain.Set(ctx, "k", "v", 0).Err())
		measure := func(c redis.UniversalClient) float64 {
			var failed error
			n := testing.AllocsPerRun(500, func() {
				if err := run(c); err != nil {
					failed = err
				}
			})
			require.NoError(t, failed, name)
			return n
		}
		require.InDelta(t, measure(plain), measure(ours), 0, "allocations per %s", name)
	}
}

// script and its SHA-1.
const (
	script = "return 1"
	sha    = "e0e1f9fabfc9d4800c877a703b823ac0578ff8db"
)
