package client

import (
	"context"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/config"
	"github.com/compozy/cache/internal/faultproxy"
	"github.com/compozy/cache/internal/redistest"
)

// middlebox stands between a client and its servers until it forgets the connections
// there are: what is sent on them vanishes. New ones work.
type middlebox struct {
	t         *testing.T
	forgetful atomic.Bool

	mu      sync.Mutex
	proxies map[string]*faultproxy.Proxy
}

func newMiddlebox(t *testing.T) *middlebox {
	t.Helper()
	return &middlebox{t: t, proxies: make(map[string]*faultproxy.Proxy)}
}

// dial is a Config's Dialer.
func (m *middlebox) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if !m.forgetful.Load() {
		addr = m.proxy(addr).Addr()
	}
	return new(net.Dialer).DialContext(ctx, network, addr)
}

func (m *middlebox) proxy(addr string) *faultproxy.Proxy {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.proxies[addr] == nil {
		m.proxies[addr] = faultproxy.New(m.t, addr)
	}
	return m.proxies[addr]
}

func (m *middlebox) forget() {
	m.forgetful.Store(true)
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range m.proxies {
		p.SwallowToServer(true)
	}
}

// fill opens n connections and leaves them idle.
func fill(t *testing.T, c *redis.Client, n int) {
	t.Helper()
	held := make([]*redis.Conn, n)
	for i := range held {
		held[i] = c.Conn()
		require.NoError(t, held[i].Ping(within(t, patience)).Err())
	}
	for _, conn := range held {
		require.NoError(t, conn.Close())
	}
	require.GreaterOrEqual(t, int(c.PoolStats().IdleConns), n)
}

// All idle connections are dead, and a command has one retry: it succeeds only if the
// retry does not take the next dead one.
func TestForgottenConnections(t *testing.T) {
	t.Parallel()
	const idle = 8
	for name, start := range map[string]func(t *testing.T) *config.Config{
		"single": func(t *testing.T) *config.Config {
			t.Helper()
			return &config.Config{URL: redistest.Start(t).URL()}
		},
		"protocol 2": func(t *testing.T) *config.Config {
			t.Helper()
			return &config.Config{URL: redistest.Start(t).URL(), Protocol: 2}
		},
		"TLS": func(t *testing.T) *config.Config {
			t.Helper()
			srv := redistest.Start(t, redistest.WithTLS())
			return &config.Config{URL: srv.URL(), TLSConfig: srv.TLSConfig()}
		},
		"Sentinel": func(t *testing.T) *config.Config {
			t.Helper()
			set := redistest.StartSentinel(t)
			return &config.Config{MasterName: set.MasterName(), Addrs: set.Addrs()}
		},
		"Cluster": func(t *testing.T) *config.Config {
			t.Helper()
			return &config.Config{Cluster: true, Addrs: redistest.StartCluster(t, 3).Addrs()}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			box := newMiddlebox(t)
			cfg := start(t)
			cfg.Dialer, cfg.PoolSize, cfg.MaxIdleConns, cfg.MinIdleConns = box.dial, idle, idle, 1
			cfg.ReadTimeout, cfg.MaxRetries = time.Second, 1
			r := ready(t, cfg)
			node, ok := r.UniversalClient.(*redis.Client)
			if cluster, isCluster := r.UniversalClient.(*redis.ClusterClient); isCluster {
				var err error
				node, err = cluster.MasterForKey(t.Context(), "k")
				ok = err == nil
			}
			require.True(t, ok)
			fill(t, node, idle)
			_, err := r.Pipelined(t.Context(), func(p redis.Pipeliner) error { return p.Set(t.Context(), "k", "v", 0).Err() })
			require.NoError(t, err)

			box.forget()
			for range 2 * idle {
				require.NoError(t, r.Get(within(t, patience), "k").Err())
			}
			_, err = r.Pipelined(t.Context(), func(p redis.Pipeliner) error { return p.Get(t.Context(), "k").Err() })
			require.NoError(t, err, "pipelines have connections of their own, to the same server")
		})
	}
}

