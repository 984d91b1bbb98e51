package client

import (
	"context"
	"crypto/tls"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/compozy/cache/config"
	"github.com/compozy/cache/internal/redistest"
)

// works fails the test if the client cannot write and read.
func works(t *testing.T, r *Redis) {
	t.Helper()
	ctx := within(t, patience)
	require.NoError(t, r.Set(ctx, "k", "v", 0).Err())
	require.Equal(t, "v", r.Get(ctx, "k").Val())
	require.NoError(t, r.HealthCheck(ctx))
}

func TestNewRedis(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	r, err := NewRedis(t.Context(), &config.Config{
		Host: srv.Host(), Port: srv.Port(), ClientName: "orders", PingTimeout: patience,
	})
	require.NoError(t, err)
	works(t, r)
	require.Equal(t, srv.Addr(), r.Addr())
	require.Equal(t, "single", r.Mode())
	require.Same(t, r.UniversalClient, r.Unwrap())
	name, err := r.ClientGetName(t.Context()).Result()
	require.NoError(t, err)
	require.Equal(t, "orders", name)
	require.NoError(t, r.Close())
	require.NoError(t, r.Close())
}

// Not parallel: it sets the environment.
func TestNewRedisFromEnvironment(t *testing.T) {
	srv := redistest.Start(t, redistest.WithPassword("hunter2"))
	t.Setenv("REDIS_URL", srv.URL())
	t.Setenv("REDIS_PORT", "tcp://10.0.171.239:6379") // as Kubernetes does for a Service named redis
	t.Setenv("REDIS_ADDRS", "tcp://10.0.171.239:6379")
	t.Setenv("REDIS_PING_TIMEOUT", patience.String())
	r, err := NewRedis(t.Context(), nil)
	require.NoError(t, err)
	works(t, r)
	require.NoError(t, r.Close())

	t.Setenv("REDIS_POOL_SIZE", "hunter2@")
	_, err = NewRedis(t.Context(), nil)
	require.ErrorIs(t, err, config.ErrInvalid)
	require.NotContains(t, err.Error(), "hunter2")
}

func TestNewRedisWhileServerIsDown(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	srv.Kill()
	start := time.Now()
	r, err := NewRedis(within(t, 2*time.Second), &config.Config{URL: srv.URL(), PoolSize: 1})
	require.Nil(t, r)
	require.ErrorIs(t, err, ErrUnreachable)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorContains(t, err, srv.Addr())
	require.ErrorContains(t, err, "connection refused")
	require.Less(t, time.Since(start), patience)

	// Without a deadline there is one all the same.
	_, err = NewRedis(context.Background(), &config.Config{
		URL: srv.URL(), DialTimeout: 100 * time.Millisecond, PingTimeout: 100 * time.Millisecond,
	})
	require.ErrorIs(t, err, ErrUnreachable)
}

// Redis may come up after us.
func TestNewRedisWaits(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	srv.Kill()
	got := make(chan error, 1)
	r := open(t, &config.Config{URL: srv.URL()})
	go func() { got <- r.WaitReady(within(t, patience)) }()
	srv.Restart()
	require.NoError(t, <-got)
	works(t, r)
}

func TestPassword(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t, redistest.WithPassword("right horse"))
	for name, cfg := range map[string]*config.Config{
		"fields":       {Host: srv.Host(), Port: srv.Port(), Password: "right horse"},
		"URL":          {URL: srv.URL()},
		"URL and user": {URL: "redis://" + srv.Addr(), Username: "default", Password: "right horse"},
		"lock nodes":   {URL: srv.URL(), LockNodes: []string{srv.Addr()}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := ready(t, cfg)
			works(t, r)
			for _, c := range r.LockNodes() {
				require.NoError(t, c.Ping(t.Context()).Err())
			}
		})
	}
}

func TestWrongPassword(t *testing.T) {
	t.Parallel()
	password := redistest.Start(t, redistest.WithPassword("right"))
	user := redistest.Start(t, redistest.WithUser("app", "right"))
	for name, cfg := range map[string]*config.Config{
		"wrong":              {URL: "redis://" + password.Addr(), Password: "hunter2"},
		"missing":            {URL: "redis://" + password.Addr()},
		"wrong in the URL":   {URL: "redis://:hunter2@" + password.Addr()},
		"wrong for a user":   {URL: "redis://app:hunter2@" + user.Addr()},
		"no such user":       {URL: "redis://nobody:hunter2@" + user.Addr()},
		"default is off":     {URL: "redis://" + user.Addr()},
		"wrong, protocol 2":  {URL: "redis://:hunter2@" + password.Addr() + "?protocol=2"},
		"wrong, small pool":  {URL: "redis://:hunter2@" + password.Addr(), PoolSize: 1},
		"wrong, no idle min": {URL: "redis://:hunter2@" + password.Addr() + "?min_idle_conns=1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// Waiting cannot help, so the budget must not be used up.
			_, err := NewRedis(within(t, patience), cfg)
			require.ErrorIs(t, err, ErrAuth)
			require.NotErrorIs(t, err, context.DeadlineExceeded)
			require.ErrorContains(t, err, "authentication failed")
			require.NotContains(t, err.Error(), "hunter2")
			var e *Error
			require.ErrorAs(t, err, &e)
			require.Contains(t, []string{password.Addr(), user.Addr()}, e.Addr)

			r := open(t, cfg)
			err = r.HealthCheck(t.Context())
			require.ErrorIs(t, err, ErrAuth)
			require.NotContains(t, err.Error(), "hunter2")
		})
	}
}

