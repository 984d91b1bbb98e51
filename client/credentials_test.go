package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/auth"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/config"
	"github.com/compozy/cache/internal/redistest"
)

// writeFile writes a file in one go, as a mounted secret is replaced.
func writeFile(t *testing.T, file string, content []byte) {
	t.Helper()
	require.NoError(t, os.WriteFile(file+".new", content, 0o600))
	require.NoError(t, os.Rename(file+".new", file))
}

// administrator returns a connection that stays authenticated whatever becomes of
// the password.
func administrator(t *testing.T, srv *redistest.Server) *redis.Conn {
	t.Helper()
	conn := srv.Client(t).Conn()
	t.Cleanup(func() { require.NoError(t, conn.Close()) })
	require.NoError(t, conn.Ping(t.Context()).Err())
	return conn
}

// rotate gives the default user another password, in place of the one it has, and
// cuts every connection but the administrator's.
func rotate(t *testing.T, admin *redis.Conn, password string) {
	t.Helper()
	ctx := within(t, patience)
	require.NoError(t, admin.Do(ctx, "ACL", "SETUSER", "default", "resetpass", ">"+password).Err())
	require.NoError(t, admin.Do(ctx, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes").Err())
}

func TestPasswordFile(t *testing.T) {
	t.Parallel()
	for name, ends := range map[string]string{"bare": "", "line break": "\n", "Windows": "\r\n"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := redistest.Start(t, redistest.WithPassword("one"))
			node := redistest.Start(t, redistest.WithPassword("one"))
			admin, nodeAdmin := administrator(t, srv), administrator(t, node)
			file := filepath.Join(t.TempDir(), "password")
			writeFile(t, file, []byte("one"+ends))
			r := ready(t, &config.Config{
				URL: "redis://" + srv.Addr(), PasswordFile: file, LockNodes: []string{node.Addr()}, MinIdleConns: 1,
			})
			works(t, r)
			require.NoError(t, r.CheckLockNodes(t.Context()))

			writeFile(t, file, []byte("two"+ends))
			rotate(t, admin, "two")
			rotate(t, nodeAdmin, "two")
			works(t, r)
			require.NoError(t, r.CheckLockNodes(t.Context()))
		})
	}
}

// What is wrong with the file shows when a connection needs it, without its content.
func TestPasswordFileLost(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t, redistest.WithPassword("one"))
	admin := administrator(t, srv)
	file := filepath.Join(t.TempDir(), "password")
	writeFile(t, file, []byte("one"))
	r := ready(t, &config.Config{URL: "redis://" + srv.Addr(), PasswordFile: file, MaxRetries: -1, MinIdleConns: 1})
	works(t, r)

	require.NoError(t, os.Remove(file))
	rotate(t, admin, "hunter2")
	err := r.Ping(within(t, patience)).Err()
	require.ErrorIs(t, err, os.ErrNotExist)
	require.ErrorContains(t, err, file)

	writeFile(t, file, []byte("hunter2\n\nx"))
	err = r.Ping(within(t, patience)).Err()
	require.ErrorContains(t, err, file)
	require.NotContains(t, err.Error(), "hunter2")
	require.NotContains(t, fmt.Sprintf("%v %+v %#v", r, r, r), "hunter2")

	writeFile(t, file, []byte("hunter2"))
	works(t, r)
}

func TestPasswordFileOfAUser(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t, redistest.WithUser("app", "secret"))
	file := filepath.Join(t.TempDir(), "password")
	writeFile(t, file, []byte("secret\n"))
	works(t, ready(t, &config.Config{URL: "redis://" + srv.Addr(), Username: "app", PasswordFile: file}))
	works(t, ready(t, &config.Config{URL: "redis://app@" + srv.Addr(), PasswordFile: file}))
}

// go-redis sends a user only with a password: without one all would be done as another user.
func TestUserNeedsPassword(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t, redistest.WithConfig("user", "app on nopass ~* &* +@all"))
	addr := redistest.Start(t).Addr()
	whoami := func(r *Redis) string { return r.Do(within(t, patience), "acl", "whoami").Val().(string) }
	for _, protocol := range []int{2, 3} {
		require.Equal(t, "app", whoami(ready(t, &config.Config{URL: "redis://app:any@" + srv.Addr(), Protocol: protocol})))
		require.Equal(t, "app", whoami(ready(t, &config.Config{URL: "redis://:any@" + srv.Addr(), Username: "app", Protocol: protocol})))
		require.Equal(t, "default", whoami(ready(t, &config.Config{URL: "redis://default@" + addr, Protocol: protocol})))
	}
	for name, cfg := range map[string]config.Config{
		"function": {Credentials: func(context.Context) (string, string, error) { return "app", "", nil }},
		"provider": {CredentialsProvider: source{&nothing{"app"}}},
	} {
		cfg.URL = "redis://" + srv.Addr()
		err := diagnosis(t, cfg)
		require.ErrorIs(t, err, ErrAuth, name)
		require.ErrorContains(t, err, "a user without a password", name)
	}
}

