package client

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/config"
	"github.com/compozy/cache/internal/redistest"
)

// wrongPassword returns the URL of a server with a password that is not its own.
func wrongPassword(s *redistest.Server) string { return "redis://:hunter2@" + s.Addr() }

func TestStartNeedsAMajorityOfTheLockNodes(t *testing.T) {
	t.Parallel()
	main := redistest.Start(t)
	good := redistest.StartN(t, 2, redistest.WithPassword("right"))
	other := redistest.Start(t, redistest.WithPassword("right"))
	down := redistest.Start(t)
	down.Kill()
	stopped := redistest.Start(t)
	stopped.Stop()

	for name, third := range map[string]string{
		"down": down.Addr(), "stopped": stopped.Addr(), "wrong password": wrongPassword(other), "up": other.URL(),
	} {
		t.Run("a minority may fail: "+name, func(t *testing.T) {
			t.Parallel()
			ready(t, &config.Config{
				URL: main.URL(), LockNodes: []string{third, good[0].URL(), good[1].URL()},
				PingTimeout: time.Second, // for so long a stopped node is waited for
			})
		})
	}
	t.Run("wrong password at a majority", func(t *testing.T) {
		t.Parallel()
		_, err := NewRedis(within(t, patience), &config.Config{
			URL: main.URL(), LockNodes: []string{good[0].URL(), wrongPassword(good[1]), wrongPassword(other)},
		})
		require.ErrorIs(t, err, ErrAuth)
		require.ErrorContains(t, err, "at lock node "+good[1].Addr())
		require.NotContains(t, err.Error(), "hunter2")
	})
	t.Run("majority down", func(t *testing.T) {
		t.Parallel()
		_, err := NewRedis(within(t, refusal), &config.Config{URL: main.URL(), LockNodes: []string{down.Addr()}})
		require.ErrorIs(t, err, ErrUnreachable)
		require.ErrorContains(t, err, "lock node "+down.Addr())
	})
}

func TestWaitReadyWaitsForLockNodes(t *testing.T) {
	t.Parallel()
	main, node := redistest.Start(t), redistest.Start(t)
	node.Kill()
	r := open(t, &config.Config{URL: main.URL(), LockNodes: []string{node.Addr()}})
	got := make(chan error, 1)
	go func() { got <- r.WaitReady(within(t, patience)) }()
	node.Restart()
	require.NoError(t, <-got)
}

func TestCheckLockNodes(t *testing.T) {
	t.Parallel()
	main, nodes := redistest.Start(t), redistest.StartN(t, 3)
	cfg := &config.Config{URL: main.URL()}
	for _, node := range nodes {
		cfg.LockNodes = append(cfg.LockNodes, node.Addr())
	}
	unopened, err := New(cfg)
	require.NoError(t, err)
	//nolint:staticcheck // a nil context is what is tested
	require.ErrorIs(t, unopened.CheckLockNodes(nil), ErrInvalidArgument)
	require.ErrorIs(t, unopened.CheckLockNodes(t.Context()), ErrNotStarted)
	require.NoError(t, unopened.Close())
	require.ErrorIs(t, unopened.CheckLockNodes(t.Context()), ErrClosed)

	require.NoError(t, open(t, &config.Config{URL: main.URL()}).CheckLockNodes(t.Context()), "there are none")

	r := open(t, cfg)
	main.Kill() // is not asked
	require.NoError(t, r.CheckLockNodes(t.Context()))
	nodes[0].Kill()
	require.NoError(t, r.CheckLockNodes(t.Context()), "a minority")
	nodes[1].Stop()
	hasty := *cfg
	hasty.PingTimeout, hasty.DialTimeout, hasty.ReadTimeout = time.Second, time.Hour, time.Hour
	r = open(t, &hasty)
	began := time.Now()
	var failed *Error
	require.ErrorAs(t, r.CheckLockNodes(within(t, patience)), &failed)
	require.ErrorIs(t, failed, ErrUnreachable)
	require.True(t, failed.LockNode)
	require.Contains(t, []string{nodes[0].Addr(), nodes[1].Addr()}, failed.Addr)
	require.ErrorContains(t, failed, "at lock node "+failed.Addr)
	require.ErrorAs(t, r.HealthCheck(t.Context()), &failed)
	require.False(t, failed.LockNode, "the main server is down as well")
	require.Less(t, time.Since(began), patience, "an hour is the read timeout")
	nodes[0].Restart()
	require.Eventually(t, func() bool { return r.CheckLockNodes(t.Context()) == nil }, patience, time.Millisecond)
}
