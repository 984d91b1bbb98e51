package client

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/config"
	"github.com/compozy/cache/internal/redistest"
)

// diagnosis is what a health check of cfg says, and of its lock nodes if the main server
// is well.
func diagnosis(t *testing.T, cfg config.Config) error {
	t.Helper()
	r := open(t, &cfg)
	if err := r.HealthCheck(t.Context()); err != nil {
		return err
	}
	return r.CheckLockNodes(t.Context())
}

// with returns a Config for a main server and one lock node.
func with(main *redistest.Server, node string) config.Config {
	return config.Config{URL: main.URL(), LockNodes: []string{node}}
}

func TestCredentialsAdvice(t *testing.T) {
	t.Parallel()
	open, closed := redistest.Start(t), redistest.Start(t, redistest.WithPassword("right"))
	set := redistest.StartSentinel(t, redistest.WithSentinelPassword("right"))
	file := filepath.Join(t.TempDir(), "password")
	writeFile(t, file, []byte("hunter2"))
	sentinel := config.Config{MasterName: set.MasterName(), Addrs: set.Addrs()}
	refused := sentinel
	refused.SentinelPassword = "hunter2"
	const (
		missing = "set Password (REDIS_PASSWORD) or the user part of the URL (NOAUTH "
		wrong   = "check Username (REDIS_USERNAME) and Password (REDIS_PASSWORD) or the user part of the URL (WRONGPASS "
		node    = "check the user part of its URL in LockNodes (REDIS_LOCK_NODES) ("
		other   = "check what PasswordFile (REDIS_PASSWORD_FILE), Credentials or CredentialsProvider provide ("
	)
	for name, test := range map[string]struct {
		cfg  config.Config
		says string
	}{
		"missing":                  {config.Config{URL: "redis://" + closed.Addr()}, missing},
		"missing, RESP2":           {config.Config{URL: "redis://" + closed.Addr(), Protocol: 2}, missing},
		"wrong":                    {config.Config{URL: "redis://:hunter2@" + closed.Addr()}, wrong},
		"wrong, by field":          {config.Config{URL: "redis://" + closed.Addr(), Password: "hunter2"}, wrong},
		"missing at a sentinel":    {config.Config{URL: "redis://" + set.Addrs()[0]}, missing},
		"the same, and a database": {config.Config{URL: "redis://" + set.Addrs()[0] + "/1"}, missing},
		"the same, and a name":     {config.Config{URL: "redis://" + set.Addrs()[0], ClientName: "orders"}, missing},
		"the same, as a lock node": {with(open, set.Addrs()[0]), missing},
		"missing at a lock node":   {with(open, closed.Addr()), missing},
		"missing at a node by URL": {with(open, "redis://"+closed.Addr()), node + "NOAUTH "},
		"wrong at a node by URL":   {with(open, "redis://:hunter2@"+closed.Addr()), node + "WRONGPASS "},
		"from a file": {config.Config{
			URL: "redis://" + closed.Addr(), PasswordFile: file,
		}, other},
		"missing at the sentinels": {sentinel, "set SentinelPassword (REDIS_SENTINEL_PASSWORD) ("},
		"wrong at the sentinels": {
			refused, "check SentinelUsername (REDIS_SENTINEL_USERNAME) and SentinelPassword (REDIS_SENTINEL_PASSWORD) (",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := diagnosis(t, test.cfg)
			require.ErrorContains(t, err, test.says)
			require.ErrorIs(t, err, ErrAuth)
			require.NotContains(t, err.Error(), "hunter2")
		})
	}
}

func TestDatabaseAdvice(t *testing.T) {
	t.Parallel()
	srv, node := redistest.Start(t), redistest.Start(t, redistest.WithConfig("databases", "2"))
	const advice = "check DB (REDIS_DB) or the path of the URL (ERR DB index is out of range)"
	for name, test := range map[string]struct {
		cfg  config.Config
		says string
	}{
		"field": {config.Config{URL: "redis://" + srv.Addr(), DB: 99}, srv.Addr() + ": " + advice},
		"URL":   {config.Config{URL: "redis://" + srv.Addr() + "/99"}, srv.Addr() + ": " + advice},
		"lock node": {
			config.Config{URL: "redis://" + srv.Addr() + "/3", LockNodes: []string{node.Addr()}},
			"lock node " + node.Addr() + ": " + advice,
		},
		"node by URL": {
			with(srv, "redis://"+node.Addr()+"/3"), "check the path of its URL in LockNodes (REDIS_LOCK_NODES) (ERR DB index",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := diagnosis(t, test.cfg)
			require.ErrorContains(t, err, test.says)
			require.ErrorIs(t, err, ErrRefused)
		})
	}
}

