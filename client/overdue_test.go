package client

import (
	"context"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/config"
	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/internal/redisx"
)

// ends fails the test if f does not return.
func ends(t *testing.T, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatal(what + " does not return")
	}
}

func TestDialerThatIgnoresItsContext(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]*config.Config{
		"single": {}, "sentinel": {MasterName: "m", Addrs: []string{"127.0.0.1:1", "127.0.0.1:2"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			release := make(chan struct{})
			t.Cleanup(func() { close(release) })
			cfg.PingTimeout, cfg.DialTimeout = 20*time.Millisecond, 10*time.Millisecond
			cfg.Dialer = func(context.Context, string, string) (net.Conn, error) {
				<-release
				return nil, net.ErrClosed
			}
			r, err := New(cfg)
			require.NoError(t, err)
			r.Open()
			ends(t, "HealthCheck", func() { require.ErrorIs(t, r.HealthCheck(t.Context()), ErrUnreachable) })
			ends(t, "a command", func() { require.True(t, redisx.IsUnsent(r.Ping(t.Context()).Err())) })
			ends(t, "Close", func() { require.NoError(t, r.Close()) })
		})
	}
}

func TestOverdueConnections(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	o, release := new(opener), make(chan struct{})
	peers := make(chan net.Conn, maxOverdue)
	slow := func() (net.Conn, error) { //nolint:unparam // as open takes it
		<-release
		conn, peer := net.Pipe()
		peers <- peer
		return conn, nil
	}
	var all sync.WaitGroup
	for range maxOverdue {
		all.Go(func() {
			_, err := o.open(ctx, "tcp", slow)
			require.ErrorIs(t, err, context.Canceled)
			require.True(t, redisx.IsUnsent(err))
		})
	}
	all.Wait()
	_, err := o.open(ctx, "tcp", func() (net.Conn, error) { panic("is not called") })
	require.ErrorIs(t, err, errOverdue)
	require.True(t, redisx.IsUnsent(err))
	close(release)
	for range maxOverdue {
		_, err := (<-peers).Read(make([]byte, 1))
		require.ErrorIs(t, err, io.EOF, "what comes too late is closed")
	}
	eventually(t, func() bool { return o.calls.Load() == 0 }, "and does not count any more")
	conn, _ := net.Pipe()
	got, err := o.open(t.Context(), "tcp", func() (net.Conn, error) { return conn, nil })
	require.NoError(t, err)
	require.Equal(t, conn, got)
}

// A hook that does not return holds up neither a check, beyond its time, nor Close, which it may even have called.
func TestHooksThatDoNotReturn(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	for name, hook := range map[string]faulty{"dial": {dial: true}, "command": {command: "ping"}, "pipeline": {pipeline: "info"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			release, called := make(chan struct{}), make(chan struct{}, 100)
			t.Cleanup(func() { close(release) })
			hook.fault = func() {
				called <- struct{}{}
				<-release
			}
			r, err := New(&config.Config{URL: srv.URL(), PingTimeout: 50 * time.Millisecond})
			require.NoError(t, err)
			r.AddHook(hook)
			r.Open()
			if name != "command" { // which the idle keeper sends, and no check
				ends(t, "HealthCheck", func() { require.ErrorIs(t, r.HealthCheck(t.Context()), ErrUnreachable) })
			}
			<-called
			ends(t, "Close", func() { require.NoError(t, r.Close()) })
		})
	}
}

// TestChecksThatDoNotReturn: each keeps goroutines, and probes of readiness go on.
func TestChecksThatDoNotReturn(t *testing.T) {
	t.Parallel()
	srv, nodes := redistest.Start(t), redistest.StartN(t, 3)
	cfg := &config.Config{URL: srv.URL(), PingTimeout: patience}
	for _, node := range nodes {
		cfg.LockNodes = append(cfg.LockNodes, node.Addr())
	}
	r := ready(t, cfg)
	release := make(chan struct{})
	var called atomic.Int32
	hook := faulty{pipeline: "info", fault: func() {
		called.Add(1)
		<-release
	}}
	r.AddHook(hook)
	r.LockNodes()[2].AddHook(hook)
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	for range maxOverdueChecks {
		require.ErrorIs(t, r.HealthCheck(ctx), context.DeadlineExceeded)
	}
	eventually(t, func() bool { return called.Load() == maxOverdueChecks }, "all are under way")
	for _, err := range []error{r.HealthCheck(t.Context()), r.WaitReady(ctx)} {
		require.ErrorIs(t, err, ErrUnreachable)
		require.ErrorIs(t, err, errOverdue)
		require.ErrorContains(t, err, "a server hangs, or a hook", "either may be the cause")
	}
	require.EqualValues(t, maxOverdueChecks, called.Load(), "no further one is begun")
	brief, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	require.NoError(t, r.CheckLockNodes(brief), "a minority does not return")
	close(release)
	eventually(t, func() bool { return r.HealthCheck(t.Context()) == nil }, "it is asked again once they have returned")
}

func TestHookThatClosesItsClient(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	r, err := New(&config.Config{URL: srv.URL()})
	require.NoError(t, err)
	done := make(chan error, 100)
	r.AddHook(faulty{command: "ping", fault: func() { done <- r.Close() }})
	r.Open()
	select {
	case err := <-done:
		require.NoError(t, err)
	case <-time.After(patience):
		t.Fatal("Close does not return")
	}
}
