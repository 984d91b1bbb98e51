package client

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/config"
	"github.com/compozy/cache/internal/redistest"
)

// configsFor returns one Config for each kind of deployment, all of them pointing
// at addr and all of them eager to connect.
func configsFor(t *testing.T, addr string) map[string]*config.Config {
	t.Helper()
	host, port := hostPort(t, addr)
	return map[string]*config.Config{
		"host and port": {Host: host, Port: port, MinIdleConns: 5},
		"URL":           {URL: "redis://" + addr + "?min_idle_conns=5"},
		"TLS":           {URL: "rediss://" + addr, MinIdleConns: 5},
		"Sentinel":      {MasterName: "m", Addrs: []string{addr}, MinIdleConns: 5},
		"Cluster":       {Cluster: true, Addrs: []string{addr}, MinIdleConns: 5},
		"lock nodes":    {Host: host, Port: port, LockNodes: []string{addr, "redis://" + addr + "0?min_idle_conns=5"}},
	}
}

// commands are the ways in which a command may leave the client.
func commands(ctx context.Context, c redis.UniversalClient) map[string]error {
	pipe := c.Pipeline()
	get := pipe.Get(ctx, "k")
	_, pipeErr := pipe.Exec(ctx)
	tx := c.TxPipeline()
	tx.Get(ctx, "k")
	_, txErr := tx.Exec(ctx)
	sub := c.Subscribe(ctx, "ch")
	_, subErr := sub.Receive(ctx)
	_ = sub.Close()
	return map[string]error{
		"command":      c.Get(ctx, "k").Err(),
		"do":           c.Do(ctx, "get", "k").Err(),
		"pipeline":     pipeErr,
		"pipelined":    get.Err(),
		"transaction":  txErr,
		"subscription": subErr,
		"watch":        c.Watch(ctx, func(*redis.Tx) error { return nil }, "k"),
	}
}

func TestNothingConnectsBeforeOpen(t *testing.T) {
	t.Parallel()
	l := listen(t, nil)
	for name, cfg := range configsFor(t, l.address()) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var dials atomic.Int64
			cfg.Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
				dials.Add(1)
				return new(net.Dialer).DialContext(ctx, network, addr)
			}
			if name == "lock nodes" {
				cfg.LockNodes = cfg.LockNodes[:1] // the port of the second does not exist
			}
			r := build(t, cfg)
			clients := append(r.LockNodes(), r, r.UniversalClient)
			for _, c := range clients {
				for how, err := range commands(t.Context(), c) {
					if how == "subscription" && name == "Cluster" {
						// go-redis looks for a node first and words it differently.
						require.Error(t, err)
						continue
					}
					require.ErrorIs(t, err, ErrNotStarted, how)
				}
				if inner, ok := c.(*redis.Client); ok {
					// Failed dials would shut the pool of go-redis for a while.
					require.Zero(t, inner.PoolStats().Misses, "the pool was asked")
				}
			}
			require.ErrorIs(t, r.HealthCheck(t.Context()), ErrNotStarted)
			require.ErrorIs(t, r.WaitReady(t.Context()), ErrNotStarted)
			// Whoever wanted to connect in the background has had its chance by now.
			require.Zero(t, dials.Load())
		})
	}
	t.Cleanup(func() { require.Zero(t, l.accepted.Load()) })
}

// TestMain would find what a dropped client leaves behind.
func TestNeverOpenedNeverClosed(t *testing.T) {
	t.Parallel()
	l := listen(t, nil)
	for name, cfg := range configsFor(t, l.address()) {
		if name == "lock nodes" {
			cfg.LockNodes = cfg.LockNodes[:1]
		}
		_, err := New(cfg)
		require.NoError(t, err, name)
	}
}

