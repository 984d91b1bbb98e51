package client

import (
	"context"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/config"
)

// patience is how long a test waits for what should happen at once; the machines
// that run tests are busy.
const patience = 15 * time.Second

// open builds a client, opens it, and closes it when the test ends.
func open(t *testing.T, cfg *config.Config, opts ...Option) *Redis {
	t.Helper()
	r := build(t, cfg, opts...)
	r.Open()
	return r
}

// build builds a client and closes it when the test ends. A health check has all the
// time it takes, unless cfg limits it.
func build(t *testing.T, cfg *config.Config, opts ...Option) *Redis {
	t.Helper()
	if cfg != nil && cfg.PingTimeout == 0 {
		patient := *cfg
		patient.PingTimeout = patience
		cfg = &patient
	}
	r, err := New(cfg, opts...)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, r.Close()) })
	return r
}

// ready is open and waits for the server.
func ready(t *testing.T, cfg *config.Config, opts ...Option) *Redis {
	t.Helper()
	r := open(t, cfg, opts...)
	require.NoError(t, r.WaitReady(within(t, patience)))
	return r
}

// within returns a context that ends after d, or with the test.
func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// refusal is how long a start is given that must fail: its first try is refused at once,
// and only the pause after that may be cut short.
const refusal = 2 * time.Second

// eventually fails the test if the condition does not come true in time.
func eventually(t *testing.T, condition func() bool, what string) {
	t.Helper()
	require.Eventually(t, condition, patience, 10*time.Millisecond, what)
}

// listener accepts connections and counts them.
type listener struct {
	net.Listener
	accepted atomic.Int64
}

// listen starts a listener that hands each connection to serve, which may be nil
// to leave the peer without an answer until the test ends.
func listen(t *testing.T, serve func(net.Conn)) *listener {
	t.Helper()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	l := &listener{Listener: inner}
	done := make(chan struct{})
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		for {
			conn, err := inner.Accept()
			if err != nil {
				return
			}
			l.accepted.Add(1)
			go func() {
				defer func() { _ = conn.Close() }()
				if serve != nil {
					serve(conn)
					return
				}
				<-done
			}()
		}
	}()
	t.Cleanup(func() {
		_ = inner.Close()
		close(done)
		<-finished
	})
	return l
}

// address returns host:port of the listener.
func (l *listener) address() string { return l.Addr().String() }

// hostPort splits an address for a Config.
func hostPort(t *testing.T, addr string) (host, port string) {
	t.Helper()
	host, port, err := net.SplitHostPort(addr)
	require.NoError(t, err)
	return host, port
}
