package client

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/config"
	"github.com/compozy/cache/internal/redistest"
)

// certificates are files that are replaced together.
type certificates struct{ ca, cert, key string }

// copyFrom replaces the files by those of a server.
func (c *certificates) copyFrom(t *testing.T, srv *redistest.Server) {
	t.Helper()
	for file, from := range map[string]string{c.ca: srv.CAFile(), c.cert: srv.CertFile(), c.key: srv.KeyFile()} {
		content, err := os.ReadFile(from)
		require.NoError(t, err)
		writeFile(t, file, content)
	}
}

// Two servers with different authorities stand for one whose certificates are
// replaced: a client that had kept the old authority would refuse the second, and one
// that had kept its certificate would be refused.
func TestCertificatesAreReadAgain(t *testing.T) {
	t.Parallel()
	for _, node := range []string{"127.0.0.1:6380", "rediss://127.0.0.1:6381", "valkeys://127.0.0.1:6382"} {
		t.Run(node, func(t *testing.T) {
			t.Parallel()
			readsCertificatesAgain(t, node)
		})
	}
}

// readsCertificatesAgain does the above with one lock node, which is the same server.
func readsCertificatesAgain(t *testing.T, node string) {
	t.Helper()
	demanding := redistest.WithConfig("tls-auth-clients", "yes")
	before := redistest.Start(t, redistest.WithTLS(), demanding)
	after := redistest.Start(t, redistest.WithTLS(), demanding)
	dir := t.TempDir()
	files := &certificates{filepath.Join(dir, "ca"), filepath.Join(dir, "cert"), filepath.Join(dir, "key")}
	files.copyFrom(t, before)

	var target atomic.Pointer[redistest.Server]
	target.Store(before)
	r := ready(t, &config.Config{
		URL: "rediss://127.0.0.1:6379", TLSCAFile: files.ca, TLSCertFile: files.cert, TLSKeyFile: files.key,
		LockNodes: []string{node}, MaxRetries: -1, MinIdleConns: 1,
		Dialer: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, target.Load().Addr())
		},
	})
	everywhere := func(check func(c redis.UniversalClient)) {
		for _, c := range append(r.LockNodes(), r) {
			check(c)
		}
	}
	everywhere(func(c redis.UniversalClient) { require.NoError(t, c.Ping(within(t, patience)).Err()) })

	target.Store(after)
	before.Kill() // and all connections with it
	everywhere(func(c redis.UniversalClient) {
		eventually(t, func() bool {
			err := c.Ping(within(t, patience)).Err()
			require.Error(t, err)
			return classify(err) == ErrTLS //nolint:errorlint // a kind is never wrapped
		}, "the certificates are still those of the other")
	})
	files.copyFrom(t, after)
	everywhere(func(c redis.UniversalClient) { require.NoError(t, c.Ping(within(t, patience)).Err()) })

	require.NoError(t, os.Remove(files.key))
	require.NoError(t, r.Ping(within(t, patience)).Err(), "open connections need no file")
	after.Kill()
	after.Restart()
	eventually(t, func() bool {
		return errors.Is(r.Ping(within(t, patience)).Err(), os.ErrNotExist)
	}, "the error says that the key is missing")
}

