package client

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/compozy/cache/config"
	"github.com/compozy/cache/internal/redistest"
)

// refused expects a start with cfg to end at once, and the health check to agree. It
// returns the text of both.
func refused(t *testing.T, cfg *config.Config, kind error) string {
	t.Helper()
	r, err := NewRedis(within(t, 3*patience), cfg)
	require.Nil(t, r)
	require.ErrorIs(t, err, kind)
	require.NotErrorIs(t, err, context.DeadlineExceeded)
	health := open(t, cfg).HealthCheck(t.Context())
	require.ErrorIs(t, health, kind)
	return err.Error() + "\n" + health.Error()
}

// unfit expects a start with cfg to wait, in vain, and the health check to agree.
func unfit(t *testing.T, cfg *config.Config, kind error) {
	t.Helper()
	r := open(t, cfg)
	require.ErrorIs(t, r.HealthCheck(t.Context()), kind)
	ctx, cancel := context.WithCancel(t.Context())
	got := make(chan error, 1)
	before := counted(r, "eval", "error")
	go func() { got <- r.WaitReady(ctx) }()
	eventually(t, func() bool { return counted(r, "eval", "error") > before+4 }, "it tries again")
	cancel()
	err := <-got
	require.ErrorIs(t, err, kind)
	require.ErrorIs(t, err, context.Canceled)
}

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

func TestMissingPermission(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	admin := srv.Client(t)
	for name, test := range map[string]struct {
		rules string // beyond everything
		query string // of the URL
		says  string
	}{
		"EVAL":          {rules: "-eval", says: "user app may not run EVAL: NOPERM"},
		"EVALSHA":       {rules: "-evalsha", says: "user app may not run EVALSHA: NOPERM"},
		"scripting":     {rules: "-@scripting", says: "user app may not run EVAL: NOPERM"},
		"PUBLISH":       {rules: "-publish", says: "user app may not run PUBLISH: "},
		"SUBSCRIBE":     {rules: "-subscribe", says: "user app may not run SUBSCRIBE: NOPERM"},
		"PSUBSCRIBE":    {rules: "-psubscribe", says: "user app may not run PSUBSCRIBE: NOPERM"},
		"streams":       {rules: "-@stream", says: "user app may not run XADD: "},
		"TIME":          {rules: "-time", says: "user app may not run TIME: "},
		"INCR":          {rules: "-incr", says: "user app may not run INCR: "},
		"APPEND":        {rules: "-append", says: "user app may not run APPEND: "},
		"HSET":          {rules: "-hset", says: "user app may not run HSET: "},
		"PEXPIRE":       {rules: "-pexpire", says: "user app may not run PEXPIRE: "},
		"GET":           {rules: "-get", says: "user app may not run GET: "},
		"DEL":           {rules: "-del", says: "user app may not run DEL: "},
		"sorted sets":   {rules: "-@sortedset", says: "user app may not run ZADD: "},
		"hashes":        {rules: "-@hash", says: "user app may not run HGET: "},
		"no channels":   {rules: "resetchannels", says: `user app may not publish to channels that begin with "cache:": `},
		"write":         {rules: "-@write", says: "user app may not run SET: "},
		"our keys":      {rules: "resetkeys ~orders:*", says: `user app may not read and write keys that begin with "cache:": NOPERM`},
		"reading only":  {rules: "resetkeys %R~*", says: `keys that begin with "cache:"`},
		"SELECT":        {rules: "-select", query: "/2", says: "user app may not run SELECT: NOPERM"},
		"CLIENT":        {rules: "-client", query: "?client_name=orders", says: "user app may not run CLIENT SETNAME: NOPERM"},
		"all but INFO":  {rules: "nocommands +info", says: "user app may not run EVAL: NOPERM"},
		"all but HELLO": {rules: "nocommands +hello", says: "user app may not run EVAL: NOPERM"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			user := "app" + strings.NewReplacer(" ", "").Replace(name)
			args := []any{"acl", "setuser", user, "on", ">hunter2", "~*", "&*", "+@all"}
			for rule := range strings.FieldsSeq(test.rules) {
				args = append(args, rule)
			}
			require.NoError(t, admin.Do(t.Context(), args...).Err())
			said := refused(t, &config.Config{URL: "redis://" + user + ":hunter2@" + srv.Addr() + test.query}, ErrRefused)
			require.Contains(t, said, strings.Replace(test.says, "user app", "user "+user, 1))
			require.NotContains(t, said, "hunter2")
			require.NotContains(t, said, "redis.call", "the source of the script")
		})
	}
	t.Run("enough", func(t *testing.T) {
		t.Parallel()
		require.NoError(t, admin.Do(t.Context(), "acl", "setuser", "modest", "on", ">pw", "~cache:*", "&cache:*", "+@all", "-info").Err())
		core, logs := observer.New(zap.WarnLevel)
		r := ready(t, &config.Config{URL: "redis://modest:pw@" + srv.Addr()}, WithLogger(zap.New(core)))
		require.NoError(t, r.HealthCheck(t.Context()))
		require.Equal(t, 1, logs.Len(), "once")
		require.Contains(t, logs.All()[0].Message, "its version is unknown, as INFO is refused: NOPERM")
		require.Len(t, r.Warnings(), 1)
	})
}

