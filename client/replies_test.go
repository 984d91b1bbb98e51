package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/compozy/cache/config"
	"github.com/compozy/cache/internal/redistest"
)

const quotedPassword = "s3cretPW"

// silent fails the test if what shows the password, in whatever case or form.
func silent(t *testing.T, what any) {
	t.Helper()
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
		require.NotContains(t, strings.ToLower(fmt.Sprintf(verb, what)), strings.ToLower(quotedPassword))
	}
}

// keepsQuiet expects that nothing shows the password of cfg, which the server does not
// take and quotes.
func keepsQuiet(t *testing.T, cfg *config.Config) {
	t.Helper()
	cfg.MaxRetries, cfg.PingTimeout = -1, time.Second
	_, err := NewRedis(within(t, patience), cfg)
	require.Error(t, err)
	silent(t, err)
	keepsQuietInUse(t, cfg)
}

// keepsQuietInUse is the same without a start, which waits for what may pass.
func keepsQuietInUse(t *testing.T, cfg *config.Config) {
	t.Helper()
	cfg.MaxRetries, cfg.PingTimeout = -1, time.Second
	core, logs := observer.New(zapcore.DebugLevel)
	r := open(t, cfg, WithLogger(zap.New(core)))
	ctx := within(t, patience)
	err := r.Get(ctx, "k").Err()
	require.Error(t, err)
	silent(t, err)
	silent(t, r.HealthCheck(ctx))
	pipe := r.Pipeline()
	first := pipe.Get(ctx, "k")
	_, err = pipe.Exec(ctx)
	require.Error(t, err)
	silent(t, err)
	silent(t, first.Err())
	tx := r.TxPipeline()
	tx.Get(ctx, "k")
	_, err = tx.Exec(ctx)
	require.Error(t, err)
	silent(t, err)
	for _, sub := range []*redis.PubSub{r.Subscribe(ctx, "c"), r.PSubscribe(ctx, "c*"), r.SSubscribe(ctx, "c")} {
		_, err = sub.Receive(ctx)
		require.Error(t, err)
		silent(t, err)
		require.NoError(t, sub.Close())
	}
	silent(t, logs.All())
}

// renamed are the settings of a server that does not know commands.
func renamed(commands ...string) []redistest.Option {
	var options []redistest.Option
	for _, command := range commands {
		options = append(options, redistest.WithConfig("rename-command", command+` ""`))
	}
	return options
}

func TestQuotedCredentials(t *testing.T) {
	t.Parallel()
	without := redistest.Start(t, renamed("HELLO", "AUTH")...)
	set := redistest.StartCluster(t, 3, renamed("HELLO", "AUTH")...)
	for name, cfg := range map[string]*config.Config{
		"user and password": {URL: "redis://app:" + quotedPassword + "@" + without.Addr()},
		"password":          {URL: "redis://:" + quotedPassword + "@" + without.Addr()},
		"long password":     {URL: "redis://app:" + quotedPassword + strings.Repeat("x", 300) + "@" + without.Addr()},
		"protocol 2":        {URL: "redis://app:" + quotedPassword + "@" + without.Addr(), Protocol: 2},
		"client name":       {URL: "redis://app:" + quotedPassword + "@" + without.Addr(), ClientName: "orders"},
		"Cluster":           {Cluster: true, Addrs: set.Addrs(), Username: "app", Password: quotedPassword},
		"no HELLO and wrong": {
			URL: "redis://app:" + quotedPassword + "@" + redistest.Start(t, renamed("HELLO")...).Addr(),
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			keepsQuiet(t, cfg)
		})
	}
	t.Run("said so", func(t *testing.T) {
		t.Parallel()
		said := refused(t, &config.Config{URL: "redis://app:" + quotedPassword + "@" + without.Addr()}, ErrRefused)
		require.Contains(t, said, "the server does not know AUTH, which is needed")
	})
	t.Run("without HELLO", func(t *testing.T) {
		t.Parallel()
		srv := redistest.Start(t, append(renamed("HELLO"), redistest.WithConfig("user", "app on >"+quotedPassword+" ~* &* +@all"))...)
		works(t, ready(t, &config.Config{URL: "redis://app:" + quotedPassword + "@" + srv.Addr()}))
		said := refused(t, &config.Config{URL: "redis://app:wrong" + quotedPassword + "@" + srv.Addr()}, ErrAuth)
		require.Contains(t, said, "WRONGPASS")
		silent(t, said)
	})
}