// Without retries the first command fails, and no other.
func TestForgottenConnectionsWithoutRetries(t *testing.T) {
	t.Parallel()
	box := newMiddlebox(t)
	r := ready(t, &config.Config{
		URL: redistest.Start(t).URL(), Dialer: box.dial, PoolSize: 8, MaxIdleConns: 8, MinIdleConns: 1,
		ReadTimeout: time.Second, MaxRetries: -1,
	})
	fill(t, r.UniversalClient.(*redis.Client), 8)
	box.forget()
	require.ErrorIs(t, r.Ping(within(t, patience)).Err(), os.ErrDeadlineExceeded)
	for range 16 {
		require.NoError(t, r.Ping(within(t, patience)).Err())
	}
}

// A caller whose own time-out ends a command proves nothing about the connections, be it
// shorter or longer than the read timeout.
func TestOwnTimeoutsKeepConnections(t *testing.T) {
	t.Parallel()
	r := ready(t, &config.Config{URL: redistest.Start(t).URL(), PoolSize: 8, MaxIdleConns: 8, ReadTimeout: 400 * time.Millisecond})
	c := r.UniversalClient.(*redis.Client)
	for name, limits := range map[string]struct{ context, own time.Duration }{
		"brief":             {20 * time.Millisecond, time.Hour},
		"for ever":          {200 * time.Millisecond, 0},
		"for ever and long": {600 * time.Millisecond, 0},
		"long":              {600 * time.Millisecond, time.Hour},
	} {
		fill(t, c, 8)
		_, err := r.BLPop(within(t, limits.context), limits.own, "none").Result()
		require.ErrorIs(t, err, os.ErrDeadlineExceeded, name)
		misses := c.PoolStats().Misses
		held := make([]*redis.Conn, 7)
		for i := range held {
			held[i] = c.Conn()
			require.NoError(t, held[i].Ping(within(t, patience)).Err())
		}
		for _, conn := range held {
			require.NoError(t, conn.Close())
		}
		require.Equal(t, misses, c.PoolStats().Misses, "%s: the seven idle connections were used", name)
	}
}

// exchange sends a request on conn and lets its peer answer.
func exchange(t *testing.T, conn, far net.Conn) {
	t.Helper()
	go func() {
		b := make([]byte, 1)
		_, _ = far.Read(b)
		_, _ = far.Write(b)
	}()
	require.NoError(t, conn.SetReadDeadline(time.Time{}))
	_, err := conn.Write([]byte{1})
	require.NoError(t, err)
	_, err = conn.Read(make([]byte, 1))
	require.NoError(t, err)
}

// giveUp sends a request on conn that gets no answer, and waits for it so long, but
// not before it has done something else.
func giveUp(t *testing.T, conn, far net.Conn, wait time.Duration, meanwhile func()) {
	t.Helper()
	go func() { _, _ = far.Read(make([]byte, 1)) }()
	_, err := conn.Write([]byte{1})
	require.NoError(t, err)
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(wait)))
	meanwhile()
	_, err = conn.Read(make([]byte, 1))
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
}

