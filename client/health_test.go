package client

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/config"
	"github.com/compozy/cache/internal/redistest"
)

func TestHealthOfReplica(t *testing.T) {
	t.Parallel()
	master := redistest.Start(t)
	replica := redistest.Start(t)
	r := ready(t, &config.Config{URL: replica.URL()})
	require.NoError(t, r.HealthCheck(t.Context()))

	admin := replica.Client(t)
	require.NoError(t, admin.ReplicaOf(t.Context(), master.Host(), master.Port()).Err())
	err := r.HealthCheck(t.Context())
	require.ErrorIs(t, err, ErrReadOnly)
	require.ErrorContains(t, err, replica.Addr())

	require.NoError(t, admin.ConfigSet(t.Context(), "replica-read-only", "no").Err())
	require.NoError(t, r.HealthCheck(t.Context()), "a replica that takes writes is somebody's decision")

	require.NoError(t, admin.ReplicaOf(t.Context(), "no", "one").Err())
	require.NoError(t, r.HealthCheck(t.Context()))
}

func TestHealthOfMemory(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	r := ready(t, &config.Config{URL: srv.URL()})
	admin := srv.Client(t)
	agree := func(fit bool) {
		t.Helper()
		health, set := r.HealthCheck(t.Context()), r.Set(t.Context(), "k", "v", 0).Err()
		if fit {
			require.NoError(t, health)
			require.NoError(t, set)
			return
		}
		require.ErrorIs(t, health, ErrOutOfMemory)
		require.Error(t, set)
	}
	require.NoError(t, admin.ConfigSet(t.Context(), "maxmemory", "1").Err())
	agree(false)
	require.NoError(t, admin.ConfigSet(t.Context(), "maxmemory", "1gb").Err())
	agree(true)
}

// What the probe costs the server, and that it leaves nothing there.
func TestHealthWritesNothing(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	cfg := config.Default()
	cfg.URL, cfg.MinIdleConns = srv.URL(), 0 // nobody else sends anything
	cfg.PingTimeout = patience
	r := ready(t, cfg)
	changes := func() string {
		return infoField(r.Info(t.Context(), "persistence").Val(), "rdb_changes_since_last_save")
	}
	before := changes()
	srv.ResetCommands(t)
	require.NoError(t, r.HealthCheck(t.Context()))
	sent := srv.Commands(t)
	require.Equal(t, int64(2), sent["info"])
	require.Equal(t, int64(1), sent["evalsha"])
	for _, command := range []string{"eval", "incr"} {
		require.Zero(t, sent[command], command)
	}
	require.Zero(t, r.DBSize(t.Context()).Val())
	require.Equal(t, before, changes())
}

func TestHealthOfServersThatTellLittle(t *testing.T) {
	t.Parallel()
	mini := miniredis.RunT(t)
	r := ready(t, &config.Config{URL: "redis://" + mini.Addr()})
	require.NoError(t, r.HealthCheck(t.Context()))
	require.Empty(t, mini.Keys())
	mini.SetError("LOADING Redis is loading the dataset in memory")
	require.ErrorIs(t, r.HealthCheck(t.Context()), ErrLoading)
}