// The permissions that the package comment names are enough, and each is needed.
func TestDocumentedPermissions(t *testing.T) {
	t.Parallel()
	srv, set := redistest.Start(t), redistest.StartCluster(t, 3)
	const check = "+eval +evalsha +get +set +exists +del +pttl +pexpire +incr +append +time +hget +hset +hdel " +
		"+zadd +zrem +zrange +zrank +xadd +xdel +xlen +xrange +xrevrange +publish +subscribe +psubscribe &cache:*"
	for name, test := range map[string]struct {
		cfg   config.Config
		rules string
	}{
		"check":       {config.Config{URL: "redis://" + srv.Addr()}, check},
		"database":    {config.Config{URL: "redis://" + srv.Addr() + "/2"}, check + " +select"},
		"client name": {config.Config{URL: "redis://" + srv.Addr(), ClientName: "orders"}, check + " +client|setname"},
		"Cluster":     {config.Config{Cluster: true, Addrs: set.Addrs()}, check + " +cluster|slots +ssubscribe"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			servers := []*redistest.Server{srv}
			if test.cfg.Cluster {
				servers = set.Nodes()
			}
			// grant makes the user once more, with all commands but the one left out.
			grant := func(out string) config.Config {
				cfg := test.cfg
				cfg.Username, cfg.Password = "app"+strings.ReplaceAll(name, " ", ""), "pw"
				args := []any{"acl", "setuser", cfg.Username, "reset", "resetchannels", "on", ">pw", "~cache:*"}
				for rule := range strings.FieldsSeq(test.rules) {
					if rule != out {
						args = append(args, rule)
					}
				}
				for _, s := range servers {
					require.NoError(t, s.Client(t).Do(t.Context(), args...).Err())
				}
				return cfg
			}
			cfg := grant("")
			ready(t, &cfg)
			for rule := range strings.FieldsSeq(test.rules) {
				cfg := grant(rule)
				require.Error(t, open(t, &cfg).HealthCheck(t.Context()), rule)
			}
		})
	}
}

func TestRenamedCommand(t *testing.T) {
	t.Parallel()
	for command, test := range map[string]struct{ url, says string }{
		"EVAL":       {says: "the server does not know EVAL, which is needed"},
		"EVALSHA":    {says: "the server does not know EVALSHA, which is needed"},
		"SET":        {says: "the server does not know SET, which is needed"},
		"PUBLISH":    {says: "the server does not know PUBLISH, which is needed"},
		"XADD":       {says: "the server does not know XADD, which is needed"},
		"SUBSCRIBE":  {says: "the server does not know SUBSCRIBE, which is needed"},
		"PSUBSCRIBE": {says: "the server does not know PSUBSCRIBE, which is needed"},
		"INCR":       {says: "the server does not know INCR, which is needed"},
		"SELECT":     {url: "/3", says: "the server does not know SELECT, which is needed"},
	} {
		t.Run(command, func(t *testing.T) {
			t.Parallel()
			srv := redistest.Start(t, redistest.WithConfig("rename-command", command+` ""`))
			said := refused(t, &config.Config{URL: "redis://" + srv.Addr() + test.url}, ErrRefused)
			require.Contains(t, said, test.says)
			require.NotContains(t, said, "redis.call", "the source of the script")
		})
	}
}