// Commands of the application that carry credentials are no exception.
func TestQuotedCredentialsInPipeline(t *testing.T) {
	t.Parallel()
	r := ready(t, &config.Config{URL: redistest.Start(t, renamed("AUTH")...).URL()})
	cmds, err := r.Pipelined(t.Context(), func(p redis.Pipeliner) error {
		p.Set(t.Context(), "k", "v", 0)
		p.Do(t.Context(), "AUTH", "app", quotedPassword)
		return nil
	})
	require.Error(t, err)
	silent(t, err)
	require.NoError(t, cmds[0].Err())
	require.ErrorContains(t, cmds[1].Err(), "unknown command 'auth'")
	silent(t, cmds[1].Err())
}

// Proxies have wordings of their own.
func TestQuotedCredentialsOfProxies(t *testing.T) {
	t.Parallel()
	for name, wording := range map[string]func(args []string) string{
		"capitals": func(a []string) string { return "NOPERM user may not run " + strings.ToUpper(strings.Join(a, " ")) },
		"backquote": func(a []string) string {
			return "ERR unknown command `" + a[0] + "`, with args: `" + strings.Join(a[1:], "` `")
		},
		"no code":   func(a []string) string { return strings.Join(a, "/") },
		"first":     func(a []string) string { return a[len(a)-1] + " is not accepted" },
		"escaped":   func(a []string) string { return fmt.Sprintf("ERR bad %q", a) },
		"wrong":     func(a []string) string { return "WRONGPASS " + strings.Join(a[1:], ":") + " is wrong" },
		"beginning": func(a []string) string { return "ERR " + a[0] + " " + a[len(a)-1][:len(quotedPassword)] + "..." },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			addr := listen(t, answering(func(args []string) string {
				if strings.EqualFold(args[0], "hello") || strings.EqualFold(args[0], "auth") {
					return "-" + wording(args) + "\r\n"
				}
				return "-NOAUTH Authentication required.\r\n"
			})).address()
			cfg := &config.Config{URL: "redis://app:" + quotedPassword + "xyz@" + addr}
			keepsQuiet(t, cfg)
			if name == "wrong" {
				require.ErrorIs(t, open(t, cfg).HealthCheck(t.Context()), ErrAuth)
			}
		})
	}
	t.Run("sentinel", func(t *testing.T) {
		t.Parallel()
		addr := listen(t, answering(func(args []string) string { return "-ERR bad " + strings.Join(args, " ") + "\r\n" })).address()
		dead := listen(t, nil)
		require.NoError(t, dead.Close())
		for _, addrs := range [][]string{{addr}, {addr, addr}, {dead.address(), addr}} {
			cfg := &config.Config{MasterName: "m", Addrs: addrs, SentinelUsername: "app", SentinelPassword: quotedPassword}
			keepsQuiet(t, cfg)
		}
	})
	t.Run("no sentinel", func(t *testing.T) {
		t.Parallel()
		srv := redistest.Start(t, redistest.WithPassword(quotedPassword))
		said := refused(t, &config.Config{MasterName: "m", Addrs: []string{srv.Addr()}, SentinelPassword: quotedPassword}, ErrUnsupported)
		require.Contains(t, said, "it is no Sentinel")
	})
	t.Run("unknown master", func(t *testing.T) {
		t.Parallel()
		set := redistest.StartSentinel(t, redistest.WithSentinelPassword(quotedPassword))
		said := refused(t, &config.Config{MasterName: "another", Addrs: set.Addrs(), SentinelPassword: quotedPassword}, ErrUnsupported)
		require.Contains(t, said, "know no master of this name")
	})
}

// quoting answers each request with what begins like that, quotes the request, and is no reply,
// from the first request with that name on; before that with an error.
func quoting(t *testing.T, begin, from string) string {
	t.Helper()
	return listen(t, func(conn net.Conn) {
		quotes := false
		answering(func(args []string) string {
			name := strings.ToLower(args[0])
			switch quotes = quotes || name == from; {
			case quotes:
				return begin + "bad request: " + strings.Join(args, " ") + " " + quotedPassword + "\r\n"
			case name == "auth":
				return "+OK\r\n"
			default:
				return "-ERR unknown command\r\n"
			}
		})(conn)
	}).address()
}