// Sentinel and Cluster take the credentials from the same source.
func TestPasswordFileInTopologies(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "password")
	writeFile(t, file, []byte("pw\n"))
	t.Run("Sentinel", func(t *testing.T) {
		t.Parallel()
		set := redistest.StartSentinel(t, redistest.WithPassword("pw"), redistest.WithSentinelPassword("spw"))
		works(t, ready(t, &config.Config{
			MasterName: set.MasterName(), Addrs: set.Addrs(), PasswordFile: file, SentinelPassword: "spw",
		}))
	})
	t.Run("Cluster", func(t *testing.T) {
		t.Parallel()
		set := redistest.StartCluster(t, 3, redistest.WithPassword("pw"))
		works(t, ready(t, &config.Config{Cluster: true, Addrs: set.Addrs(), PasswordFile: file}))
	})
}

// A function is called for every new connection, of lock nodes too; the URL of a lock
// node stands alone.
func TestCredentials(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t, redistest.WithPassword("one"))
	node := redistest.Start(t, redistest.WithPassword("one"))
	without := redistest.Start(t)
	admin := administrator(t, srv)
	var password atomic.Value
	password.Store("one")
	r := ready(t, &config.Config{
		URL: "redis://" + srv.Addr(), MinIdleConns: 1, LockNodes: []string{node.Addr(), "redis://" + without.Addr()},
		Credentials: func(context.Context) (string, string, error) { return "default", password.Load().(string), nil },
	})
	works(t, r)
	for _, c := range r.LockNodes() {
		require.NoError(t, c.Ping(t.Context()).Err())
	}
	password.Store("two")
	rotate(t, admin, "two")
	works(t, r)
}

func TestCredentialsFail(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t, redistest.WithPassword("one"))
	refused := errors.New("the token service is down")
	r := open(t, &config.Config{
		URL: "redis://" + srv.Addr(), MaxRetries: -1,
		Credentials: func(context.Context) (string, string, error) { return "", "", refused },
	})
	require.ErrorIs(t, r.Ping(within(t, patience)).Err(), refused)
	_, err := NewRedis(within(t, patience), &config.Config{
		URL:         "redis://" + srv.Addr(),
		Credentials: func(context.Context) (string, string, error) { return "", "hunter2", nil },
	})
	require.ErrorIs(t, err, ErrAuth)
	require.NotContains(t, err.Error(), "hunter2")

	for _, p := range []*tokens{{fails: refused}, {}} {
		r := open(t, &config.Config{URL: "redis://" + srv.Addr(), MaxRetries: -1, CredentialsProvider: p})
		require.ErrorContains(t, r.Ping(within(t, patience)).Err(), "credentials provider")
	}
}

// tokens is a provider that announces new passwords, as those of cloud services do.
type tokens struct {
	mu        sync.Mutex
	fails     error
	current   auth.Credentials
	listeners map[auth.CredentialsListener]bool
	log       string
}

func (p *tokens) Subscribe(l auth.CredentialsListener) (auth.Credentials, auth.UnsubscribeFunc, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
		p.log += fmt.Sprintf(verb, l)
	}
	if p.fails == nil && p.current != nil {
		p.listeners[l] = true
	}
	return p.current, func() error {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.listeners, l)
		return nil
	}, p.fails
}

// announce tells the listeners of another password.
func (p *tokens) announce(password string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.current = auth.NewBasicCredentials("", password)
	for l := range p.listeners {
		l.OnError(errors.New("the first attempt failed"))
		l.OnNext(p.current)
		l.OnNext(p.current)
	}
}

// clientID returns the number of a connection of the pool.
func clientID(t *testing.T, c redis.UniversalClient) int64 {
	t.Helper()
	id, err := c.ClientID(within(t, patience)).Result()
	require.NoError(t, err)
	return id
}