// The probe leaves nothing behind and writes nothing once it has succeeded. A lock node
// has no events.
func TestProbeLeavesNothing(t *testing.T) {
	t.Parallel()
	srv, node := redistest.Start(t), redistest.Start(t, append(renamed("PUBLISH", "XADD"), redistest.WithConfig("notify-keyspace-events", "KA"))...)
	r := ready(t, &config.Config{URL: srv.URL(), LockNodes: []string{node.Addr()}})
	before := srv.Commands(t)
	require.NoError(t, r.HealthCheck(t.Context()))
	after := srv.Commands(t)
	for _, command := range []string{"incr", "append", "hset", "eval"} {
		require.Equal(t, before[command], after[command], command)
	}
	require.Equal(t, before["evalsha"]+1, after["evalsha"])
	require.Zero(t, srv.Client(t).DBSize(t.Context()).Val())
	require.Zero(t, node.Client(t).DBSize(t.Context()).Val())

	require.NoError(t, srv.Client(t).ScriptFlush(t.Context()).Err())
	require.NoError(t, r.HealthCheck(t.Context()), "the script is sent to a server that has forgotten it")
}

func TestServerThatRefusesWritesForNow(t *testing.T) {
	t.Parallel()
	t.Run("too few replicas", func(t *testing.T) {
		t.Parallel()
		srv := redistest.Start(t, redistest.WithConfig("min-replicas-to-write", "1"))
		unfit(t, &config.Config{URL: srv.URL(), MaxRetries: -1}, ErrNoReplicas)
		r := open(t, &config.Config{URL: srv.URL()})
		require.NoError(t, srv.Client(t).ConfigSet(t.Context(), "min-replicas-to-write", "0").Err())
		require.NoError(t, r.WaitReady(within(t, patience)))
	})
	t.Run("replica", func(t *testing.T) {
		t.Parallel()
		master, replica := redistest.Start(t), redistest.Start(t)
		admin := replica.Client(t)
		require.NoError(t, admin.ReplicaOf(t.Context(), master.Host(), master.Port()).Err())
		unfit(t, &config.Config{URL: replica.URL(), MaxRetries: -1}, ErrReadOnly)
		r := open(t, &config.Config{URL: replica.URL()})
		require.NoError(t, admin.ReplicaOf(t.Context(), "no", "one").Err())
		require.NoError(t, r.WaitReady(within(t, patience)))
	})
	t.Run("memory", func(t *testing.T) {
		t.Parallel()
		srv := redistest.Start(t, redistest.WithConfig("maxmemory", "1"))
		unfit(t, &config.Config{URL: srv.URL(), MaxRetries: -1}, ErrOutOfMemory)
	})
	t.Run("a majority of the lock nodes", func(t *testing.T) {
		t.Parallel()
		main, nodes := redistest.Start(t), redistest.StartN(t, 3, redistest.WithConfig("min-replicas-to-write", "1"))
		cfg := &config.Config{URL: main.URL(), LockNodes: []string{nodes[0].Addr(), nodes[1].Addr(), nodes[2].Addr()}}
		r := open(t, cfg)
		require.ErrorIs(t, r.CheckLockNodes(t.Context()), ErrNoReplicas)
		require.NoError(t, r.HealthCheck(t.Context()))
		for _, node := range nodes[:2] {
			require.NoError(t, node.Client(t).ConfigSet(t.Context(), "min-replicas-to-write", "0").Err())
		}
		require.NoError(t, r.WaitReady(within(t, patience)))
	})
	t.Run("one master of a cluster", func(t *testing.T) {
		t.Parallel()
		set := redistest.StartCluster(t, 3)
		r := ready(t, &config.Config{Cluster: true, Addrs: set.Addrs()})
		for _, node := range set.Nodes() {
			admin := node.Client(t)
			require.NoError(t, admin.ConfigSet(t.Context(), "min-replicas-to-write", "1").Err())
			err := r.HealthCheck(t.Context())
			require.ErrorIs(t, err, ErrNoReplicas)
			require.ErrorContains(t, err, node.Addr())
			require.NoError(t, admin.ConfigSet(t.Context(), "min-replicas-to-write", "0").Err())
		}
		require.NoError(t, r.HealthCheck(t.Context()))
	})
}