func TestClosedWithoutOpen(t *testing.T) {
	t.Parallel()
	l := listen(t, nil)
	host, port := hostPort(t, l.address())
	r := build(t, &config.Config{Host: host, Port: port, LockNodes: []string{l.address()}})
	require.NoError(t, r.Close())
	require.NoError(t, r.Close())

	r.Open()
	for _, c := range append(r.LockNodes(), r) {
		for how, err := range commands(t.Context(), c) {
			require.ErrorIs(t, err, redis.ErrClosed, how)
		}
	}
	require.ErrorIs(t, r.HealthCheck(t.Context()), ErrClosed)
	require.ErrorIs(t, r.WaitReady(t.Context()), ErrClosed)
	require.Zero(t, l.accepted.Load())
}

func TestOpenTwice(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	r := ready(t, &config.Config{URL: srv.URL()})
	r.Open()
	require.NoError(t, r.Set(t.Context(), "k", "v", 0).Err())
}

// A dial that hangs must not outlive Close.
func TestCloseEndsDials(t *testing.T) {
	t.Parallel()
	dialling := make(chan struct{}, 10)
	ended := make(chan error, 10)
	cfg := config.Default()
	cfg.DialTimeout, cfg.ReadTimeout = time.Hour, time.Hour
	cfg.MinIdleConns = 0 // the only dial is the command's
	cfg.Dialer = func(ctx context.Context, _, _ string) (net.Conn, error) {
		dialling <- struct{}{}
		<-ctx.Done()
		ended <- ctx.Err()
		return nil, ctx.Err()
	}
	r := open(t, cfg)
	got := make(chan error, 1)
	go func() { got <- r.Get(context.Background(), "k").Err() }()
	<-dialling
	require.NoError(t, r.Close())
	select {
	case err := <-got:
		require.ErrorIs(t, err, redis.ErrClosed)
	case <-time.After(patience):
		t.Fatal("the command still waits for its connection")
	}
	require.ErrorIs(t, <-ended, context.Canceled)
}

// countedConn counts itself out when it is closed.
type countedConn struct {
	net.Conn
	once sync.Once
	open *atomic.Int64
}

func (c *countedConn) Close() error {
	c.once.Do(func() { c.open.Add(-1) })
	return c.Conn.Close()
}

// Every connection that was dialled is in a pool or closed.
func TestNoConnectionIsLost(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	var live atomic.Int64
	r := ready(t, &config.Config{URL: srv.URL(), MinIdleConns: 3, Dialer: func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		live.Add(1)
		return &countedConn{Conn: conn, open: &live}, nil
	}})
	eventually(t, func() bool { return r.PoolStats().IdleConns >= 3 }, "idle connections")
	eventually(t, func() bool { return live.Load() == int64(r.PoolStats().TotalConns) }, "no other connection is open")
	require.NoError(t, r.Close())
	require.Zero(t, live.Load())
}

func TestDialTimeoutHoldsForOwnDialer(t *testing.T) {
	t.Parallel()
	r := open(t, &config.Config{
		DialTimeout: 50 * time.Millisecond, PoolTimeout: time.Hour, MaxRetries: -1, MinIdleConns: 1,
		Dialer: func(ctx context.Context, _, _ string) (net.Conn, error) {
			<-ctx.Done()
			return nil, context.Cause(ctx)
		},
	})
	require.ErrorIs(t, r.Get(t.Context(), "k").Err(), context.DeadlineExceeded)
}

func TestOwnDialerIsUsedForEverything(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	asked := make(chan string, 100)
	r := open(t, &config.Config{
		Host: "main.invalid", LockNodes: []string{"lock.invalid:1", "redis://url.invalid:2"},
		Dialer: func(ctx context.Context, network, addr string) (net.Conn, error) {
			asked <- addr
			return new(net.Dialer).DialContext(ctx, network, srv.Addr())
		},
	})
	require.NoError(t, r.Ping(t.Context()).Err())
	for _, c := range r.LockNodes() {
		require.NoError(t, c.Ping(t.Context()).Err())
	}
	sub := r.Subscribe(t.Context(), "ch")
	_, err := sub.Receive(t.Context())
	require.NoError(t, errors.Join(err, sub.Close()))
	seen := make(map[string]bool)
	for len(asked) > 0 {
		seen[<-asked] = true
	}
	require.Equal(t, map[string]bool{"main.invalid:6379": true, "lock.invalid:1": true, "url.invalid:2": true}, seen)
}