func TestSkipVerify(t *testing.T) {
	t.Parallel()
	srv, other := redistest.Start(t, redistest.WithTLS()), redistest.Start(t, redistest.WithTLS())
	for name, cfg := range map[string]*config.Config{
		"URL":    {URL: "rediss://" + srv.Addr(), TLSSkipVerify: true},
		"option": {URL: "rediss://" + srv.Addr() + "?skip_verify=true"},
		"Valkey": {URL: "valkeys://" + srv.Addr(), TLSSkipVerify: true},
		"fields": {Host: srv.Host(), Port: srv.Port(), TLSEnabled: true, TLSSkipVerify: true},
		"nodes":  {URL: "rediss://" + srv.Addr(), TLSSkipVerify: true, LockNodes: []string{srv.Addr(), "rediss://localhost:" + other.Port()}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := ready(t, cfg)
			works(t, r)
			require.NoError(t, r.CheckLockNodes(t.Context()))
		})
	}
	_, err := NewRedis(within(t, patience), &config.Config{URL: "rediss://" + srv.Addr() + "?skip_verify=false", TLSSkipVerify: true})
	require.ErrorIs(t, err, ErrTLS, "the option of the URL wins")
	strict := &tls.Config{MinVersion: tls.VersionTLS12}
	_, err = NewRedis(within(t, patience), &config.Config{URL: "rediss://" + srv.Addr() + "?skip_verify=true", TLSConfig: strict})
	require.ErrorIs(t, err, ErrTLS, "a TLSConfig wins over everything")
	r := open(t, &config.Config{
		URL: "rediss://" + srv.Addr(), TLSConfig: srv.TLSConfig(),
		LockNodes: []string{"rediss://" + other.Addr() + "?skip_verify=true"},
	})
	require.NoError(t, r.HealthCheck(t.Context()))
	require.ErrorIs(t, r.CheckLockNodes(t.Context()), ErrTLS, "also at a lock node")
	t.Run("Sentinel", func(t *testing.T) {
		t.Parallel()
		set := redistest.StartSentinel(t, redistest.WithTLS())
		works(t, ready(t, &config.Config{
			MasterName: set.MasterName(), Addrs: set.Addrs(), TLSEnabled: true, TLSSkipVerify: true,
		}))
	})
	t.Run("Cluster", func(t *testing.T) {
		t.Parallel()
		set := redistest.StartCluster(t, 3, redistest.WithTLS())
		works(t, ready(t, &config.Config{Cluster: true, Addrs: set.Addrs(), TLSEnabled: true, TLSSkipVerify: true}))
	})
}

// A lock node that is a rediss:// URL is checked with our authority, under its own name.
func TestLockNodeURLsShareCertificates(t *testing.T) {
	t.Parallel()
	main := redistest.Start(t)
	node := redistest.Start(t, redistest.WithTLS(), redistest.WithConfig("tls-auth-clients", "yes"))
	cfg := config.Config{
		URL: main.URL(), LockNodes: []string{"rediss://" + node.Addr()},
		TLSCAFile: node.CAFile(), TLSCertFile: node.CertFile(), TLSKeyFile: node.KeyFile(),
	}
	require.NoError(t, ready(t, &cfg).CheckLockNodes(t.Context()))

	without := cfg
	without.TLSCertFile, without.TLSKeyFile = "", ""
	// The server's alert may be lost to the reset that follows it.
	require.Error(t, open(t, &without).LockNodes()[0].Ping(within(t, patience)).Err())
	without = cfg
	without.TLSCAFile = ""
	_, err := NewRedis(within(t, patience), &without)
	require.ErrorIs(t, err, ErrTLS)

	secure := redistest.Start(t, redistest.WithTLS())
	own := config.Config{URL: secure.URL(), TLSConfig: secure.TLSConfig(), LockNodes: []string{secure.URL()}}
	own.TLSConfig.ServerName = "localhost"
	r := ready(t, &own)
	require.Empty(t, r.nodes[0].endpoint.tls.config.ServerName, "the name is that of the node")
	require.NoError(t, r.CheckLockNodes(t.Context()))
}

func TestServerNames(t *testing.T) {
	t.Parallel()
	r := build(t, &config.Config{URL: "rediss://[fe80::1%25eth0]:1"})
	require.Equal(t, "[fe80::1%eth0]:1", r.Addr())
	require.Equal(t, "fe80::1", r.main.endpoint.tls.forDial(r.Addr()).ServerName)
}

// What only a change of TLSConfig cures, as Go finds it without a type for the error.
func TestTLSConfigThatCannotWork(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t, redistest.WithTLS())
	for name, test := range map[string]struct {
		change func(c *tls.Config)
		says   string
	}{
		"versions below the default": {func(c *tls.Config) { c.MaxVersion = tls.VersionTLS10 }, "no supported versions"},
		"versions that contradict": {func(c *tls.Config) {
			c.MinVersion, c.MaxVersion = tls.VersionTLS13, tls.VersionTLS12 //nolint:gosec // it does not matter
		}, "no supported versions"},
		"protocols": {func(c *tls.Config) { c.NextProtos = []string{""} }, "NextProtos"},
		"own check": {func(c *tls.Config) {
			c.VerifyConnection = func(tls.ConnectionState) error { return errors.New("not pinned") }
		}, "not pinned"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			settings := srv.TLSConfig()
			test.change(settings)
			said := refused(t, &config.Config{Host: "localhost", Port: srv.Port(), TLSConfig: settings}, ErrTLS)
			require.Contains(t, said, test.says)
		})
	}
}