func TestCredentialsProvider(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t, redistest.WithPassword("one"))
	node := redistest.Start(t, redistest.WithPassword("one"))
	admin := administrator(t, srv)
	p := &tokens{current: auth.NewBasicCredentials("", "one"), listeners: make(map[auth.CredentialsListener]bool)}
	r := ready(t, &config.Config{
		URL: "redis://" + srv.Addr(), CredentialsProvider: p, LockNodes: []string{node.Addr()}, PoolSize: 1,
	})
	require.Len(t, p.listeners, 1, "one subscription for all connections")
	id, nodeID := clientID(t, r), clientID(t, r.LockNodes()[0])
	p.announce("one")
	require.Equal(t, id, clientID(t, r), "nothing has changed")

	for _, a := range []*redis.Conn{admin, administrator(t, node)} {
		require.NoError(t, a.Do(t.Context(), "ACL", "SETUSER", "default", ">two").Err()) // both are valid for a while
	}
	p.announce("two")
	require.NotEqual(t, id, clientID(t, r), "the connection was replaced before the server ended it")
	require.NotEqual(t, nodeID, clientID(t, r.LockNodes()[0]))
	rotate(t, admin, "two")
	works(t, r)

	conn := r.UniversalClient.(*redis.Client).Conn()
	require.NoError(t, conn.Ping(t.Context()).Err())
	require.NoError(t, conn.Close())
	require.NoError(t, r.Close())
	require.Empty(t, p.listeners)
	require.Contains(t, p.log, "client.CredentialsListener")
	require.NotContains(t, p.log, "one")
	require.NotContains(t, p.log, "two")
}

func TestProtocolAndLifetimes(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	for protocol, want := range map[int]string{0: "resp=3", 2: "resp=2", 3: "resp=3"} {
		r := ready(t, &config.Config{URL: srv.URL(), Protocol: protocol})
		info, err := r.Do(within(t, patience), "CLIENT", "INFO").Text()
		require.NoError(t, err)
		require.Contains(t, info, want)
	}
	r := ready(t, &config.Config{URL: srv.URL() + "?protocol=2", Protocol: 3})
	info, err := r.Do(within(t, patience), "CLIENT", "INFO").Text()
	require.NoError(t, err)
	require.Contains(t, info, "resp=2", "the URL wins")
}

// A Service link in REDIS_PORT beside a good URL must not lead anywhere.
func TestOverriddenAddressesAreNotDialled(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	var wrong atomic.Int64
	r := ready(t, &config.Config{
		URL: "valkey://" + srv.Addr(), Host: "elsewhere.invalid", Port: "tcp://10.0.171.239:6379", Addrs: []string{"tcp://10.0.171.239:6379"},
		Dialer: func(ctx context.Context, network, addr string) (net.Conn, error) {
			if addr != srv.Addr() {
				wrong.Add(1)
			}
			return new(net.Dialer).DialContext(ctx, network, addr)
		},
	})
	works(t, r)
	require.Zero(t, wrong.Load())
}

// unwilling is a provider whose subscription panics when it is ended.
type unwilling struct{ username, password string }

func (u unwilling) Subscribe(auth.CredentialsListener) (auth.Credentials, auth.UnsubscribeFunc, error) {
	return auth.NewBasicCredentials(u.username, u.password), func() error { panic("hunter2") }, nil
}

func TestPanicOfAnUnsubscribeIsAnError(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.WithUser("app", "hunter2"))
	r, err := New(&config.Config{Host: server.Host(), Port: server.Port(), CredentialsProvider: unwilling{"app", "hunter2"}})
	require.NoError(t, err)
	r.Open()
	require.NoError(t, r.WaitReady(t.Context()))
	err = r.Close()
	require.ErrorIs(t, err, errCredentialsPanic)
	require.NotContains(t, err.Error(), "hunter2")
}

// A provider that has nothing may say so by nil, also by a nil of some type. What it
// announces arrives in a goroutine of its own, where nothing recovers a panic.
func TestProviderWithoutCredentials(t *testing.T) {
	t.Parallel()
	for name, none := range map[string]auth.Credentials{"nil": nil, "nil of a type": (*nothing)(nil)} {
		p := newProvided(source{none})
		_, _, err := p.ask(t.Context())
		require.ErrorContains(t, err, "returned no credentials", name)
		p.OnNext(none)
		require.False(t, p.known, name)
	}
}

// nothing are credentials that panic without a value.
type nothing struct{ name string }

func (n *nothing) BasicAuth() (username, password string) { return n.name, "" }
func (n *nothing) RawCredentials() string                 { return n.name }

// source has the same credentials for all.
type source struct{ auth.Credentials }

func (s source) Subscribe(auth.CredentialsListener) (auth.Credentials, auth.UnsubscribeFunc, error) {
	return s.Credentials, func() error { return nil }, nil
}
