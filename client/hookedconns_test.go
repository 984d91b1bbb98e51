package client

import (
	"context"
	"crypto/tls"
	"net"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/auth"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/config"
	"github.com/compozy/cache/internal/redistest"
)

// wrapped is a connection of a DialHook that hides all but the methods of a net.Conn.
type wrapped struct{ net.Conn }

// wrapping is a hook of an application that wraps connections, as one that counts bytes does.
func wrapping() redis.Hook {
	return dialing{dial: func(ctx context.Context, next redis.DialHook, network, addr string) (net.Conn, error) {
		conn, err := next(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return wrapped{conn}, nil
	}}
}

// withHook returns a client with the hook that is fit for use.
func withHook(t *testing.T, cfg *config.Config, hook redis.Hook) *Redis {
	t.Helper()
	r := build(t, cfg)
	r.AddHook(hook)
	r.Open()
	require.NoError(t, r.WaitReady(within(t, patience)))
	return r
}

// A hook of the application that wraps connections changes nothing about which of them are used again.
func TestForgottenConnectionsThatAHookWraps(t *testing.T) {
	t.Parallel()
	const idle = 8
	for name, start := range map[string]func(t *testing.T) *config.Config{
		"single": func(t *testing.T) *config.Config {
			t.Helper()
			return &config.Config{URL: redistest.Start(t).URL()}
		},
		"Sentinel": func(t *testing.T) *config.Config {
			t.Helper()
			set := redistest.StartSentinel(t)
			return &config.Config{MasterName: set.MasterName(), Addrs: set.Addrs()}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			box := newMiddlebox(t)
			cfg := start(t)
			cfg.Dialer, cfg.PoolSize, cfg.MaxIdleConns, cfg.MinIdleConns = box.dial, idle, idle, 1
			cfg.ReadTimeout, cfg.MaxRetries = time.Second, 1
			r := withHook(t, cfg, wrapping())
			fill(t, r.UniversalClient.(*redis.Client), idle)
			box.forget()
			for range 2 * idle {
				require.NoError(t, r.Set(within(t, patience), "k", "v", 0).Err())
			}
		})
	}
}

// Other credentials need other connections, those that a hook wraps too.
func TestOtherCredentialsForConnectionsThatAHookWraps(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t, redistest.WithPassword("one"))
	p := &tokens{current: auth.NewBasicCredentials("", "one"), listeners: make(map[auth.CredentialsListener]bool)}
	r := withHook(t, &config.Config{URL: "redis://" + srv.Addr(), CredentialsProvider: p, PoolSize: 1}, wrapping())
	id := clientID(t, r)
	require.NoError(t, administrator(t, srv).Do(t.Context(), "ACL", "SETUSER", "default", ">two").Err()) // both are valid
	p.announce("two")
	require.NotEqual(t, id, clientID(t, r))
}

// What a server has closed costs one command, as it does where there is no socket to look at for another reason.
func TestClosedConnectionsThatAHookWraps(t *testing.T) {
	t.Parallel()
	const idle = 4
	srv := redistest.Start(t)
	r := withHook(t, &config.Config{URL: srv.URL(), MaxRetries: -1, PoolSize: idle, MaxIdleConns: idle}, wrapping())
	fill(t, r.UniversalClient.(*redis.Client), idle)
	require.NoError(t, srv.Client(t).ClientKillByFilter(t.Context(), "type", "normal", "skipme", "yes").Err())
	require.Error(t, r.Ping(t.Context()).Err())
	for range idle {
		require.NoError(t, r.Ping(t.Context()).Err())
	}
}

// socketed is a connection of a DialHook that shows its socket.
type socketed struct{ *net.TCPConn }

// A hook that dials by itself has no connection of ours to ask.
func TestHookThatDialsByItself(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	r := withHook(t, &config.Config{URL: srv.URL()}, dialing{dial: func(ctx context.Context, _ redis.DialHook, network, addr string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return socketed{conn.(*net.TCPConn)}, nil
	}})
	works(t, r)
}

// A hook may speak TLS on the connection, and complains when that cannot end as it should.
func TestCloseOfConnectionsThatAHookEncrypts(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.WithTLS())
	r := withHook(t, &config.Config{URL: "redis://" + server.Addr()}, dialing{
		dial: func(ctx context.Context, next redis.DialHook, network, addr string) (net.Conn, error) {
			conn, err := next(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			set := server.TLSConfig()
			set.ServerName = server.Host()
			return tls.Client(conn, set), nil
		},
	})
	require.NoError(t, r.Ping(t.Context()).Err())
	require.NoError(t, r.Close())
}
