package client

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/config"
	"github.com/compozy/cache/internal/redistest"
)

func TestAddressOfAnotherKindOfServer(t *testing.T) {
	t.Parallel()
	plain := redistest.Start(t)
	set := redistest.StartSentinel(t)
	cluster := redistest.StartCluster(t, 3)
	node := cluster.Nodes()[0]
	for name, test := range map[string]struct {
		cfg  config.Config
		says string
	}{
		"sentinel":                   {config.Config{URL: "redis://" + set.Addrs()[0]}, "Sentinel; set MasterName and Addrs (REDIS_MASTER_NAME and REDIS_ADDRS)"},
		"sentinel and a database":    {config.Config{URL: "redis://" + set.Addrs()[0] + "/2"}, "REDIS_MASTER_NAME"},
		"sentinel and a client name": {config.Config{URL: "redis://" + set.Addrs()[0], ClientName: "orders"}, "REDIS_MASTER_NAME"},
		"cluster node":               {config.Config{URL: node.URL()}, "node of a Cluster; set Cluster (REDIS_CLUSTER=true)"},
		"cluster node and database":  {config.Config{URL: "redis://" + node.Addr() + "/2"}, "REDIS_CLUSTER=true"},
		"no cluster":                 {config.Config{Cluster: true, Addrs: []string{plain.Addr()}}, "no Cluster; do not set Cluster (REDIS_CLUSTER)"},
		"no sentinel":                {config.Config{MasterName: "m", Addrs: []string{plain.Addr()}}, "no Sentinel; do not set MasterName (REDIS_MASTER_NAME)"},
		"unknown master":             {config.Config{MasterName: "nobody", Addrs: set.Addrs()}, "no master of this name; see MasterName (REDIS_MASTER_NAME)"},
		"sentinel as a lock node":    {config.Config{URL: plain.URL(), LockNodes: []string{set.Addrs()[0]}}, "LockNodes (REDIS_LOCK_NODES) are the Redis servers"},
		"cluster as a lock node":     {config.Config{URL: plain.URL(), LockNodes: []string{node.Addr()}}, "LockNodes (REDIS_LOCK_NODES) are independent"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var said string
			if len(test.cfg.LockNodes) > 0 {
				_, err := NewRedis(within(t, patience), &test.cfg)
				require.ErrorIs(t, err, ErrUnsupported)
				health := open(t, &test.cfg).CheckLockNodes(t.Context())
				require.ErrorIs(t, health, ErrUnsupported)
				said = err.Error()
				require.Contains(t, said, "lock node "+test.cfg.LockNodes[0])
			} else {
				said = refused(t, &test.cfg, ErrUnsupported)
			}
			require.Contains(t, said, test.says)
			require.Contains(t, said, "127.0.0.1:")
		})
	}
}

// One node that serves all slots works for a plain client.
func TestPlainClientOnClusterOfOne(t *testing.T) {
	t.Parallel()
	works(t, ready(t, &config.Config{URL: redistest.StartCluster(t, 1).Nodes()[0].URL()}))
}

