package client

import (
	"context"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
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
		"UNSUBSCRIBE":   {rules: "-unsubscribe", says: "user app may not run UNSUBSCRIBE: NOPERM"},
		"PUNSUBSCRIBE":  {rules: "-punsubscribe", says: "user app may not run PUNSUBSCRIBE: NOPERM"},
		"PING":          {rules: "-ping", says: "user app may not run PING: NOPERM"},
		"PING, RESP2":   {rules: "-ping", query: "?protocol=2", says: "user app may not run PING: NOPERM"},
		"streams":       {rules: "-@stream", says: "user app may not run XADD: "},
		"TIME":          {rules: "-time", says: "user app may not run TIME: "},
		"INCR":          {rules: "-incr", says: "user app may not run INCR: "},
		"PEXPIRE":       {rules: "-pexpire", says: "user app may not run PEXPIRE: "},
		"GET":           {rules: "-get", says: "user app may not run GET: "},
		"DEL":           {rules: "-del", says: "user app may not run DEL: "},
		"sorted sets":   {rules: "-@sortedset", says: "user app may not run ZADD: "},
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
			user := "app" + strings.NewReplacer(" ", "", ",", "").Replace(name)
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
	const check = "+eval +evalsha +get +set +exists +del +pttl +pexpire +incr +time +zcard +zpopmin " +
		"+zadd +zrem +zrange +zrank +xadd +xdel +xtrim +xlen +xrange +xrevrange +hincrby +hget +hmget +hset +hsetnx +multi +exec +publish +subscribe +psubscribe +unsubscribe +punsubscribe +ping &cache:*"
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
	for _, command := range []string{"incr", "eval"} {
		require.Equal(t, before[command], after[command], command)
	}
	require.Equal(t, before["evalsha"]+1, after["evalsha"])
	require.Zero(t, srv.Client(t).DBSize(t.Context()).Val())
	require.Zero(t, node.Client(t).DBSize(t.Context()).Val())

	require.NoError(t, srv.Client(t).ScriptFlush(t.Context()).Err())
	require.NoError(t, r.HealthCheck(t.Context()), "the script is sent to a server that has forgotten it")
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

// What the package comment says that a later check does not notice.
func TestPermissionsTakenAwayLater(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	admin := srv.Client(t)
	for rule, noticed := range map[string]bool{
		"-incr": false, "-eval": false, "-subscribe": false, "-psubscribe": false,
		"-evalsha": true, "-set": true, "-xadd": true, "-publish": true, "-zadd": true, "-time": true, "resetkeys": true,
	} {
		user := "app" + strings.Trim(rule, "-")
		require.NoError(t, admin.Do(t.Context(), "acl", "setuser", user, "on", ">pw", "~*", "&*", "+@all").Err())
		r := ready(t, &config.Config{URL: "redis://" + user + ":pw@" + srv.Addr()})
		require.NoError(t, admin.Do(t.Context(), "acl", "setuser", user, rule).Err())
		require.Equal(t, noticed, r.HealthCheck(t.Context()) != nil, rule)
	}
}