func TestWhichConnectionsAreDistrusted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		servers := newPeers(600*time.Millisecond, 0)
		type pair struct{ near, far net.Conn }
		connect := func(addr string) pair {
			near, far := net.Pipe()
			t.Cleanup(func() { _, _ = near.Close(), far.Close() })
			return pair{servers.watch(t.Context(), near, addr, false), far}
		}
		trusted := func(p pair) bool {
			_, err := p.near.(syscall.Conn).SyscallConn()
			return err == nil
		}
		idle, busy, mute, other := connect("a"), connect("a"), connect("a"), connect("b")
		exchange(t, idle.near, idle.far)
		<-time.After(time.Second)

		for _, wait := range []time.Duration{300 * time.Millisecond, 580 * time.Millisecond, 700 * time.Millisecond} {
			giveUp(t, mute.near, mute.far, wait, func() {})
			require.True(t, trusted(idle), "that was not the read timeout")
		}

		// Nothing was asked, so nothing is missing: a subscription waits like this.
		exchange(t, mute.near, mute.far)
		require.NoError(t, mute.near.SetReadDeadline(time.Now().Add(time.Hour)))
		_, err := mute.near.Read(make([]byte, 1))
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		require.True(t, trusted(idle))

		giveUp(t, mute.near, mute.far, 600*time.Millisecond, func() {
			<-time.After(100 * time.Millisecond)
			exchange(t, busy.near, busy.far)
		})
		require.False(t, trusted(idle))
		require.False(t, trusted(mute))
		require.True(t, trusted(busy), "it has answered a later request")
		require.True(t, trusted(other), "another server")
		require.True(t, trusted(connect("a")), "a new connection")
	})
}

// Every command passes here.
func TestWatchingAllocatesNothing(t *testing.T) { //nolint:paralleltest // AllocsPerRun forbids it
	conn := newPeers(time.Second, 0).watch(t.Context(), devNull{}, "a", false)
	b := make([]byte, 1)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		_, _ = conn.SyscallConn()
		_, _ = conn.Write(b)
		_, _ = conn.Read(b)
	}))
}

// devNull is a connection that answers everything.
type devNull struct{ net.Conn }

func (devNull) Read(b []byte) (int, error)  { return len(b), nil }
func (devNull) Close() error                { return nil }
func (devNull) Write(b []byte) (int, error) { return len(b), nil }

// The first check without an answer is enough: neither the later checks nor commands with
// less time than the read timeout meet the other dead connections.
func TestCheckFindsForgottenConnections(t *testing.T) {
	t.Parallel()
	const idle = 6
	for name, start := range map[string]func(t *testing.T) *config.Config{
		"single": func(t *testing.T) *config.Config {
			t.Helper()
			return &config.Config{URL: redistest.Start(t).URL()}
		},
		"lock nodes": func(t *testing.T) *config.Config {
			t.Helper()
			return &config.Config{URL: redistest.Start(t).URL(), LockNodes: []string{redistest.Start(t).Addr()}}
		},
		"no read timeout": func(t *testing.T) *config.Config {
			t.Helper()
			return &config.Config{URL: redistest.Start(t).URL() + "?read_timeout=0"}
		},
		"Sentinel": func(t *testing.T) *config.Config {
			t.Helper()
			set := redistest.StartSentinel(t)
			return &config.Config{MasterName: set.MasterName(), Addrs: set.Addrs()}
		},
		"Cluster": func(t *testing.T) *config.Config {
			t.Helper()
			return &config.Config{Cluster: true, Addrs: redistest.StartCluster(t, 3).Addrs()}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			box := newMiddlebox(t)
			cfg := start(t)
			cfg.Dialer, cfg.PoolSize, cfg.MaxIdleConns, cfg.MinIdleConns = box.dial, idle, idle, 1
			cfg.ReadTimeout, cfg.PingTimeout = time.Hour, 2*time.Second
			r := open(t, cfg)
			eventually(t, func() bool { return r.WaitReady(within(t, patience)) == nil }, "ready")
			check, clients := r.HealthCheck, []*redis.Client{}
			switch c := r.UniversalClient.(type) {
			case *redis.Client:
				clients = append(clients, c)
			case *redis.ClusterClient:
				require.NoError(t, c.ForEachMaster(t.Context(), func(_ context.Context, node *redis.Client) error {
					box.mu.Lock()
					defer box.mu.Unlock()
					clients = append(clients, node)
					return nil
				}))
			}
			for _, n := range r.nodes {
				check, clients = r.CheckLockNodes, []*redis.Client{n.client.(*redis.Client)}
			}
			for _, c := range clients {
				fill(t, c, idle)
			}

			box.forget()
			require.ErrorContains(t, check(within(t, patience)), ErrUnreachable.Error())
			for range idle {
				require.NoError(t, check(within(t, patience)))
			}
			for _, c := range clients {
				fill(t, c, idle) // with none of those from before
			}
		})
	}
}