func TestUser(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t, redistest.WithUser("app", "secret"))
	works(t, ready(t, &config.Config{Host: srv.Host(), Port: srv.Port(), Username: "app", Password: "secret"}))
	works(t, ready(t, &config.Config{URL: srv.URL()}))
}

func TestTLS(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t, redistest.WithTLS(), redistest.WithPassword("pw"), redistest.WithConfig("tls-auth-clients", "yes"))
	url := "rediss://:pw@" + srv.Addr()
	certified := config.Config{URL: url, TLSCAFile: srv.CAFile(), TLSCertFile: srv.CertFile(), TLSKeyFile: srv.KeyFile()}

	for name, change := range map[string]func(*config.Config){
		"URL": func(*config.Config) {},
		"fields": func(c *config.Config) {
			c.URL, c.Host, c.Port, c.Password, c.TLSEnabled = "", srv.Host(), srv.Port(), "pw", true
		},
		"server name": func(c *config.Config) { c.TLSServerName = "localhost" },
		"TLSConfig":   func(c *config.Config) { *c = config.Config{URL: url, TLSConfig: srv.TLSConfig()} },
		"lock node":   func(c *config.Config) { c.LockNodes = []string{srv.Addr()}; c.Password = "pw" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := certified
			change(&cfg)
			r := ready(t, &cfg)
			works(t, r)
			for _, c := range r.LockNodes() {
				require.NoError(t, c.Ping(t.Context()).Err())
			}
		})
	}
	for name, change := range map[string]func(*config.Config){
		"unknown authority":     func(c *config.Config) { c.TLSCAFile = "" },
		"another server's name": func(c *config.Config) { c.TLSServerName = "other.example" },
		"no client certificate": func(c *config.Config) { c.TLSCertFile, c.TLSKeyFile = "", "" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := certified
			change(&cfg)
			_, err := NewRedis(within(t, patience), &cfg)
			require.ErrorIs(t, err, ErrTLS)
			require.ErrorContains(t, err, srv.Addr())
		})
	}
	t.Run("server without TLS", func(t *testing.T) {
		t.Parallel()
		plain := redistest.Start(t)
		r := open(t, &config.Config{URL: "rediss://" + plain.Addr(), TLSConfig: &tls.Config{InsecureSkipVerify: true}}) //nolint:gosec // it must fail before
		require.Error(t, r.WaitReady(within(t, time.Second)))
	})
}

// A stopped server leaves connections open: only the context can end the wait.
func TestStoppedServer(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	cfg := &config.Config{URL: srv.URL(), ReadTimeout: time.Hour, WriteTimeout: time.Hour}
	r := ready(t, cfg)
	works(t, r)
	brief := *cfg
	brief.PingTimeout = 200 * time.Millisecond // which a server that works may need, too
	hasty := ready(t, &brief)
	srv.Stop()
	start := time.Now()
	require.Error(t, r.Get(within(t, 200*time.Millisecond), "k").Err())
	err := hasty.HealthCheck(within(t, patience))
	require.ErrorIs(t, err, ErrUnreachable)
	require.ErrorContains(t, err, srv.Addr())
	err = hasty.WaitReady(within(t, 300*time.Millisecond))
	require.ErrorIs(t, err, ErrUnreachable)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Less(t, time.Since(start), patience, "an hour is the read timeout")
	srv.Continue()
	works(t, r)
}

func TestCloseWhileServerIsStopped(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	r := ready(t, &config.Config{URL: srv.URL(), ReadTimeout: time.Hour})
	srv.Stop()
	got := make(chan error, 1)
	go func() { got <- r.Get(context.Background(), "k").Err() }()
	eventually(t, func() bool { return r.PoolStats().TotalConns > r.PoolStats().IdleConns }, "command under way")
	require.NoError(t, r.Close())
	select {
	case err := <-got:
		require.Error(t, err)
	case <-time.After(patience):
		t.Fatal("the command outlives Close")
	}
}

