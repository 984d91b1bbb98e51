package client

import (
	"crypto/tls"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/config"
	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/internal/redisx"
)

// single returns the options of a client for one server.
func single(t *testing.T, c redis.UniversalClient) *redis.Options {
	t.Helper()
	inner, ok := redisx.Unwrap[*redis.Client](c)
	require.True(t, ok)
	return inner.Options()
}

func TestSettingsReachGoRedis(t *testing.T) {
	t.Parallel()
	r := build(t, &config.Config{
		Host: "::1", Port: "6380", Username: "app", Password: "pw", DB: 3,
		PoolSize: 7, MaxIdleConns: 6, MinIdleConns: 5,
		DialTimeout: 1 * time.Second, ReadTimeout: 2 * time.Second, WriteTimeout: 3 * time.Second, PoolTimeout: 4 * time.Second,
		MaxRetries: 8, MinRetryBackoff: 9 * time.Millisecond, MaxRetryBackoff: 10 * time.Millisecond,
		ClientName: "orders", Protocol: 2, ConnMaxLifetime: time.Hour, ConnMaxIdleTime: time.Minute,
	})
	o := single(t, r.UniversalClient)
	require.Equal(t, "tcp", o.Network)
	require.Equal(t, "[::1]:6380", o.Addr)
	require.Equal(t, "app", o.Username)
	require.Equal(t, "pw", o.Password)
	require.Equal(t, 3, o.DB)
	require.Equal(t, 7, o.PoolSize)
	require.Equal(t, 6, o.MaxIdleConns)
	require.Zero(t, o.MinIdleConns, "the idle keeper's business")
	require.Equal(t, 5, r.idle.least)
	require.Equal(t, 1*time.Second, o.DialTimeout)
	require.Equal(t, 2*time.Second, o.ReadTimeout)
	require.Equal(t, 3*time.Second, o.WriteTimeout)
	require.Equal(t, 4*time.Second, o.PoolTimeout)
	require.Equal(t, 8, o.MaxRetries)
	require.Equal(t, 9*time.Millisecond, o.MinRetryBackoff)
	require.Equal(t, 10*time.Millisecond, o.MaxRetryBackoff)
	require.Equal(t, "orders", o.ClientName)
	require.Equal(t, 2, o.Protocol)
	require.Equal(t, time.Hour, o.ConnMaxLifetime)
	require.Equal(t, time.Minute, o.ConnMaxIdleTime)
	require.True(t, o.ContextTimeoutEnabled)
	require.Equal(t, maintnotifications.ModeDisabled, o.MaintNotificationsConfig.Mode)
	require.Nil(t, o.TLSConfig)
}

// Zero means none in a complete Config and the default in go-redis.
func TestZerosReachGoRedis(t *testing.T) {
	t.Parallel()
	cfg := config.Default()
	cfg.MaxRetries, cfg.MinRetryBackoff, cfg.MaxRetryBackoff = 0, 0, 0
	cfg.ReadTimeout, cfg.WriteTimeout, cfg.MaxIdleConns, cfg.MinIdleConns = 0, 0, 0, 0
	cfg.ConnMaxLifetime, cfg.ConnMaxIdleTime = 0, 0
	r := build(t, cfg)
	o := single(t, r.UniversalClient) // after go-redis has translated -1 to 0
	require.Zero(t, o.MaxRetries)
	require.Zero(t, o.MinRetryBackoff)
	require.Zero(t, o.MaxRetryBackoff)
	require.Zero(t, o.ReadTimeout)
	require.Zero(t, o.WriteTimeout)
	require.Zero(t, o.MaxIdleConns)
	require.LessOrEqual(t, o.ConnMaxLifetime, time.Duration(0))
	require.LessOrEqual(t, o.ConnMaxIdleTime, time.Duration(0))
	require.Nil(t, r.idle)

	o = single(t, build(t, nil).UniversalClient)
	require.Equal(t, 30*time.Minute, o.ConnMaxIdleTime)
	require.Equal(t, 3, o.Protocol)
}

