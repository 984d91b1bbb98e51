package client

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/config"
	"github.com/compozy/cache/internal/redistest"
)

// outsider dials as from another machine: Redis takes nothing but 127.0.0.1 for its own.
func outsider(ctx context.Context, network, addr string) (net.Conn, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
	return d.DialContext(ctx, network, addr)
}

func TestProtectedMode(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t, redistest.WithConfig("protected-mode", "yes"))
	secure := redistest.Start(t, redistest.WithTLS(), redistest.WithConfig("protected-mode", "yes"))
	for name, cfg := range map[string]config.Config{
		"plain":       {URL: srv.URL()},
		"protocol 2":  {URL: srv.URL(), Protocol: 2},
		"database":    {URL: "redis://" + srv.Addr() + "/3"},
		"client name": {URL: srv.URL(), ClientName: "orders"},
		"password":    {URL: srv.URL(), Password: "hunter2"},
		"user":        {URL: srv.URL(), Username: "app", Password: "hunter2"},
		"TLS":         {URL: secure.URL(), TLSConfig: secure.TLSConfig()},
		"Cluster":     {Addrs: []string{srv.Addr()}, Cluster: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg.Dialer = outsider
			for range 10 { // which error it is depends on what arrives first
				said := refused(t, &cfg, ErrRefused)
				require.Contains(t, said, "DENIED")
				require.Contains(t, said, "it is in protected mode; set a password")
				require.NotContains(t, said, "hunter2")
			}
			r := open(t, &cfg)
			require.ErrorContains(t, r.Get(within(t, patience), "k").Err(), "DENIED")
		})
	}
}

func TestTooManyClients(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	admin := srv.Client(t)
	require.NoError(t, admin.Ping(t.Context()).Err())
	require.NoError(t, admin.ConfigSet(t.Context(), "maxclients", "1").Err())
	for name, cfg := range map[string]config.Config{
		"plain":    {URL: srv.URL()},
		"database": {URL: "redis://" + srv.Addr() + "/3"},
		"password": {URL: srv.URL(), Username: "app", Password: "hunter2"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := open(t, &cfg)
			for range 10 {
				err := r.HealthCheck(within(t, patience))
				require.ErrorIs(t, err, ErrUnreachable)
				require.ErrorContains(t, err, "max number of clients reached")
			}
		})
	}
}

// pipeEnd is a connection whose peer has said something and closed it.
type pipeEnd struct {
	net.Conn
	said *strings.Reader
}

func (c pipeEnd) Read(b []byte) (int, error) { return c.said.Read(b) }
func (pipeEnd) Write([]byte) (int, error)    { return 0, errors.New("broken pipe") }

// What is sent on a connection that the server turned away has not been executed. Of all
// others that is not known, whatever they said before they broke.
func TestOnlyGreetingsAreRepeated(t *testing.T) {
	t.Parallel()
	for said, repeats := range map[string]bool{
		"-DENIED Redis is running in protected mode\r\n":               true,
		"-ERR max number of clients reached\r\n":                       true,
		"-ERR max number of clients + cluster connections reached\r\n": true,
		"":                                    false,
		"-DENIED Redis is ru":                 false,
		"-DEN\r\n":                            false,
		"-LOADING Redis is loading\r\n":       false,
		"-ERR unknown command 'HELLO'\r\n":    false,
		"+OK\r\n-DENIED Redis is running\r\n": false,
	} {
		near, far := net.Pipe()
		require.NoError(t, far.Close())
		conn := newPeers(0, 0).watch(t.Context(), pipeEnd{near, strings.NewReader(said)}, "a", false)
		for range 3 {
			_, err := conn.Write([]byte("PING\r\n"))
			require.Equal(t, repeats, err == nil, "%q", said)
		}
		got := make([]byte, maxGreeting)
		for range 3 {
			n, err := conn.Read(got)
			if repeats {
				require.NoError(t, err)
				require.Equal(t, said, string(got[:n]))
			}
		}
		if !repeats {
			_, err := conn.Read(got)
			require.ErrorIs(t, err, io.EOF, "%q", said)
		}
		require.NoError(t, conn.Close())
	}
}
