package faultproxy

import (
	"bufio"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
)

// testLimit ends what should have happened long ago.
const testLimit = 10 * time.Second

// echoServer sends back what it gets, on every connection, and hands the
// server's ends of the connections to the test.
func echoServer(t *testing.T) (addr string, conns <-chan net.Conn) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	accepted := make(chan net.Conn, 16)
	var tasks sync.WaitGroup
	tasks.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			accepted <- conn
			tasks.Go(func() {
				_, _ = io.Copy(conn, conn)
				_ = conn.Close()
			})
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		tasks.Wait() // ends with the proxy's connections
	})
	return listener.Addr().String(), accepted
}

// connect opens a connection that fails the test instead of blocking it.
func connect(t *testing.T, addr string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	require.NoError(t, conn.SetDeadline(time.Now().Add(testLimit)))
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// exchange sends a line and returns the line that comes back.
func exchange(conn net.Conn, line string) (string, error) {
	if _, err := io.WriteString(conn, line+"\n"); err != nil {
		return "", err
	}
	reply, err := bufio.NewReader(conn).ReadString('\n')
	return strings.TrimSuffix(reply, "\n"), err
}

// requireEcho makes sure that a connection works.
func requireEcho(t *testing.T, conn net.Conn, line string) {
	t.Helper()
	reply, err := exchange(conn, line)
	require.NoError(t, err)
	require.Equal(t, line, reply)
}

// requireNoService makes sure that a new connection is of no use, whether it
// breaks while it is made or right after that.
func requireNoService(t *testing.T, proxy *Proxy) {
	t.Helper()
	conn, err := net.Dial("tcp", proxy.Addr())
	if err != nil {
		return
	}
	defer func() { _ = conn.Close() }()
	require.NoError(t, conn.SetDeadline(time.Now().Add(testLimit)))
	_, err = exchange(conn, "hello?")
	require.Error(t, err)
	var timeout net.Error
	require.False(t, errors.As(err, &timeout) && timeout.Timeout(), "%v", err)
}

// requireSilence makes sure that nothing arrives for a moment while the
// connection stays open.
func requireSilence(t *testing.T, conn net.Conn) {
	t.Helper()
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(100*time.Millisecond)))
	n, err := conn.Read(make([]byte, 1))
	require.Zero(t, n)
	var timeout net.Error
	require.ErrorAs(t, err, &timeout)
	require.True(t, timeout.Timeout(), "%v", err)
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(testLimit)))
}

// client returns a go-redis client behind the proxy, connected already.
func client(t *testing.T, server *redistest.Server, proxy *Proxy, retries int) *redis.Client {
	t.Helper()
	opts := server.Options()
	opts.Addr = proxy.Addr()
	opts.MaxRetries = retries
	c := redis.NewClient(opts)
	t.Cleanup(func() { _ = c.Close() })
	require.NoError(t, c.Ping(t.Context()).Err())
	return c
}

// scope is a TB whose cleanups the test runs when it likes.
type scope struct {
	*testing.T
	cleanups []func()
}

func (s *scope) Cleanup(f func()) { s.cleanups = append(s.cleanups, f) }