func TestURLWins(t *testing.T) {
	t.Parallel()
	base := config.Config{Host: "other", Port: "1", Username: "u", Password: "p", DB: 3, PoolSize: 9, ReadTimeout: time.Minute}
	for url, want := range map[string]struct {
		network, addr, user, password string
		db                            int
	}{
		"redis://h":                {"tcp", "h:6379", "u", "p", 3},
		"redis://h:2/0":            {"tcp", "h:2", "u", "p", 0},
		"redis://h:2/5":            {"tcp", "h:2", "u", "p", 5},
		"redis://h?db=6":           {"tcp", "h:6379", "u", "p", 6},
		"redis://U:P@h":            {"tcp", "h:6379", "U", "P", 3},
		"redis://:P@h":             {"tcp", "h:6379", "u", "P", 3},
		"redis://U@h":              {"tcp", "h:6379", "U", "p", 3},
		"redis://U:p%2F%40@[::1]":  {"tcp", "[::1]:6379", "U", "p/@", 3},
		"unix://U:P@/run/r.sock":   {"unix", "/run/r.sock", "U", "P", 3},
		"unix:///run/r.sock?db=4":  {"unix", "/run/r.sock", "u", "p", 4},
		"REDIS://h:2/7?protocol=2": {"tcp", "h:2", "u", "p", 7},
		"valkey://U:P@h:2/8":       {"tcp", "h:2", "U", "P", 8},
	} {
		t.Run(url, func(t *testing.T) {
			t.Parallel()
			cfg := base
			cfg.URL = url
			r := build(t, &cfg)
			o := single(t, r.UniversalClient)
			require.Equal(t, want.network, o.Network)
			require.Equal(t, want.addr, o.Addr)
			require.Equal(t, want.addr, r.Addr())
			require.Equal(t, want.user, o.Username)
			require.Equal(t, want.password, o.Password)
			require.Equal(t, want.db, o.DB)
			require.Equal(t, 9, o.PoolSize)
			require.Equal(t, time.Minute, o.ReadTimeout)
		})
	}
}

func TestURLOptions(t *testing.T) {
	t.Parallel()
	require.Zero(t, single(t, build(t, &config.Config{URL: "redis://h?max_retries=0"}).UniversalClient).MaxRetries)
	r := build(t, &config.Config{
		PoolSize: 1, ClientName: "x",
		URL: "redis://h?protocol=2&client_name=c&max_retries=-1&min_retry_backoff=0&max_retry_backoff=2s&dial_timeout=3s&read_timeout=-1" +
			"&write_timeout=5s&pool_fifo=true&pool_size=6&pool_timeout=7s&min_idle_conns=3&max_idle_conns=4&max_active_conns=8" +
			"&max_concurrent_dials=2&pipeline_pool_size=9&pipeline_read_buffer_size=1024&pipeline_write_buffer_size=2048" +
			"&conn_max_idle_time=10m&conn_max_lifetime=1h&conn_max_lifetime_jitter=1m",
	})
	o := single(t, r.UniversalClient)
	require.Equal(t, 2, o.Protocol)
	require.Equal(t, "c", o.ClientName)
	require.Zero(t, o.MaxRetries)
	require.Zero(t, o.MinRetryBackoff)
	require.Equal(t, 2*time.Second, o.MaxRetryBackoff)
	require.Equal(t, 3*time.Second, o.DialTimeout)
	require.Zero(t, o.ReadTimeout)
	require.Equal(t, 5*time.Second, o.WriteTimeout)
	require.True(t, o.PoolFIFO)
	require.Equal(t, 6, o.PoolSize)
	require.Equal(t, 7*time.Second, o.PoolTimeout)
	require.Equal(t, 3, r.idle.least)
	require.Equal(t, 4, o.MaxIdleConns)
	require.Equal(t, 8, o.MaxActiveConns)
	require.Equal(t, 2, o.MaxConcurrentDials)
	require.Equal(t, 9, o.PipelinePoolSize)
	require.Equal(t, 1024, o.PipelineReadBufferSize)
	require.Equal(t, 2048, o.PipelineWriteBufferSize)
	require.Equal(t, 10*time.Minute, o.ConnMaxIdleTime)
	require.Equal(t, time.Hour, o.ConnMaxLifetime)
	require.Equal(t, time.Minute, o.ConnMaxLifetimeJitter)
}

