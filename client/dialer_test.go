package client

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/config"
	"github.com/compozy/cache/internal/redistest"
)

// Close does not wait for the answer of a sentinel.
func TestCloseEndsQuestionsToSentinels(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"plain", "TLS"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := &config.Config{
				MasterName: "m", MaxRetries: -1, DialTimeout: time.Hour, ReadTimeout: time.Hour, PoolTimeout: time.Hour,
			}
			accept := func(conn net.Conn) net.Conn { return conn }
			if name == "TLS" {
				srv := redistest.Start(t, redistest.WithTLS())
				pair, err := tls.LoadX509KeyPair(srv.CertFile(), srv.KeyFile())
				require.NoError(t, err)
				cfg.TLSConfig = srv.TLSConfig()
				accept = func(conn net.Conn) net.Conn {
					return tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12})
				}
			}
			asked := make(chan struct{}, 1)
			sentinel := listen(t, func(conn net.Conn) {
				conn = accept(conn)
				if _, err := conn.Read(make([]byte, 1)); err == nil {
					asked <- struct{}{}
				}
				_, _ = io.Copy(io.Discard, conn) // until the client closes it
			})
			cfg.Addrs = []string{sentinel.address()}
			r := open(t, cfg)
			answer := make(chan error, 1)
			go func() { answer <- r.Get(context.Background(), "k").Err() }()
			<-asked

			closed := make(chan error, 1)
			go func() { closed <- r.Close() }()
			select {
			case err := <-closed:
				require.NoError(t, err)
			case <-time.After(patience):
				require.NoError(t, sentinel.Close())
				require.FailNow(t, "Close waits for an answer")
			}
			require.ErrorIs(t, <-answer, redis.ErrClosed)
		})
	}
}

// The error of a dial is that of the first command on the connection; others, as in a check, get
// it with words of go-redis around it.
func TestDialErrorIsPlain(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	srv.Kill()
	for name, cfg := range map[string]config.Config{
		"single":   {URL: srv.URL()},
		"Sentinel": {MasterName: "m", Addrs: []string{srv.Addr()}},
		"Cluster":  {Cluster: true, Addrs: []string{srv.Addr()}},
		"lock":     {URL: redistest.Start(t).URL(), LockNodes: []string{srv.Addr()}},
		"path":     {URL: "unix:///none.sock"},
	} {
		err := diagnosis(t, cfg)
		require.ErrorIs(t, err, ErrUnreachable, name)
		require.NotContains(t, err.Error(), "bad state", name)
	}
}

// A Dialer that returns no connection and no error would end the process in a goroutine of
// go-redis, where nothing recovers it.
func TestDialerWithoutConnection(t *testing.T) {
	t.Parallel()
	for name, conn := range map[string]net.Conn{"nil": nil, "nil of a type": (*net.TCPConn)(nil), "nil of TLS": (*tls.Conn)(nil)} {
		for mode, cfg := range map[string]config.Config{
			"single":   {LockNodes: []string{"a:1", "redis://b:2"}},
			"TLS":      {TLSEnabled: true},
			"Sentinel": {MasterName: "m", Addrs: []string{"a:1"}},
			"Cluster":  {Cluster: true, Addrs: []string{"a:1"}},
		} {
			t.Run(name+" "+mode, func(t *testing.T) {
				t.Parallel()
				cfg.MaxRetries = -1
				cfg.Dialer = func(context.Context, string, string) (net.Conn, error) { return conn, nil }
				r := open(t, &cfg)
				err := r.HealthCheck(within(t, patience))
				require.ErrorIs(t, err, ErrUnreachable)
				require.ErrorContains(t, err, "the Dialer or a DialHook returned no connection")
				require.ErrorContains(t, r.Get(within(t, patience), "k").Err(), "no connection")
				_, err = r.Pipelined(within(t, patience), func(p redis.Pipeliner) error { return p.Get(t.Context(), "k").Err() })
				require.ErrorContains(t, err, "no connection")
				ps := r.Subscribe(t.Context(), "c")
				require.ErrorContains(t, ps.Ping(within(t, patience)), "no connection")
				require.NoError(t, ps.Close())
				if len(r.nodes) > 0 {
					require.ErrorContains(t, r.CheckLockNodes(within(t, patience)), "no connection")
				}
			})
		}
	}
}