func TestHealthByReply(t *testing.T) {
	t.Parallel()
	for reply, want := range map[string]error{
		"+PONG\r\n": nil,
		"-LOADING Redis is loading the dataset in memory\r\n":                                     ErrLoading,
		"-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.\r\n":   ErrLoading,
		"-NOAUTH Authentication required.\r\n":                                                    ErrAuth,
		"-WRONGPASS invalid username-password pair or user is disabled.\r\n":                      ErrAuth,
		"-NOPERM this user has no permissions to run the 'eval' command\r\n":                      ErrRefused,
		"-NOREPLICAS Not enough good replicas to write.\r\n":                                      ErrNoReplicas,
		"-CLUSTERDOWN The cluster is down\r\n":                                                    ErrClusterDown,
		"-READONLY You can't write against a read only replica.\r\n":                              ErrReadOnly,
		"-OOM command not allowed when used memory > 'maxmemory'.\r\n":                            ErrOutOfMemory,
		"-MISCONF Errors writing to the AOF file: No space left on device\r\n":                    ErrDisk,
		"-ERR max number of clients reached\r\n":                                                  ErrUnreachable,
		"-ERR something new\r\n":                                                                  ErrRefused,
		"-DENIED Redis is running in protected mode because protected mode is enabled ...\r\n":    ErrRefused,
		"-BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN ...\r\n": ErrUnreachable,
	} {
		t.Run(strings.Fields(reply)[0], func(t *testing.T) {
			t.Parallel()
			l := fakeServer(t, func([]string) string { return reply })
			r := open(t, &config.Config{URL: "redis://" + l.address(), MaxRetries: -1})
			err := r.HealthCheck(t.Context())
			if want == nil {
				require.NoError(t, err)
				return
			}
			require.ErrorIs(t, err, want)
			require.ErrorContains(t, err, l.address())
			require.ErrorContains(t, err, strings.TrimSpace(reply[1:]))
		})
	}
}

// What keeps the connections may be the application itself.
func TestHealthWithABusyPool(t *testing.T) {
	t.Parallel()
	set, cluster := redistest.StartSentinel(t), redistest.StartCluster(t, 3)
	srv, node := redistest.Start(t), redistest.Start(t)
	// Nothing opens idle connections meanwhile.
	of := func(set config.Config) *config.Config {
		cfg := config.Default()
		cfg.URL, cfg.LockNodes, cfg.MasterName, cfg.Addrs, cfg.Cluster = set.URL, set.LockNodes, set.MasterName, set.Addrs, set.Cluster
		cfg.PoolSize, cfg.PingTimeout, cfg.MinIdleConns, cfg.MaxRetries = 2, time.Second, 0, 0
		return cfg
	}
	impatient := of(config.Config{URL: srv.URL()})
	impatient.PoolTimeout = time.Millisecond
	for name, cfg := range map[string]*config.Config{
		"single":     of(config.Config{URL: srv.URL()}),
		"by URL":     of(config.Config{URL: srv.URL() + "?pool_size=2"}),
		"at most":    of(config.Config{URL: srv.URL() + "?max_active_conns=2"}),
		"impatient":  impatient,
		"Sentinel":   of(config.Config{MasterName: set.MasterName(), Addrs: set.Addrs()}),
		"Cluster":    of(config.Config{Cluster: true, Addrs: cluster.Addrs()}),
		"lock nodes": of(config.Config{URL: srv.URL(), LockNodes: []string{node.Addr()}}),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			setting := "PoolSize (REDIS_POOL_SIZE)"
			switch name {
			case "by URL":
				cfg.PoolSize = 3
			case "at most":
				cfg.PoolSize, setting = 3, "max_active_conns of the URL"
			}
			r := ready(t, cfg)
			held, check := r.UniversalClient, r.HealthCheck
			if len(cfg.LockNodes) > 0 {
				held, check = r.nodes[0].client, r.CheckLockNodes
			}
			hold(t, held)
			err := check(t.Context())
			require.ErrorIs(t, err, ErrUnreachable)
			require.ErrorContains(t, err, "all 2 connections of the pool are in use")
			require.ErrorContains(t, err, "; see "+setting+" (")
		})
	}
	t.Run("idle", func(t *testing.T) {
		t.Parallel()
		hung := redistest.Start(t)
		r := ready(t, of(config.Config{URL: hung.URL() + "?pool_size=1"}))
		hung.Stop()
		defer hung.Continue()
		require.NotContains(t, r.HealthCheck(t.Context()).Error(), "in use", "but by the check itself")
	})
}

// hold keeps two connections of each pool of c in use until the test ends.
func hold(t *testing.T, c redis.UniversalClient) {
	t.Helper()
	take := func(_ context.Context, node *redis.Client) error {
		for range 2 {
			conn := node.Conn()
			t.Cleanup(func() { _ = conn.Close() })
			if err := conn.Ping(t.Context()).Err(); err != nil {
				return err
			}
		}
		return nil
	}
	if cluster, ok := c.(*redis.ClusterClient); ok {
		require.NoError(t, cluster.ForEachMaster(t.Context(), take))
		return
	}
	require.NoError(t, take(t.Context(), c.(*redis.Client)))
}