// TestURLFits: of two numbers that contradict each other, that of the URL wins. Idle connections would be opened and closed
// for ever.
func TestURLFits(t *testing.T) {
	t.Parallel()
	for query, want := range map[string]struct{ least, most int }{
		"":                                  {2, 5},
		"max_idle_conns=1":                  {1, 1},
		"min_idle_conns=8":                  {8, 8},
		"min_idle_conns=3&max_idle_conns=7": {3, 7},
		"pool_size=1":                       {1, 5},
		"max_active_conns=1":                {1, 5},
	} {
		r := build(t, &config.Config{URL: "redis://h?" + query})
		require.Equal(t, want.least, r.idle.least, query)
		require.Equal(t, want.most, single(t, r.UniversalClient).MaxIdleConns, query)
	}
	cfg := config.Default()
	cfg.URL, cfg.MaxIdleConns = "redis://h?min_idle_conns=8", 0
	r := build(t, cfg)
	require.Equal(t, 8, r.idle.least)
	require.Zero(t, single(t, r.UniversalClient).MaxIdleConns, "no limit")
	for query, want := range map[string]struct{ least, most time.Duration }{
		"min_retry_backoff=2s": {2 * time.Second, 2 * time.Second}, "max_retry_backoff=1ms": {time.Millisecond, time.Millisecond},
		"max_retry_backoff=-1": {0, 0}, "min_retry_backoff=-1": {0, 512 * time.Millisecond},
	} {
		o := single(t, build(t, &config.Config{URL: "redis://h?" + query}).UniversalClient)
		require.Equal(t, want.least, o.MinRetryBackoff, query)
		require.Equal(t, want.most, o.MaxRetryBackoff, query)
	}
}

func TestModes(t *testing.T) {
	t.Parallel()
	r := build(t, &config.Config{MasterName: "m", Addrs: []string{"a:1", "b:2"}, SentinelUsername: "su", SentinelPassword: "sp", DB: 2})
	require.Equal(t, "sentinel", r.Mode())
	require.Equal(t, "master m of sentinels a:1,b:2", r.Addr())
	require.Equal(t, 2, single(t, r.UniversalClient).DB)

	// What is set beside the address works in every mode.
	for _, cfg := range []config.Config{{MasterName: "m", Addrs: []string{"a:1"}}, {Cluster: true, Addrs: []string{"a:1"}}} {
		cfg.Protocol, cfg.ConnMaxLifetime, cfg.ConnMaxIdleTime, cfg.TLSEnabled, cfg.TLSSkipVerify = 2, time.Hour, time.Minute, true, true
		r := build(t, &cfg)
		o := r.main.endpoint.options
		require.Equal(t, 2, o.Protocol)
		require.Equal(t, time.Hour, o.ConnMaxLifetime)
		require.Equal(t, time.Minute, o.ConnMaxIdleTime)
		require.True(t, r.main.endpoint.tls.config.InsecureSkipVerify)
	}

	for _, cfg := range []*config.Config{
		{Cluster: true, Addrs: []string{"a:1", "b:2"}, Username: "u", Password: "p"},
		{Cluster: true, Host: "a", Port: "1"},
		{Cluster: true, URL: "redis://u:p@a:1"},
	} {
		r = build(t, cfg)
		require.Equal(t, "cluster", r.Mode())
		c, ok := r.UniversalClient.(*redis.ClusterClient)
		require.True(t, ok)
		require.Contains(t, c.Options().Addrs, "a:1")
		require.True(t, c.Options().ContextTimeoutEnabled)
		require.NotContains(t, r.Addr(), "p@")
	}
}