func TestEvictionIsAWarning(t *testing.T) {
	t.Parallel()
	for _, policy := range []string{"allkeys-lru", "allkeys-random", "volatile-lru", "volatile-ttl"} {
		t.Run(policy, func(t *testing.T) {
			t.Parallel()
			srv := redistest.Start(t, redistest.WithConfig("maxmemory-policy", policy))
			core, logs := observer.New(zap.WarnLevel)
			r := ready(t, &config.Config{URL: srv.URL()}, WithLogger(zap.New(core)))
			require.NoError(t, r.HealthCheck(t.Context()))
			want := srv.Addr() + ": maxmemory-policy " + policy + " may evict locks and events; set maxmemory-policy noeviction"
			require.Equal(t, []string{want}, r.Warnings())
			require.Equal(t, 1, logs.Len(), "once")
			require.Equal(t, "cache: "+want, logs.All()[0].Message)

			require.NoError(t, srv.Client(t).ConfigSet(t.Context(), "maxmemory-policy", "noeviction").Err())
			require.NoError(t, r.HealthCheck(t.Context()))
			require.Empty(t, r.Warnings())
		})
	}
}

func TestWritableReplicaIsAWarning(t *testing.T) {
	t.Parallel()
	master := redistest.Start(t)
	replica := redistest.Start(t, redistest.WithConfig("replica-read-only", "no"))
	require.NoError(t, replica.Client(t).ReplicaOf(t.Context(), master.Host(), master.Port()).Err())
	eventually(t, func() bool {
		return strings.Contains(replica.Client(t).Info(t.Context(), "replication").Val(), "link_status:up")
	}, "it follows")
	r := ready(t, &config.Config{URL: replica.URL()})
	require.Len(t, r.Warnings(), 1)
	require.Contains(t, r.Warnings()[0], replica.Addr()+": it is a replica that accepts writes")
	require.Empty(t, ready(t, &config.Config{URL: master.URL()}).Warnings())
}

func TestOneLockNodeUnderSeveralNames(t *testing.T) {
	t.Parallel()
	nodes := redistest.StartN(t, 3)
	one := nodes[0]
	for _, second := range []string{"localhost:" + one.Port(), "127.0.0.2:" + one.Port()} {
		cfg := &config.Config{URL: one.URL(), LockNodes: []string{one.Addr(), second, nodes[1].Addr(), nodes[2].Addr()}, Dialer: loopback}
		_, err := NewRedis(within(t, patience), cfg)
		require.ErrorIs(t, err, ErrUnsupported, second)
		require.ErrorContains(t, err, "is the same server as lock node "+one.Addr())
		require.ErrorIs(t, open(t, cfg).CheckLockNodes(t.Context()), ErrUnsupported)
	}
	ready(t, &config.Config{URL: one.URL(), LockNodes: []string{one.Addr(), nodes[1].Addr(), nodes[2].Addr()}})
}

// loopback is a dialer for which all names are this machine's.
func loopback(ctx context.Context, network, addr string) (net.Conn, error) {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	return new(net.Dialer).DialContext(ctx, network, net.JoinHostPort("127.0.0.1", port))
}