// What answers need not be a Redis.
func TestQuotedCredentialsInWhatIsNoReply(t *testing.T) {
	t.Parallel()
	// A push message that cannot be read is not among them: go-redis writes it to stderr.
	for _, begin := range []string{"", "+", ":", "%", "*", "$", "=", "#", "_", "("} {
		for _, from := range []string{"hello", "auth", "select", "client"} {
			if from != "hello" && (begin == "+" || begin == ":") {
				continue // a reply
			}
			t.Run(begin+from, func(t *testing.T) {
				t.Parallel()
				addr := quoting(t, begin, from)
				keepsQuietInUse(t, &config.Config{URL: "redis://:" + quotedPassword + "@" + addr + "/1?client_name=orders"})
			})
		}
	}
	for name, set := range map[string]func(cfg *config.Config, addr string){
		"Cluster": func(cfg *config.Config, addr string) {
			cfg.Cluster, cfg.Addrs, cfg.Password = true, []string{addr}, quotedPassword
		},
		"Sentinel": func(cfg *config.Config, addr string) {
			cfg.MasterName, cfg.Addrs, cfg.SentinelPassword = "m", []string{addr}, quotedPassword
		},
	} {
		for _, from := range []string{"hello", "auth"} {
			t.Run(name+" "+from, func(t *testing.T) {
				t.Parallel()
				cfg := &config.Config{}
				set(cfg, quoting(t, "", from))
				keepsQuietInUse(t, cfg)
				require.ErrorContains(t, open(t, cfg).Get(within(t, patience), "k").Err(), "no reply of a Redis")
			})
		}
	}
	t.Run("lock node", func(t *testing.T) {
		t.Parallel()
		r := open(t, &config.Config{
			URL: redistest.Start(t).URL(), LockNodes: []string{"redis://:" + quotedPassword + "@" + quoting(t, "", "hello")},
		})
		err := r.CheckLockNodes(within(t, patience))
		require.ErrorContains(t, err, "no reply of a Redis")
		silent(t, err)
		c := redis.NewClient(r.LockNodes()[0].(lockNode).Unwrap().(*redis.Client).Options())
		c.AddHook(r.ConnectionHook())
		silent(t, c.Get(within(t, patience), "k").Err())
		require.NoError(t, c.Close())
	})
	t.Run("in a pipeline", func(t *testing.T) {
		t.Parallel()
		r := open(t, &config.Config{URL: "redis://" + quoting(t, "", "get"), MaxRetries: -1})
		cmds, err := r.Pipelined(t.Context(), func(p redis.Pipeliner) error {
			p.Get(t.Context(), "k")
			p.Do(t.Context(), "AUTH", quotedPassword)
			return nil
		})
		require.Error(t, err)
		silent(t, err)
		silent(t, cmds[0].Err())
		silent(t, cmds[1].Err())
	})
}

// What says nothing of an answer stays as it is.
func TestErrorsOfConnectionsAreNotHidden(t *testing.T) {
	t.Parallel()
	auth := redis.NewCmd(t.Context(), "auth", "p")
	for _, err := range []error{
		io.EOF, context.DeadlineExceeded, context.Canceled, net.ErrClosed, redis.ErrClosed, redis.ErrPoolTimeout,
		&net.OpError{Op: "read", Err: syscall.ECONNRESET}, tls.RecordHeaderError{Msg: "no TLS"},
		dialError{errors.New("the tunnel is closed")}, dialError{fmt.Errorf("%s: %w", allSentinels, shortReplyError{"ERR x", nil})},
	} {
		require.Equal(t, err, hidesArguments(auth, err))
	}
	require.Equal(t, errUnreadable, hidesArguments(auth, errors.New("redis: can't parse \"x\"")))
	require.Equal(t, errUnreadable, hidesArguments(auth, &strconv.NumError{Func: "Atoi", Num: "x", Err: strconv.ErrSyntax}))
}

// Kinds of errors depend on what stays.
func TestWhatOfAReplyIsHidden(t *testing.T) {
	t.Parallel()
	const hidden = " (the rest of the reply is left out, as it may quote credentials)"
	for reply, want := range map[string]string{
		"ERR secret": "ERR" + hidden, "secret": "ERR" + hidden, "SECRET x": "ERR" + hidden, "NOPERM secret": "NOPERM" + hidden,
		"ERR max number of clients reached": "", "ERR invalid password": "",
		"WRONGPASS invalid username-password pair or user is disabled.": "", "WRONGPASS secret": "WRONGPASS" + hidden,
		"ERR unknown command 'AUTH secret'": "ERR unknown command 'auth', whose arguments are left out",
	} {
		if want == "" {
			want = reply
		}
		for _, args := range [][]any{{"auth", "secret"}, {"AUTH", "u", "secret"}} {
			require.Equal(t, want, hidesArguments(redis.NewCmd(t.Context(), args...), shortReplyError{reply, nil}).Error())
		}
	}
	secret := shortReplyError{"DENIED by protected mode", nil}
	require.Equal(t, secret, hidesArguments(redis.NewCmd(t.Context(), "hello", 3), secret), "there is nothing to hide")
	require.Equal(t, secret, hidesArguments(redis.NewCmd(t.Context(), "get", "k"), secret))
	require.NotEqual(t, secret, hidesArguments(redis.NewCmd(t.Context(), "HELLO", "3", "AUTH", "u", "p"), secret))
	require.Equal(t, redis.Nil, hidesArguments(redis.NewCmd(t.Context(), "auth", "p"), redis.Nil))
	require.NoError(t, hidesArguments(redis.NewCmd(t.Context(), "auth", "p"), nil))
}