func TestWaitReadyWaitsForLoading(t *testing.T) {
	t.Parallel()
	var probes atomic.Int64
	l := fakeServer(t, func(args []string) string {
		if strings.EqualFold(args[0], "eval") && probes.Add(1) < 5 {
			return "-LOADING Redis is loading the dataset in memory\r\n"
		}
		return "+PONG\r\n"
	})
	r := open(t, &config.Config{URL: "redis://" + l.address() + "?max_retries=-1"})
	require.NoError(t, r.WaitReady(within(t, patience)))
	require.GreaterOrEqual(t, probes.Load(), int64(5))
}

func TestWaitReadyNamesTheLastReply(t *testing.T) {
	t.Parallel()
	l := fakeServer(t, func([]string) string { return "-LOADING Redis is loading the dataset in memory\r\n" })
	r := open(t, &config.Config{URL: "redis://" + l.address()})
	err := r.WaitReady(within(t, 0))
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorContains(t, err, l.address())

	ctx, cancel := context.WithCancel(t.Context())
	got := make(chan error, 1)
	go func() { got <- r.WaitReady(ctx) }()
	eventually(t, func() bool { return l.accepted.Load() > 1 }, "at least one try")
	cancel()
	require.ErrorIs(t, <-got, context.Canceled)
}

// A server that could not save refuses even a PING, until a save succeeds.
func TestWaitReadyWaitsForTheDisk(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t, redistest.WithConfig("save", "3600 1"))
	admin := srv.Client(t)
	dir, err := admin.ConfigGet(t.Context(), "dir").Result()
	require.NoError(t, err)
	obstacle := filepath.Join(dir["dir"], "dump.rdb")
	require.NoError(t, os.Mkdir(obstacle, 0o700))
	require.NoError(t, admin.BgSave(t.Context()).Err())
	eventually(t, func() bool { return admin.Ping(t.Context()).Err() != nil }, "the save fails")

	r := open(t, &config.Config{URL: srv.URL()})
	err = r.HealthCheck(t.Context())
	require.ErrorIs(t, err, ErrDisk)
	require.ErrorContains(t, err, "MISCONF")
	require.ErrorContains(t, err, srv.Addr())
	refused := counted(r, "eval", "error")
	done := make(chan error, 1)
	ctx := within(t, patience)
	go func() { done <- r.WaitReady(ctx) }()
	eventually(t, func() bool { return counted(r, "eval", "error") > refused }, "it has asked")

	require.NoError(t, os.Remove(obstacle))
	require.NoError(t, admin.BgSave(t.Context()).Err())
	require.NoError(t, <-done)
	require.NoError(t, r.HealthCheck(t.Context()))
}

// A database that does not exist will not come into being.
// TestWaitReadyEndsWithItsContext: a cancellation is noticed while a read is under way.
func TestWaitReadyEndsWithItsContext(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	r := open(t, &config.Config{URL: srv.URL(), PingTimeout: time.Hour, ReadTimeout: time.Hour, DialTimeout: time.Hour})
	require.NoError(t, r.HealthCheck(t.Context()))
	srv.Stop()
	defer srv.Continue()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.WaitReady(ctx) }()
	cancel()
	select {
	case err := <-done:
		require.ErrorIs(t, err, context.Canceled)
		require.ErrorContains(t, err, srv.Addr())
	case <-time.After(patience):
		require.FailNow(t, "it waits on")
	}
}

func TestWaitReadyGivesUp(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	_, err := NewRedis(within(t, patience), &config.Config{URL: "redis://" + srv.Addr() + "/9999"})
	require.ErrorIs(t, err, ErrRefused)
	require.ErrorContains(t, err, "DB index is out of range")
	require.NotErrorIs(t, err, context.DeadlineExceeded)
}