func TestNilTracerProvider(t *testing.T) {
	t.Parallel()
	for _, tp := range []trace.TracerProvider{nil, (*sdktrace.TracerProvider)(nil)} {
		works(t, ready(t, &config.Config{URL: redistest.Start(t).URL()}, WithTracerProvider(tp)))
	}
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
		"TLS to plain by field":           {config.Config{Host: plain.Host(), Port: plain.Port(), TLSEnabled: true}, avoid},
		"TLS to plain, nothing verified":  {config.Config{URL: "redis://" + plain.Addr(), TLSConfig: trusting}, avoid},
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
	for name, node := range map[string]string{use: secure.Addr(), avoid: "rediss://" + plain.Addr()} {
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

// relabel answers INFO server with lines of the test's own and passes everything else
// on to a real server, through a client of its own.
func relabel(t *testing.T, info string) *listener {
	t.Helper()
	behind := redistest.Start(t).Client(t)
	return fakeServer(t, func(args []string) string {
		if strings.EqualFold(args[0], "info") && len(args) > 1 && args[1] == "server" {
			return bulk(info)
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
		require.Equal(t, test.outdated, outdated(test.info) != "", test.info)
	}
}

func TestKeyTag(t *testing.T) {
	t.Parallel()
	require.Equal(t, 0x31c3%slotCount, hashSlot("123456789"), "the specification's own example")
	for first := 0; first < slotCount; first += 1021 {
		tag := keyTag(first, first)
		require.Equal(t, first, hashSlot(strings.Trim(tag, "{}")))
	}
}

func TestZeroRedis(t *testing.T) {
	t.Parallel()
	for name, r := range map[string]*Redis{"nil": nil, "zero": {}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, call := range []func() error{
				func() error { return r.HealthCheck(t.Context()) },
				func() error { return r.CheckLockNodes(t.Context()) },
				func() error { return r.WaitReady(t.Context()) },
				r.Close, r.Close,
			} {
				require.ErrorIs(t, call(), ErrInvalidArgument)
			}
			r.Open()
			require.Empty(t, r.Addr())
			require.Empty(t, r.Mode())
			require.Nil(t, r.Unwrap())
			require.Nil(t, r.Client())
			require.Nil(t, r.LockNodes())
			require.Nil(t, r.Warnings())
			require.NotPanics(t, func() { _ = r.String() })
			registry := prometheus.NewRegistry()
			require.NoError(t, registry.Register(r.Collector()))
			metrics, err := registry.Gather()
			require.NoError(t, err)
			require.Empty(t, metrics)
		})
	}
}

func TestNilOption(t *testing.T) {
	t.Parallel()
	_, err := New(nil, WithName("a"), nil)
	require.ErrorIs(t, err, ErrInvalidArgument)
}

// An error says so when time ran out, and no more than once.
func TestBecause(t *testing.T) {
	t.Parallel()
	err := because(&Error{Addr: "a:1", Kind: ErrLoading, Err: redis.ErrClosed}, context.DeadlineExceeded)
	require.ErrorIs(t, err, ErrLoading)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Equal(t, err, because(err, context.DeadlineExceeded))
	require.Less(t, firstPause, time.Second)
}

// A check needs one round trip, on one connection of the pool that is open already: a
// distant server needs no longer for it than for a PING. Only the first one opens another
// connection, to find out whether the user may listen.
func TestCheckIsOneRoundTrip(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(*testing.T) *config.Config{
		"one server": func(t *testing.T) *config.Config {
			t.Helper()
			return &config.Config{URL: redistest.Start(t).URL()}
		},
		"one node of a Cluster": func(t *testing.T) *config.Config {
			t.Helper()
			return &config.Config{Cluster: true, Addrs: redistest.StartCluster(t, 1).Addrs()}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var dials, writes atomic.Int64
			cfg := start(t)
			cfg.PoolSize, cfg.MinIdleConns, cfg.MaxIdleConns, cfg.MaxRetries = 1, 1, 1, -1
			cfg.Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
				dials.Add(1)
				conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
				return countedWrites{conn, &writes}, err
			}
			r := ready(t, cfg)
			require.NoError(t, r.HealthCheck(t.Context()))
			was, sent := dials.Load(), writes.Load()
			require.NoError(t, r.HealthCheck(t.Context()))
			require.Equal(t, was, dials.Load(), "no connection is opened")
			want := int64(1)
			if cfg.Cluster {
				want = 2 // it asks for the masters first
			}
			require.Equal(t, want, writes.Load()-sent)
		})
	}
}

// countedWrites counts what is sent at once.
type countedWrites struct {
	net.Conn
	writes *atomic.Int64
}

func (c countedWrites) Write(b []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(b)
}

// Until a check has succeeded it asks whether the user may listen, and says so as soon as
// that is granted.
func TestPermissionToListenIsAwaited(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	admin := srv.Client(t)
	require.NoError(t, admin.Do(t.Context(), "acl", "setuser", "app", "on", ">pw", "~*", "&*", "+@all", "-psubscribe").Err())
	r := open(t, &config.Config{URL: "redis://app:pw@" + srv.Addr()})
	for range 3 {
		err := r.HealthCheck(t.Context())
		require.ErrorIs(t, err, ErrRefused)
		require.ErrorContains(t, err, "user app may not run PSUBSCRIBE")
	}
	require.NoError(t, admin.Do(t.Context(), "acl", "setuser", "app", "+psubscribe").Err())
	require.NoError(t, r.HealthCheck(t.Context()))
	before := srv.Commands(t)
	require.NoError(t, r.HealthCheck(t.Context()))
	require.Equal(t, before["subscribe"], srv.Commands(t)["subscribe"], "no connection for each check")
	eventually(t, func() bool { return admin.PubSubNumPat(t.Context()).Val() == 0 }, "nothing stays subscribed")
}

// A pool whose connections have all died is no reason to fail: new ones work.
func TestCheckReplacesADeadConnection(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	admin := srv.Client(t)
	r := ready(t, &config.Config{URL: srv.URL(), PoolSize: 1, MaxRetries: -1})
	for range 20 {
		require.NoError(t, admin.Do(t.Context(), "client", "kill", "type", "normal", "skipme", "yes").Err())
		require.NoError(t, r.HealthCheck(t.Context()))
	}
}