func TestLockNodeSettings(t *testing.T) {
	t.Parallel()
	r := build(t, &config.Config{
		MasterName: "m", Addrs: []string{"s:1"}, SentinelPassword: "sp",
		Username: "u", Password: "p", DB: 2, TLSEnabled: true, PoolSize: 4, ReadTimeout: time.Minute,
		LockNodes: []string{"a:1", "redis://b:2", "rediss://U:P@c:3/4?pool_size=5"},
	})
	nodes := r.LockNodes()
	require.Len(t, nodes, 3)
	for i, want := range []struct {
		addr, user, password string
		db, size             int
		tls                  bool
	}{
		{"a:1", "u", "p", 2, 4, true}, // as the main server
		{"b:2", "", "", 0, 4, false},  // alone
		{"c:3", "U", "P", 4, 5, true}, // alone, with its own everything
	} {
		o := single(t, nodes[i])
		require.Equal(t, want.addr, o.Addr)
		require.Equal(t, want.user, o.Username)
		require.Equal(t, want.password, o.Password)
		require.Equal(t, want.db, o.DB)
		require.Equal(t, want.size, o.PoolSize)
		require.Equal(t, want.tls, o.TLSConfig != nil)
		require.Equal(t, time.Minute, o.ReadTimeout)
		require.True(t, o.ContextTimeoutEnabled)
	}
	nodes[0] = nil
	require.NotNil(t, r.LockNodes()[0], "the caller has a copy")
	require.Nil(t, build(t, nil).LockNodes())
}

func TestInvalidConfig(t *testing.T) {
	t.Parallel()
	r, err := New(&config.Config{Port: "none", LockNodes: []string{"x"}})
	require.Nil(t, r)
	require.ErrorIs(t, err, config.ErrInvalid)
	var e *config.Error
	require.ErrorAs(t, err, &e)
	require.Len(t, e.Fields, 2)

	_, err = NewRedis(t.Context(), &config.Config{URL: "redis://:hunter2@localhost:99999"})
	require.ErrorIs(t, err, config.ErrInvalid)
	require.NotContains(t, err.Error(), "hunter2")
}

// The Config stays the caller's.
func TestConfigIsCopied(t *testing.T) {
	t.Parallel()
	cfg := &config.Config{Host: "a", LockNodes: []string{"b:1"}, TLSConfig: &tls.Config{MinVersion: tls.VersionTLS13}}
	before := *cfg
	r := build(t, cfg)
	require.Equal(t, before, *cfg)
	require.NotSame(t, cfg.TLSConfig, r.main.endpoint.tls.config)
	cfg.Host = "changed"
	require.Equal(t, "a:6379", r.Addr())
}

func TestTLSSettings(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t, redistest.WithTLS())
	r := build(t, &config.Config{
		TLSEnabled: true, TLSCAFile: srv.CAFile(), TLSCertFile: srv.CertFile(), TLSKeyFile: srv.KeyFile(), TLSServerName: "localhost",
	})
	require.NotNil(t, r.main.endpoint.tls.config.RootCAs)
	require.Len(t, r.main.endpoint.tls.config.Certificates, 1)
	require.Equal(t, "localhost", r.main.endpoint.tls.config.ServerName)
	require.Equal(t, uint16(tls.VersionTLS12), r.main.endpoint.tls.config.MinVersion)

	r = build(t, &config.Config{TLSConfig: &tls.Config{ServerName: "mine", MinVersion: tls.VersionTLS13}, TLSServerName: "not this"})
	require.Equal(t, "mine", r.main.endpoint.tls.config.ServerName)
	require.Equal(t, uint16(tls.VersionTLS13), r.main.endpoint.tls.config.MinVersion)

	r = build(t, &config.Config{URL: "rediss://redis.internal?skip_verify=true"})
	require.True(t, r.main.endpoint.tls.config.InsecureSkipVerify)
	require.False(t, build(t, &config.Config{URL: "rediss://redis.internal"}).main.endpoint.tls.config.InsecureSkipVerify)
	for want, cfg := range map[bool]*config.Config{
		true:  {URL: "rediss://a", LockNodes: []string{"rediss://b?skip_verify=true"}},
		false: {URL: "rediss://a", LockNodes: []string{"rediss://b?skip_verify=true"}, TLSConfig: &tls.Config{MinVersion: tls.VersionTLS13}},
	} {
		require.Equal(t, want, build(t, cfg).nodes[0].endpoint.tls.config.InsecureSkipVerify, "a TLSConfig wins")
	}
	require.Equal(t, "redis.internal", r.main.endpoint.tls.forDial("redis.internal:6379").ServerName)
	require.Equal(t, "/socket", r.main.endpoint.tls.forDial("/socket").ServerName)
}