func TestTLSMismatch(t *testing.T) {
	t.Parallel()
	plain, secure := redistest.Start(t), redistest.Start(t, redistest.WithTLS())
	strict := redistest.Start(t, redistest.WithTLS(), redistest.WithConfig("tls-auth-clients", "yes"))
	sentinels := redistest.StartSentinel(t)
	trusting := &tls.Config{InsecureSkipVerify: true} //nolint:gosec // it must fail before that matters
	const use, avoid = "the server seems to speak TLS: use rediss:// or REDIS_TLS=true", "the server does not speak TLS"
	// For so long a server without TLS is waited for, which does not answer a handshake.
	brief := func(cfg config.Config) config.Config {
		cfg.PingTimeout = 2 * time.Second
		return cfg
	}
	for name, test := range map[string]struct {
		cfg  config.Config
		says string
	}{
		"plain to TLS":                    {config.Config{URL: "redis://" + secure.Addr()}, use},
		"plain to TLS, RESP2":             {config.Config{URL: "redis://" + secure.Addr() + "?protocol=2"}, use},
		"plain to TLS with a password":    {config.Config{URL: "redis://:hunter2@" + secure.Addr()}, use},
		"plain to TLS with certificates":  {config.Config{URL: "redis://" + strict.Addr()}, use},
		"plain cluster to TLS":            {config.Config{Cluster: true, Addrs: []string{secure.Addr()}}, use},
		"plain to sentinels with TLS":     {config.Config{MasterName: "m", Addrs: []string{secure.Addr()}}, use},
		"TLS to plain":                    {config.Config{URL: "rediss://" + plain.Addr()}, avoid},
		"TLS to plain by field":           {config.Config{Host: plain.Host(), Port: plain.Port(), TLSEnabled: true}, avoid + ": use redis:// without REDIS_TLS"},
		"TLS to plain, nothing verified":  {config.Config{URL: "redis://" + plain.Addr(), TLSConfig: trusting}, avoid + ": use redis:// without TLSConfig"},
		"TLS cluster to plain":            {config.Config{Cluster: true, Addrs: []string{plain.Addr()}, TLSEnabled: true}, avoid},
		"TLS to sentinels without it":     {config.Config{MasterName: "mymaster", Addrs: sentinels.Addrs(), TLSEnabled: true}, avoid},
		"TLS to the address of sentinels": {config.Config{URL: "rediss://" + sentinels.Addrs()[0]}, avoid},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := brief(test.cfg)
			said := refused(t, &cfg, ErrTLS)
			require.Contains(t, said, test.says)
			require.NotContains(t, said, "hunter2")
		})
	}
	for name, node := range map[string]string{
		"the server seems to speak TLS: use a rediss:// URL for it in LockNodes (REDIS_LOCK_NODES)": secure.Addr(),
		avoid + ": use a redis:// URL for it in LockNodes (REDIS_LOCK_NODES)":                       "rediss://" + plain.Addr(),
	} {
		t.Run("lock node: "+name, func(t *testing.T) {
			t.Parallel()
			cfg := brief(config.Config{URL: plain.URL(), LockNodes: []string{node}})
			_, err := NewRedis(within(t, 3*patience), &cfg)
			require.ErrorIs(t, err, ErrTLS)
			require.ErrorContains(t, err, name)
		})
	}
	t.Run("a server that hangs up speaks no TLS", func(t *testing.T) {
		t.Parallel()
		l := listen(t, func(conn net.Conn) { _ = conn.Close() })
		err := open(t, &config.Config{URL: "redis://" + l.address()}).HealthCheck(t.Context())
		require.ErrorIs(t, err, ErrUnreachable)
		require.NotContains(t, err.Error(), "TLS")
	})
}

// A question whether a server speaks TLS takes little of a start's time: the server may be well
// again by then, and not answer what it does not understand. One that was well is not asked.
func TestTLSQuestionIsShort(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	var well atomic.Bool
	var questions atomic.Int64
	l := listen(t, func(conn net.Conn) {
		in := bufio.NewReader(conn)
		switch first, err := in.Peek(1); {
		case err != nil:
		case first[0] == 0x16: // a handshake
			questions.Add(1)
			well.Store(true)
			_, _ = io.Copy(io.Discard, in) // and no answer
		case well.Load():
			behind, err := net.Dial("tcp", srv.Addr())
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(behind, in)
				_ = behind.Close()
			}()
			_, _ = io.Copy(conn, behind)
		}
	})
	r := open(t, &config.Config{URL: "redis://" + l.address(), PingTimeout: time.Hour, MaxRetries: -1})
	require.NoError(t, r.WaitReady(within(t, patience)))
	require.Positive(t, questions.Swap(0))
	well.Store(false)
	srv.Kill()
	require.ErrorIs(t, r.HealthCheck(t.Context()), ErrUnreachable)
	require.Zero(t, questions.Load())
}

