package redistest

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestStopFreezesAndContinueThaws(t *testing.T) {
	t.Parallel()
	server := Start(t)
	client := server.Client(t)
	require.NoError(t, client.Ping(within(t, 10*time.Second)).Err())

	server.Stop()
	require.True(t, server.Running(), "a frozen process exists")
	c, err := dial(server.Addr(), nil)
	require.NoError(t, err, "the kernel still accepts")
	t.Cleanup(func() { _ = c.Close() })
	require.NoError(t, c.SetDeadline(time.Now().Add(100*time.Millisecond)))
	_, err = c.do("PING")
	var timeout net.Error
	require.ErrorAs(t, err, &timeout)
	require.True(t, timeout.Timeout(), "nothing is answered")

	server.Continue()
	require.NoError(t, client.Ping(within(t, 10*time.Second)).Err())
}

func TestFrozenServerIsKilledAtCleanup(t *testing.T) {
	t.Parallel()
	inner := &recorder{T: t}
	server := Start(inner)
	server.Stop()
	inner.end()
	require.False(t, server.Running())
	requireClosed(t, server.Addr())
}

func TestKillAndRestartEmpty(t *testing.T) {
	t.Parallel()
	server := Start(t)
	ctx := within(t, 30*time.Second)
	client := server.Client(t)
	require.NoError(t, client.Set(ctx, "k", "v", 0).Err())

	addr := server.Addr()
	server.Kill()
	require.False(t, server.Running())
	requireClosed(t, addr)

	server.Restart()
	require.Equal(t, addr, server.Addr())
	require.True(t, server.Running())
	require.Zero(t, client.Exists(ctx, "k").Val())
}

func TestRestartOfRunningServer(t *testing.T) {
	t.Parallel()
	server := Start(t)
	ctx := within(t, 30*time.Second)
	client := server.Client(t)
	require.NoError(t, client.Set(ctx, "k", "v", 0).Err())
	server.Stop()
	server.Restart()
	require.Zero(t, client.Exists(ctx, "k").Val())
}

func TestPersistenceSurvives(t *testing.T) {
	t.Parallel()
	server := Start(t, WithPersistence())
	ctx := within(t, 30*time.Second)
	client := server.Client(t)
	require.NoError(t, client.Set(ctx, "a", "1", 0).Err())
	server.Kill()
	server.Restart()
	require.Equal(t, "1", client.Get(ctx, "a").Val())

	require.NoError(t, client.Set(ctx, "b", "2", 0).Err())
	server.Stop()
	server.Shutdown()
	require.False(t, server.Running())
	server.Restart()
	require.Equal(t, "2", client.Get(ctx, "b").Val())
}

func TestControlOfDeadServer(t *testing.T) {
	t.Parallel()
	server := Start(t)
	server.Kill()
	server.Kill()
	server.Stop()
	server.Continue()
	server.Shutdown()
	require.False(t, server.Running())
}

func TestPollReturnsLastError(t *testing.T) {
	t.Parallel()
	cause := errors.New("not yet")
	require.ErrorIs(t, poll(time.Millisecond, func() error { return cause }), cause)
	require.NoError(t, poll(0, func() error { return nil }))
}

// requireClosed waits until nobody listens on an address any more.
func requireClosed(t *testing.T, addr string) {
	t.Helper()
	require.Eventually(t, func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		c, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		if err == nil {
			_ = c.Close()
		}
		return err != nil
	}, 20*time.Second, 10*time.Millisecond)
}

// TestRestartEmptyAfterReplication: what master and replica wrote to files on the way must not come back.
func TestRestartEmptyAfterReplication(t *testing.T) {
	t.Parallel()
	master, replica := Start(t), Start(t)
	toMaster, toReplica := master.Client(t), replica.Client(t)
	require.NoError(t, toMaster.Set(t.Context(), "k", "v", 0).Err())
	require.NoError(t, toReplica.Do(t.Context(), "replicaof", master.Host(), master.Port()).Err())
	require.Eventually(t, func() bool { return toReplica.Get(t.Context(), "k").Val() == "v" }, 20*time.Second, time.Millisecond)
	for _, s := range []*Server{replica, master} {
		s.Restart()
		require.Zero(t, s.Client(t).DBSize(t.Context()).Val())
	}
}
