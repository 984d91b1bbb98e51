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

// Nothing but Close ends a question to a sentinel that does not answer.
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