func TestTLSAdvice(t *testing.T) {
	t.Parallel()
	plain, secure := redistest.Start(t), redistest.Start(t, redistest.WithTLS())
	url := "rediss://" + secure.Addr()
	const other = "other.example" // leads to secure, by the Dialer below
	custom := secure.TLSConfig()
	custom.RootCAs = nil
	renamed := secure.TLSConfig()
	renamed.ServerName = other
	const authority, name = "set TLSCAFile (REDIS_TLS_CA_FILE) (", "set TLSServerName (REDIS_TLS_SERVER_NAME) to a name of the certificate ("
	for what, test := range map[string]struct {
		cfg  config.Config
		says string
	}{
		"authority":            {config.Config{URL: url}, authority},
		"authority, Cluster":   {config.Config{Cluster: true, Addrs: []string{secure.Addr()}, TLSEnabled: true}, authority},
		"authority, lock node": {with(plain, url), authority},
		"authority, own TLS":   {config.Config{URL: url, TLSConfig: custom}, "set RootCAs of TLSConfig ("},
		"name":                 {config.Config{URL: url, TLSCAFile: secure.CAFile(), TLSServerName: other}, name},
		"name, own TLS": {
			config.Config{URL: url, TLSConfig: renamed}, "set ServerName of TLSConfig to a name of the certificate (",
		},
		"name of a node by URL": {
			config.Config{URL: plain.URL(), TLSCAFile: secure.CAFile(), LockNodes: []string{"rediss://" + other}},
			"use a name of the certificate as host of its URL in LockNodes (REDIS_LOCK_NODES) (",
		},
		"name of a node by host": {
			config.Config{URL: secure.URL(), TLSCAFile: secure.CAFile(), LockNodes: []string{other + ":1"}}, name,
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			test.cfg.Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
				if strings.HasPrefix(addr, other) {
					addr = secure.Addr()
				}
				return new(net.Dialer).DialContext(ctx, network, addr)
			}
			err := diagnosis(t, test.cfg)
			require.ErrorContains(t, err, test.says)
			require.ErrorIs(t, err, ErrTLS)
		})
	}
}

// The first check says what is wrong with the client certificate, although the server's words
// may be lost when it closes the connection.
func TestClientCertificateAdvice(t *testing.T) {
	t.Parallel()
	demanding := []redistest.Option{redistest.WithTLS(), redistest.WithConfig("tls-auth-clients", "yes")}
	strict := redistest.Start(t, demanding...)
	old := redistest.Start(t, append(demanding, redistest.WithConfig("tls-protocols", "TLSv1.2"))...)
	stranger := redistest.Start(t, redistest.WithTLS()) // of another authority
	url, ca := "rediss://"+strict.Addr(), strict.CAFile()
	const files = "TLSCertFile and TLSKeyFile (REDIS_TLS_CERT_FILE and REDIS_TLS_KEY_FILE) ("
	none := strict.TLSConfig()
	none.Certificates = nil
	foreign := strict.TLSConfig()
	foreign.Certificates = stranger.TLSConfig().Certificates
	for name, test := range map[string]struct {
		cfg  config.Config
		says string
	}{
		"none":          {config.Config{URL: url, TLSCAFile: ca}, "the server wants a client certificate: set " + files},
		"none, own TLS": {config.Config{URL: url, TLSConfig: none}, "the server wants a client certificate: set Certificates of TLSConfig ("},
		"none, TLS 1.2": {
			config.Config{URL: "rediss://" + old.Addr(), TLSCAFile: old.CAFile()}, "the server may want a client certificate: set " + files,
		},
		"foreign": {
			config.Config{URL: url, TLSCAFile: ca, TLSCertFile: stranger.CertFile(), TLSKeyFile: stranger.KeyFile()},
			"the server refuses the client certificate: check " + files,
		},
		"foreign, own TLS": {
			config.Config{URL: url, TLSConfig: foreign}, "the server refuses the client certificate: check Certificates of TLSConfig (",
		},
		"foreign, TLS 1.2": {
			config.Config{URL: "rediss://" + old.Addr(), TLSCAFile: old.CAFile(), TLSCertFile: stranger.CertFile(), TLSKeyFile: stranger.KeyFile()},
			"the server refuses the client certificate: check " + files,
		},
		"none, lock node": {
			config.Config{URL: stranger.URL(), TLSSkipVerify: true, LockNodes: []string{url}},
			"the server wants a client certificate: set " + files,
		},
		"none, Cluster": {
			config.Config{Cluster: true, Addrs: []string{strict.Addr()}, TLSEnabled: true, TLSCAFile: ca},
			"the server wants a client certificate: set " + files,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test.cfg.PingTimeout = patience
			for range 5 {
				err := diagnosis(t, test.cfg)
				require.ErrorContains(t, err, test.says)
				require.ErrorIs(t, err, ErrTLS)
			}
		})
	}
}

