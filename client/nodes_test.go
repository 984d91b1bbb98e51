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
			ready(t, &config.Config{URL: main.URL(), LockNodes: []string{third, good[0].URL(), good[1].URL()}})
		})
	}
	t.Run("wrong password at a majority", func(t *testing.T) {
		t.Parallel()
		_, err := NewRedis(within(t, patience), &config.Config{
			URL: main.URL(), LockNodes: []string{good[0].URL(), wrongPassword(good[1]), wrongPassword(other)},
		})
		require.ErrorIs(t, err, ErrAuth)
		require.ErrorContains(t, err, "lock node "+good[1].Addr())
		require.NotContains(t, err.Error(), "hunter2")
	})
	t.Run("majority down", func(t *testing.T) {
		t.Parallel()
		_, err := NewRedis(within(t, 200*time.Millisecond), &config.Config{URL: main.URL(), LockNodes: []string{down.Addr()}})
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