func TestServerRestarts(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	r := ready(t, &config.Config{URL: srv.URL()})
	works(t, r)
	srv.Kill()
	require.Error(t, r.Get(within(t, patience), "k").Err())
	err := r.HealthCheck(t.Context())
	require.ErrorIs(t, err, ErrUnreachable)
	require.ErrorContains(t, err, "connection refused")
	srv.Restart()
	eventually(t, func() bool { return r.HealthCheck(t.Context()) == nil }, "recovers by itself")
	works(t, r)
}

func TestCloseConcurrently(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	r := ready(t, &config.Config{URL: srv.URL(), LockNodes: []string{srv.Addr()}})
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() { _ = r.Get(context.Background(), "k").Err() })
		group.Go(func() { r.Open() })
		group.Go(func() {
			if err := r.Close(); err != nil {
				t.Error(err)
			}
			if err := r.Get(context.Background(), "k").Err(); err != redis.ErrClosed { //nolint:errorlint // the very error
				t.Errorf("after Close: %v", err)
			}
		})
	}
	group.Wait()
}

func TestCloseClosesEverything(t *testing.T) {
	t.Parallel()
	main, node := redistest.Start(t), redistest.Start(t)
	observe := func(s *redistest.Server) int {
		list, err := s.Client(t).ClientList(t.Context()).Result()
		require.NoError(t, err)
		return strings.Count(list, "name=ours ")
	}
	r := ready(t, &config.Config{URL: main.URL(), LockNodes: []string{node.Addr()}, ClientName: "ours"})
	require.NoError(t, r.LockNodes()[0].Ping(t.Context()).Err())
	require.Positive(t, observe(main))
	require.Positive(t, observe(node))
	require.NoError(t, r.Close())
	eventually(t, func() bool { return observe(main) == 0 && observe(node) == 0 }, "no connection left")
}

func TestLogOfOpen(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t, redistest.WithPassword("hunter2"))
	core, logs := observer.New(zapcore.DebugLevel)
	r := open(t, &config.Config{URL: srv.URL(), LockNodes: []string{"redis://:hunter2@127.0.0.1:1"}}, WithLogger(zap.New(core)), WithLogger(nil))
	r.Open()
	require.Equal(t, 1, logs.Len())
	entry := logs.All()[0]
	require.Equal(t, "redis client opened", entry.Message)
	require.Equal(t, zapcore.DebugLevel, entry.Level)
	require.Equal(t, map[string]any{"addr": srv.Addr(), "mode": "single", "tls": false, "lock_nodes": int64(1)}, entry.ContextMap())
}

func TestIdleConnectionsAreKept(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	r := build(t, &config.Config{URL: srv.URL(), MinIdleConns: 4})
	r.idle.every = 20 * time.Millisecond
	r.Open()
	idle := func() uint32 { return r.PoolStats().IdleConns }
	eventually(t, func() bool { return idle() == 4 }, "opened in advance")
	for range 5 {
		require.NoError(t, srv.Client(t).Do(t.Context(), "client", "kill", "type", "normal", "skipme", "yes").Err())
		require.NoError(t, r.Ping(within(t, patience)).Err())
	}
	eventually(t, func() bool { return idle() >= 4 }, "opened again")
	require.LessOrEqual(t, r.PoolStats().TotalConns, uint32(10))
}

func TestClientNeverPrintsSecrets(t *testing.T) {
	t.Parallel()
	for _, cfg := range []*config.Config{
		{URL: "redis://app:hunter2@redis.internal:6380"},
		{Host: "redis.internal", Port: "6380", Username: "app", Password: "hunter2", LockNodes: []string{"redis://:hunter2@a:1", "b:1"}},
		{MasterName: "m", Addrs: []string{"redis.internal:6380"}, SentinelPassword: "hunter2"},
		{Cluster: true, Addrs: []string{"redis.internal:6380"}, Password: "hunter2"},
	} {
		r := build(t, cfg)
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d", "%t", "%30v"} {
			for name, v := range map[string]any{
				"client": r, "slice": []*Redis{r}, "field": struct{ R *Redis }{r}, "hidden field": struct{ r *Redis }{r},
			} {
				require.NotContains(t, fmt.Sprintf(verb, v), "hunter2", "%s of a %s", verb, name)
			}
		}
		require.Contains(t, fmt.Sprintf("%+v", r), "redis.internal:6380")
		field := zap.Any("redis", r)
		enc := zapcore.NewMapObjectEncoder()
		field.AddTo(enc)
		require.Equal(t, r.String(), enc.Fields["redis"])
	}
	require.Equal(t, "<nil>", fmt.Sprintf("%+v", (*Redis)(nil)))
}