// A server that asks for a client certificate may leave it to the end to say that there is none.
func TestClientCertificateThatIsMissed(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t, redistest.WithTLS())
	pair, err := tls.LoadX509KeyPair(srv.CertFile(), srv.KeyFile())
	require.NoError(t, err)
	for name, version := range map[string]uint16{"1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := listen(t, func(conn net.Conn) {
				_ = tls.Server(conn, &tls.Config{
					Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequestClientCert, MinVersion: version, MaxVersion: version,
					VerifyConnection: func(tls.ConnectionState) error { return errors.New("none") }, // "bad certificate" to the client
				}).Handshake()
				_, _ = io.Copy(io.Discard, conn) // the alert would be lost to a reset
			})
			err := diagnosis(t, config.Config{URL: "rediss://" + l.address(), TLSCAFile: srv.CAFile()})
			require.ErrorIs(t, err, ErrTLS)
			require.ErrorContains(t, err, "bad certificate")
			require.ErrorContains(t, err, "the server may want a client certificate: set TLSCertFile and TLSKeyFile (")
		})
	}
}

// Advice names the variables that the instance reads.
func TestAdviceHasThePrefix(t *testing.T) { // sets the environment, so not in parallel
	plain, locked, secure := redistest.Start(t), redistest.Start(t, redistest.WithPassword("pw")), redistest.Start(t, redistest.WithTLS())
	sentinels := redistest.StartSentinel(t)
	other := redistest.Start(t)
	for says, variables := range map[string]map[string]string{
		"set Password (APP_REDIS_PASSWORD)":                                {"URL": "redis://" + locked.Addr()},
		"check DB (APP_REDIS_DB)":                                          {"URL": "redis://" + plain.Addr(), "DB": "99"},
		"set TLSCAFile (APP_REDIS_TLS_CA_FILE)":                            {"URL": "rediss://" + secure.Addr()},
		"use rediss:// or APP_REDIS_TLS=true":                              {"URL": "redis://" + secure.Addr()},
		"MasterName and Addrs (APP_REDIS_MASTER_NAME and APP_REDIS_ADDRS)": {"URL": "redis://" + sentinels.Addrs()[0]},
		"do not set Cluster (APP_REDIS_CLUSTER)":                           {"CLUSTER": "true", "ADDRS": plain.Addr()},
		"LockNodes (APP_REDIS_LOCK_NODES) are the Redis servers":           {"URL": plain.URL(), "LOCK_NODES": sentinels.Addrs()[0]},
		"LockNodes (APP_REDIS_LOCK_NODES) are independent": {
			"URL": plain.URL(), "LOCK_NODES": other.Addr() + "," + strings.Replace(other.Addr(), "127.0.0.1", "localhost", 1),
		},
		"its URL in LockNodes (APP_REDIS_LOCK_NODES)": {"URL": plain.URL(), "LOCK_NODES": "redis://" + locked.Addr()},
	} {
		t.Run(says, func(t *testing.T) {
			for name, value := range variables {
				t.Setenv("APP_REDIS_"+name, value)
			}
			cfg, err := config.Load(t.Context(), "APP_")
			require.NoError(t, err)
			cfg.PingTimeout = patience
			err = diagnosis(t, *cfg)
			require.ErrorContains(t, err, says)
			require.NotContains(t, strings.ReplaceAll(err.Error(), "APP_REDIS_", ""), "REDIS_")
		})
	}
}

// Where in the probe's script a refusal arose says nothing to anybody else.
func TestErrorsOfTheProbeAreShort(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t, redistest.WithConfig("maxmemory", "1"))
	scarce := redistest.Start(t, redistest.WithConfig("min-replicas-to-write", "1"))
	replica := redistest.Start(t)
	require.NoError(t, replica.Client(t).ReplicaOf(t.Context(), srv.Host(), srv.Port()).Err())
	limited := redistest.Start(t)
	require.NoError(t, limited.Client(t).Do(t.Context(), "acl", "setuser", "default", "-set").Err())
	for name, test := range map[string]struct {
		srv   *redistest.Server
		kind  error
		known func(error) bool
	}{
		"memory":      {srv, ErrOutOfMemory, redis.IsOOMError},
		"replicas":    {scarce, ErrNoReplicas, redis.IsNoReplicasError},
		"replica":     {replica, ErrReadOnly, redis.IsReadOnlyError},
		"permissions": {limited, ErrRefused, func(error) bool { return true }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := diagnosis(t, config.Config{URL: test.srv.URL()})
			require.ErrorIs(t, err, test.kind)
			require.True(t, test.known(err), "it is still what the server said")
			var reply redis.Error
			require.ErrorAs(t, err, &reply)
			require.NotContains(t, err.Error(), "script: ")
			require.NotContains(t, err.Error(), "@user_script")
		})
	}
}