// relabel answers INFO server with lines of the test's own and passes everything else
// on to a real server, through a client of its own.
func relabel(t *testing.T, info string) *listener {
	t.Helper()
	behind := redistest.Start(t).Client(t)
	return fakeServer(t, func(args []string) string {
		if strings.EqualFold(args[0], "info") && len(args) > 1 && args[1] == "server" {
			return bulk(info)
		}
		switch strings.ToLower(args[0]) { // the client sends commands on several connections
		case "multi":
			return "+OK\r\n"
		case "exec":
			return "*0\r\n"
		}
		passed := make([]any, len(args))
		for i, arg := range args {
			passed[i] = arg
		}
		reply, err := behind.Do(context.Background(), passed...).Result()
		if err != nil {
			return "-" + err.Error() + "\r\n"
		}
		return bulk(fmt.Sprint(reply))
	})
}

func TestServerThatIsTooOld(t *testing.T) {
	t.Parallel()
	for info, says := range map[string]string{
		"redis_version:6.2.14": "it is Redis 6.2.14, and Redis 7.0 or Valkey 8 is needed at least",
		"redis_version:6.3.4":  "it is Redis 6.3.4", // KeyDB
		"redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:7.2.8": "it is Valkey 7.2.8, and Redis 7.0 or Valkey 8 is needed at least",
	} {
		said := refused(t, &config.Config{URL: "redis://" + relabel(t, info).address()}, ErrUnsupported)
		require.Contains(t, said, says)
	}
	for info, warning := range map[string]string{
		"redis_version:7.0.0": "",
		"redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:8.0.1": "",
		"redis_version:7.4.0\r\ndragonfly_version:df-v1.25.0":               "it is dragonfly df-v1.25.0, with which this module was not tested",
		"redis_version:6.0.0\r\nserver_name:somedb":                         "it is somedb 6.0.0, with which this module was not tested",
		"uptime_in_seconds:1":    "its version is unknown, as INFO does not say it",
		"redis_version:unstable": "it is Redis unstable, with which this module was not tested",
		"# Server\r\nredis_version:8.2.1\r\nredis_mode:standalone\r\nos:any": "",
	} {
		r := ready(t, &config.Config{URL: "redis://" + relabel(t, info).address()})
		if warning == "" {
			require.Empty(t, r.Warnings(), info)
			continue
		}
		require.Len(t, r.Warnings(), 1, info)
		require.Contains(t, r.Warnings()[0], warning)
	}
}

func TestServerVersion(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		info, product, version string
		oldest                 int
		outdated               bool
	}{
		{"", "", "", 0, false},
		{"redis_version:7.0.15", "Redis", "7.0.15", 7, false},
		{"redis_version:7", "Redis", "7", 7, false},
		{"redis_version:10.0.0", "Redis", "10.0.0", 7, false},
		{"redis_version:255.255.255", "Redis", "255.255.255", 7, false},
		{"redis_version:6.2.7", "Redis", "6.2.7", 7, true},
		{"redis_version:5.0", "Redis", "5.0", 7, true},
		{"redis_version:7.2.4\r\nserver_name:redis", "Redis", "7.2.4", 7, false},
		{"redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:8.1.0", "Valkey", "8.1.0", 8, false},
		{"redis_version:7.2.4\r\nvalkey_version:7.2.5", "Valkey", "7.2.5", 8, true},
		{"redis_version:7.4.3\r\ngarnet_version:1.0.60", "garnet", "1.0.60", 0, false},
		{"redis_version:4.0.0\r\nkvrocks_version:2.11", "kvrocks", "2.11", 0, false},
		{"redis_version:-1.0", "Redis", "-1.0", 0, false},
		{"redis_version:.", "Redis", ".", 0, false},
	} {
		product, version, oldest := serverVersion(test.info)
		require.Equal(t, test.product, product, test.info)
		require.Equal(t, test.version, version, test.info)
		require.Equal(t, test.oldest, oldest, test.info)
		require.Equal(t, test.outdated, adviceForVersion(test.info) != "", test.info)
	}
}