// A caller that does not wait for a check keeps the connections.
func TestBriefCheckKeepsConnections(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	proxy := faultproxy.New(t, srv.Addr())
	r := ready(t, &config.Config{URL: "redis://" + proxy.Addr(), PoolSize: 8, MaxIdleConns: 8, ReadTimeout: time.Hour, PingTimeout: time.Hour})
	c := r.UniversalClient.(*redis.Client)
	fill(t, c, 8)
	proxy.SwallowToServer(true)
	require.ErrorIs(t, r.HealthCheck(within(t, 100*time.Millisecond)), os.ErrDeadlineExceeded)
	proxy.SwallowToServer(false)
	misses := c.PoolStats().Misses
	held := make([]*redis.Conn, 7)
	for i := range held {
		held[i] = c.Conn()
		require.NoError(t, held[i].Ping(within(t, patience)).Err())
	}
	for _, conn := range held {
		require.NoError(t, conn.Close())
	}
	require.Equal(t, misses, c.PoolStats().Misses)
}

// Connections that a server has closed show that only when they are used, with TLS. The first that does so has the others replaced.
func TestClosedConnections(t *testing.T) {
	t.Parallel()
	const idle = 8
	for name, use := range map[string]func(*testing.T, *Redis) error{
		"check":   func(t *testing.T, r *Redis) error { t.Helper(); return r.HealthCheck(t.Context()) },
		"command": func(t *testing.T, r *Redis) error { t.Helper(); return r.Set(t.Context(), "k", "v", 0).Err() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := redistest.Start(t, redistest.WithTLS())
			r := ready(t, &config.Config{
				URL: srv.URL(), TLSConfig: srv.TLSConfig(), PoolSize: idle, MaxIdleConns: idle, MaxRetries: 1,
			})
			node, _ := r.Unwrap().(*redis.Client)
			fill(t, node, idle)
			admin := srv.Client(t)
			require.NoError(t, admin.ClientKillByFilter(t.Context(), "type", "normal", "skipme", "yes").Err())
			require.NoError(t, use(t, r))
		})
	}
}

// A dial may fail when its caller has gone. What it leaves in the pool must not fail those who come when all is well again.
func TestDialsThatFailLate(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	var down atomic.Bool
	var failing, failed atomic.Int32
	release := make(chan struct{})
	r := ready(t, &config.Config{URL: srv.URL(), MaxRetries: -1, Dialer: func(ctx context.Context, network, addr string) (net.Conn, error) {
		if !down.Load() {
			return new(net.Dialer).DialContext(ctx, network, addr)
		}
		failing.Add(1)
		defer failed.Add(1)
		<-release
		return nil, os.ErrDeadlineExceeded
	}})
	node, _ := r.Unwrap().(*redis.Client)
	require.NoError(t, srv.Client(t).ClientKillByFilter(t.Context(), "type", "normal", "skipme", "yes").Err())
	down.Store(true)
	size := int32(node.Options().PoolSize) //nolint:gosec // it is small
	ctx, leave := context.WithCancel(t.Context())
	var callers sync.WaitGroup
	for range size {
		callers.Go(func() { require.Error(t, r.Get(ctx, "k").Err()) })
	}
	eventually(t, func() bool { return failing.Load() >= size }, "all dial")
	leave()
	callers.Wait()
	down.Store(false)
	close(release)
	eventually(t, func() bool { return failed.Load() == failing.Load() && int32(node.PoolStats().IdleConns) >= size }, "they fail") //nolint:gosec // likewise
	require.NoError(t, r.HealthCheck(t.Context()))
	for range size {
		require.NoError(t, r.Set(t.Context(), "k", "v", 0).Err())
	}
}
