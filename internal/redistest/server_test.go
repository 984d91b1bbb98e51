package redistest

import (
	"context"
	"crypto/tls"
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// within returns a context for one step of a test.
func within(t *testing.T, limit time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	t.Cleanup(cancel)
	return ctx
}

func TestStart(t *testing.T) {
	t.Parallel()
	server := Start(t)
	ctx := within(t, 10*time.Second)

	require.Equal(t, net.JoinHostPort(server.Host(), server.Port()), server.Addr())
	require.True(t, server.Running())
	client := server.Client(t)
	require.NoError(t, client.Set(ctx, "k", "v", 0).Err())

	parsed, err := redis.ParseURL(server.URL())
	require.NoError(t, err)
	second := redis.NewClient(parsed)
	t.Cleanup(func() { _ = second.Close() })
	require.Equal(t, "v", second.Get(ctx, "k").Val())
	require.Equal(t, map[string]string{"save": ""}, client.ConfigGet(ctx, "save").Val())
	require.Equal(t, map[string]string{"appendonly": "no"}, client.ConfigGet(ctx, "appendonly").Val())
}

func TestStartN(t *testing.T) {
	t.Parallel()
	servers := StartN(t, 3)
	ctx := within(t, 10*time.Second)
	for i, server := range servers {
		client := server.Client(t)
		require.Zero(t, client.Exists(ctx, "k").Val(), "servers are independent")
		require.NoError(t, client.Set(ctx, "k", i, 0).Err())
	}
}

func TestWithPassword(t *testing.T) {
	t.Parallel()
	server := Start(t, WithPassword(`p"w\ 1`))
	ctx := within(t, 10*time.Second)
	require.NoError(t, server.Client(t).Ping(ctx).Err())

	opts := server.Options()
	opts.Password = ""
	bare := redis.NewClient(opts)
	t.Cleanup(func() { _ = bare.Close() })
	require.ErrorContains(t, bare.Ping(ctx).Err(), "NOAUTH")

	parsed, err := redis.ParseURL(server.URL())
	require.NoError(t, err)
	require.Equal(t, `p"w\ 1`, parsed.Password)
}

func TestWithUser(t *testing.T) {
	t.Parallel()
	server := Start(t, WithUser("worker", "secret"))
	ctx := within(t, 10*time.Second)
	client := server.Client(t)
	require.Equal(t, "worker", client.Do(ctx, "ACL", "WHOAMI").Val())

	opts := server.Options()
	opts.Username, opts.Password = "", ""
	bare := redis.NewClient(opts)
	t.Cleanup(func() { _ = bare.Close() })
	require.Error(t, bare.Ping(ctx).Err(), "the default user is off")
}

func TestWithConfigOverrides(t *testing.T) {
	t.Parallel()
	server := Start(t, WithConfig("maxmemory", "50mb"), WithConfig("appendonly", "yes"), WithConfig("databases", "3"))
	ctx := within(t, 10*time.Second)
	client := server.Client(t)
	require.Equal(t, map[string]string{"maxmemory": strconv.Itoa(50 << 20)}, client.ConfigGet(ctx, "maxmemory").Val())
	require.Equal(t, map[string]string{"appendonly": "yes"}, client.ConfigGet(ctx, "appendonly").Val())
}

func TestWithTLS(t *testing.T) {
	t.Parallel()
	server := Start(t, WithTLS(), WithPassword("secret"))
	ctx := within(t, 10*time.Second)
	require.NoError(t, server.Client(t).Ping(ctx).Err())
	require.FileExists(t, server.CAFile())

	pair, err := tls.LoadX509KeyPair(server.CertFile(), server.KeyFile())
	require.NoError(t, err)
	require.NotEmpty(t, pair.Certificate)

	opts := server.Options()
	opts.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	distrustful := redis.NewClient(opts)
	t.Cleanup(func() { _ = distrustful.Close() })
	require.ErrorContains(t, distrustful.Ping(ctx).Err(), "certificate")

	opts = server.Options()
	opts.TLSConfig = nil
	plain := redis.NewClient(opts)
	t.Cleanup(func() { _ = plain.Close() })
	require.Error(t, plain.Ping(ctx).Err(), "TLS only")
}

func TestClientCertificateCanBeDemanded(t *testing.T) {
	t.Parallel()
	server := Start(t, WithTLS(), WithConfig("tls-auth-clients", "yes"))
	ctx := within(t, 10*time.Second)
	require.NoError(t, server.Client(t).Ping(ctx).Err())

	opts := server.Options()
	opts.TLSConfig.Certificates = nil
	anonymous := redis.NewClient(opts)
	t.Cleanup(func() { _ = anonymous.Close() })
	require.Error(t, anonymous.Ping(ctx).Err())
}

func TestWithoutTLSThereAreNoFiles(t *testing.T) {
	t.Parallel()
	server := &Server{}
	require.Nil(t, server.TLSConfig())
	require.Empty(t, server.CAFile()+server.CertFile()+server.KeyFile())
}

func TestAnotherPortIsChosenWhenOneIsTaken(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = taken.Close() })

	// The server's own configuration comes last, so that this one wins over
	// the port that has been reserved: the bind fails, as in a lost race.
	server := newServer(t, collect(nil), nil)
	server.binary, err = findBinary()
	require.NoError(t, err)
	_, number, err := net.SplitHostPort(taken.Addr().String())
	require.NoError(t, err)
	server.specific = []string{"port " + number}
	t.Cleanup(server.close)
	require.ErrorIs(t, server.launch(), errPortTaken)

	server.specific = nil
	require.NoError(t, server.launch())
	require.NoError(t, server.Client(t).Ping(within(t, 10*time.Second)).Err())
}

func TestPortsAreNotSharedBetweenHarnesses(t *testing.T) {
	t.Parallel()
	reserved, err := reservePort()
	require.NoError(t, err)
	t.Cleanup(reserved.release)
	// Nobody listens on the port itself, and yet nobody can reserve it.
	_, err = net.Listen("tcp", address(reserved.number+portCount))
	require.Error(t, err)
}
