package client

import (
	"context"
	"net"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/compozy/cache/config"
	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/internal/redisx"
)

func TestServerThatRefusesWritesForNow(t *testing.T) {
	t.Parallel()
	t.Run("too few replicas", func(t *testing.T) {
		t.Parallel()
		srv := redistest.Start(t, redistest.WithConfig("min-replicas-to-write", "1"))
		unfit(t, &config.Config{URL: srv.URL(), MaxRetries: -1}, ErrNoReplicas)
		r := open(t, &config.Config{URL: srv.URL()})
		require.NoError(t, srv.Client(t).ConfigSet(t.Context(), "min-replicas-to-write", "0").Err())
		require.NoError(t, r.WaitReady(within(t, patience)))
	})
	t.Run("replica", func(t *testing.T) {
		t.Parallel()
		master, replica := redistest.Start(t), redistest.Start(t)
		admin := replica.Client(t)
		require.NoError(t, admin.ReplicaOf(t.Context(), master.Host(), master.Port()).Err())
		unfit(t, &config.Config{URL: replica.URL(), MaxRetries: -1}, ErrReadOnly)
		r := open(t, &config.Config{URL: replica.URL()})
		require.NoError(t, admin.ReplicaOf(t.Context(), "no", "one").Err())
		require.NoError(t, r.WaitReady(within(t, patience)))
	})
	t.Run("memory", func(t *testing.T) {
		t.Parallel()
		srv := redistest.Start(t, redistest.WithConfig("maxmemory", "1"))
		unfit(t, &config.Config{URL: srv.URL(), MaxRetries: -1}, ErrOutOfMemory)
	})
	t.Run("a majority of the lock nodes", func(t *testing.T) {
		t.Parallel()
		main, nodes := redistest.Start(t), redistest.StartN(t, 3, redistest.WithConfig("min-replicas-to-write", "1"))
		cfg := &config.Config{URL: main.URL(), LockNodes: []string{nodes[0].Addr(), nodes[1].Addr(), nodes[2].Addr()}}
		r := open(t, cfg)
		require.ErrorIs(t, r.CheckLockNodes(t.Context()), ErrNoReplicas)
		require.NoError(t, r.HealthCheck(t.Context()))
		for _, node := range nodes[:2] {
			require.NoError(t, node.Client(t).ConfigSet(t.Context(), "min-replicas-to-write", "0").Err())
		}
		require.NoError(t, r.WaitReady(within(t, patience)))
	})
	t.Run("one master of a cluster", func(t *testing.T) {
		t.Parallel()
		set := redistest.StartCluster(t, 3)
		r := ready(t, &config.Config{Cluster: true, Addrs: set.Addrs()})
		for _, node := range set.Nodes() {
			admin := node.Client(t)
			require.NoError(t, admin.ConfigSet(t.Context(), "min-replicas-to-write", "1").Err())
			err := r.HealthCheck(t.Context())
			require.ErrorIs(t, err, ErrNoReplicas)
			require.ErrorContains(t, err, node.Addr())
			require.NoError(t, admin.ConfigSet(t.Context(), "min-replicas-to-write", "0").Err())
		}
		require.NoError(t, r.HealthCheck(t.Context()))
	})
}

func TestEvictionIsAWarning(t *testing.T) {
	t.Parallel()
	for _, policy := range []string{"allkeys-lru", "allkeys-random", "volatile-lru", "volatile-ttl"} {
		t.Run(policy, func(t *testing.T) {
			t.Parallel()
			srv := redistest.Start(t, redistest.WithConfig("maxmemory-policy", policy))
			core, logs := observer.New(zap.WarnLevel)
			r := ready(t, &config.Config{URL: srv.URL()}, WithLogger(zap.New(core)))
			require.NoError(t, r.HealthCheck(t.Context()))
			want := srv.Addr() + ": maxmemory-policy " + policy + " may evict locks and events; set maxmemory-policy noeviction"
			require.Equal(t, []string{want}, r.Warnings())
			require.Equal(t, 1, logs.Len(), "once")
			require.Equal(t, "cache: "+want, logs.All()[0].Message)

			require.NoError(t, srv.Client(t).ConfigSet(t.Context(), "maxmemory-policy", "noeviction").Err())
			require.NoError(t, r.HealthCheck(t.Context()))
			require.Empty(t, r.Warnings())
		})
	}
}

// blocked is a log whose lines are not written before it is released.
type blocked struct {
	zapcore.Core

	begun, release chan struct{}
}

func (blocked) Enabled(zapcore.Level) bool { return true }

func (b blocked) Check(e zapcore.Entry, c *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if e.Level == zapcore.WarnLevel {
		return c.AddCore(e, b)
	}
	return c
}

func (b blocked) Write(zapcore.Entry, []zapcore.Field) error {
	close(b.begun)
	<-b.release
	return nil
}

func TestWarningsDoNotWaitForTheLog(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t, redistest.WithConfig("maxmemory-policy", "allkeys-lru"))
	b := blocked{zapcore.NewNopCore(), make(chan struct{}), make(chan struct{})}
	r := open(t, &config.Config{URL: srv.URL()}, WithLogger(zap.New(b)))
	checked := redisx.Go(func() error { return r.HealthCheck(t.Context()) })
	<-b.begun
	ends(t, "Warnings", func() { require.Len(t, r.Warnings(), 1) })
	close(b.release)
	require.NoError(t, <-checked)
}

func TestWritableReplicaIsAWarning(t *testing.T) {
	t.Parallel()
	master := redistest.Start(t)
	replica := redistest.Start(t, redistest.WithConfig("replica-read-only", "no"))
	require.NoError(t, replica.Client(t).ReplicaOf(t.Context(), master.Host(), master.Port()).Err())
	eventually(t, func() bool {
		return strings.Contains(replica.Client(t).Info(t.Context(), "replication").Val(), "link_status:up")
	}, "it follows")
	r := ready(t, &config.Config{URL: replica.URL()})
	require.Len(t, r.Warnings(), 1)
	require.Contains(t, r.Warnings()[0], replica.Addr()+": it is a replica that accepts writes")
	require.Empty(t, ready(t, &config.Config{URL: master.URL()}).Warnings())
}

func TestOneLockNodeUnderSeveralNames(t *testing.T) {
	t.Parallel()
	nodes := redistest.StartN(t, 3)
	one := nodes[0]
	for _, second := range []string{"localhost:" + one.Port(), "127.0.0.2:" + one.Port()} {
		cfg := &config.Config{URL: one.URL(), LockNodes: []string{one.Addr(), second, nodes[1].Addr(), nodes[2].Addr()}, Dialer: loopback}
		_, err := NewRedis(within(t, patience), cfg)
		require.ErrorIs(t, err, ErrUnsupported, second)
		require.ErrorContains(t, err, "is the same server as lock node "+one.Addr())
		require.ErrorIs(t, open(t, cfg).CheckLockNodes(t.Context()), ErrUnsupported)
	}
	ready(t, &config.Config{URL: one.URL(), LockNodes: []string{one.Addr(), nodes[1].Addr(), nodes[2].Addr()}})
}

// loopback is a dialer for which all names are this machine's.
func loopback(ctx context.Context, network, addr string) (net.Conn, error) {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	return new(net.Dialer).DialContext(ctx, network, net.JoinHostPort("127.0.0.1", port))
}
