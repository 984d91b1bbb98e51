package faultproxy

import (
	"bufio"
	"bytes"
	"crypto/rand"
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

func TestForwards(t *testing.T) {
	t.Parallel()
	addr, _ := echoServer(t)
	proxy := New(t, addr)
	first, second := connect(t, proxy.Addr()), connect(t, proxy.Addr())
	requireEcho(t, first, "one")
	requireEcho(t, second, "two")
	require.Equal(t, 2, proxy.Connections())
	require.Equal(t, 2, proxy.Accepted())

	require.NoError(t, first.Close())
	require.Eventually(t, func() bool { return proxy.Connections() == 1 }, testLimit, time.Millisecond)
	require.Equal(t, 2, proxy.Accepted())
	requireEcho(t, second, "still there")
}

func TestForwardsMoreThanMayBeUnderWay(t *testing.T) {
	t.Parallel()
	addr, _ := echoServer(t)
	proxy := New(t, addr)
	proxy.SetLatency(time.Millisecond)
	conn := connect(t, proxy.Addr())
	sent := make([]byte, 3*queueLimit)
	_, _ = rand.Read(sent)
	var writer sync.WaitGroup
	writer.Go(func() {
		_, _ = conn.Write(sent)
		_ = conn.(*net.TCPConn).CloseWrite()
	})
	received, err := io.ReadAll(conn)
	writer.Wait()
	require.NoError(t, err)
	require.True(t, bytes.Equal(sent, received), "nothing lost or out of order, up to the end")
}

func TestLatencyIsOneWay(t *testing.T) {
	t.Parallel()
	const oneWay = 20 * time.Millisecond
	addr, _ := echoServer(t)
	proxy := New(t, addr)
	conn := connect(t, proxy.Addr())
	requireEcho(t, conn, "before")
	proxy.SetLatency(oneWay)
	start := time.Now()
	requireEcho(t, conn, "after")
	require.GreaterOrEqual(t, time.Since(start), 2*oneWay)
}

func TestShortLatencyIsNotCutShort(t *testing.T) {
	t.Parallel()
	addr, _ := echoServer(t)
	proxy := New(t, addr)
	const oneWay = shortWait / 4
	proxy.SetLatency(oneWay)
	conn := connect(t, proxy.Addr())
	for range 20 {
		begun := time.Now()
		requireEcho(t, conn, "there and back")
		require.GreaterOrEqual(t, time.Since(begun), 2*oneWay)
	}
}

func TestRequestsCountsWhatIsSentAtOnce(t *testing.T) {
	t.Parallel()
	addr, _ := echoServer(t)
	proxy := New(t, addr)
	conn := connect(t, proxy.Addr())
	require.Zero(t, proxy.Requests())
	for n := range 3 {
		requireEcho(t, conn, "one")
		require.Equal(t, n+1, proxy.Requests())
	}
	many := strings.Repeat("many", 1000)
	requireEcho(t, conn, many)
	require.Equal(t, 4, proxy.Requests())
	requireEcho(t, connect(t, proxy.Addr()), "over another connection")
	require.Equal(t, 5, proxy.Requests())
}

func TestLatencyDoesNotSerialise(t *testing.T) {
	t.Parallel()
	const (
		oneWay = 50 * time.Millisecond
		lines  = 200
	)
	addr, _ := echoServer(t)
	proxy := New(t, addr)
	proxy.SetLatency(oneWay)
	conn := connect(t, proxy.Addr())
	start := time.Now()
	var writer sync.WaitGroup
	writer.Go(func() {
		for range lines {
			// Lines of their own, so that the proxy sees many chunks.
			_, _ = io.WriteString(conn, "line\n")
		}
	})
	reader := bufio.NewReader(conn)
	for range lines {
		_, err := reader.ReadString('\n')
		require.NoError(t, err)
	}
	writer.Wait()
	// One after the other they would take 200 × 100 ms = 20 s.
	require.Less(t, time.Since(start), lines*oneWay/4)
}

func TestLatencyKeepsOrderWhenItShrinks(t *testing.T) {
	t.Parallel()
	addr, _ := echoServer(t)
	proxy := New(t, addr)
	conn := connect(t, proxy.Addr())
	requireEcho(t, conn, "ready")
	proxy.SetLatency(50 * time.Millisecond)
	_, err := io.WriteString(conn, "slow\n")
	require.NoError(t, err)
	proxy.SetLatency(0)
	_, err = io.WriteString(conn, "fast\n")
	require.NoError(t, err)
	reader := bufio.NewReader(conn)
	for _, want := range []string{"slow\n", "fast\n"} {
		line, err := reader.ReadString('\n')
		require.NoError(t, err)
		require.Equal(t, want, line)
	}
}

func TestHoldToServer(t *testing.T) {
	t.Parallel()
	addr, conns := echoServer(t)
	proxy := New(t, addr)
	old := connect(t, proxy.Addr())
	requireEcho(t, old, "ready")
	<-conns

	let := proxy.HoldToServer()
	_, err := io.WriteString(old, "held up\n")
	require.NoError(t, err)
	requireSilence(t, old)
	requireEcho(t, connect(t, proxy.Addr()), "overtakes it")
	requireSilence(t, old)
	let()
	reply, err := bufio.NewReader(old).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "held up\n", reply)
	let()
	requireEcho(t, old, "passes")
}

func TestHoldToServerOutlastsTheClient(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	proxy := New(t, server.Addr())
	conn := connect(t, proxy.Addr())
	_, err := io.WriteString(conn, "PING\r\n")
	require.NoError(t, err)
	_, err = bufio.NewReader(conn).ReadString('\n')
	require.NoError(t, err)

	let := proxy.HoldToServer()
	_, err = io.WriteString(conn, "SET k v\r\n")
	require.NoError(t, err)
	require.NoError(t, conn.Close())
	require.Eventually(t, func() bool { return proxy.Connections() == 0 }, testLimit, time.Millisecond)
	admin := server.Client(t)
	require.Zero(t, admin.Exists(t.Context(), "k").Val())
	let()
	require.Eventually(t, func() bool { return admin.Exists(t.Context(), "k").Val() == 1 }, testLimit, time.Millisecond)
}

func TestCut(t *testing.T) {
	t.Parallel()
	addr, conns := echoServer(t)
	proxy := New(t, addr)
	conn := connect(t, proxy.Addr())
	requireEcho(t, conn, "ready")
	server := <-conns

	proxy.Cut()
	_, err := conn.Read(make([]byte, 1))
	require.Error(t, err)
	require.Eventually(t, func() bool { // the echo server closes what is broken
		_, err := server.Write(nil)
		return err != nil
	}, testLimit, time.Millisecond, "the server notices too")
	require.Zero(t, proxy.Connections())
	requireEcho(t, connect(t, proxy.Addr()), "new ones work")
}

func TestRefuse(t *testing.T) {
	t.Parallel()
	addr, conns := echoServer(t)
	proxy := New(t, addr)
	old := connect(t, proxy.Addr())
	requireEcho(t, old, "ready")
	<-conns

	proxy.Refuse(true)
	requireNoService(t, proxy)
	requireEcho(t, old, "live ones stay")
	require.Equal(t, 1, proxy.Connections())
	require.Equal(t, 2, proxy.Accepted())
	require.Empty(t, conns, "the target is not asked")

	proxy.Refuse(false)
	requireEcho(t, connect(t, proxy.Addr()), "welcome")
}

func TestTargetThatIsDown(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, listener.Close())
	proxy := New(t, listener.Addr().String())
	requireNoService(t, proxy)
	require.Eventually(t, func() bool { return proxy.Connections() == 0 }, testLimit, time.Millisecond)
}

func TestSwallow(t *testing.T) {
	t.Parallel()
	for name, swallow := range map[string]func(*Proxy, bool){
		"to server": (*Proxy).SwallowToServer,
		"to client": (*Proxy).SwallowToClient,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			addr, _ := echoServer(t)
			proxy := New(t, addr)
			conn := connect(t, proxy.Addr())
			requireEcho(t, conn, "ready")

			swallow(proxy, true)
			_, err := io.WriteString(conn, "lost\n")
			require.NoError(t, err)
			requireSilence(t, conn)
			require.Equal(t, 1, proxy.Connections())

			swallow(proxy, false)
			requireEcho(t, conn, "passes")
		})
	}
}

func TestSwallowWorksOneWay(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	proxy := New(t, server.Addr())
	proxy.SwallowToClient(true)
	conn := connect(t, proxy.Addr())
	server.ResetCommands(t)
	_, err := io.WriteString(conn, "SET k v\r\n")
	require.NoError(t, err)
	require.Eventually(t, func() bool { return server.Commands(t)["set"] == 1 }, testLimit, 10*time.Millisecond,
		"the server hears")
	requireSilence(t, conn)
}

func TestSwallowHidesTheEnd(t *testing.T) {
	t.Parallel()
	addr, conns := echoServer(t)
	proxy := New(t, addr)
	conn := connect(t, proxy.Addr())
	requireEcho(t, conn, "ready")
	server := <-conns

	proxy.SwallowToServer(true)
	require.NoError(t, conn.Close())
	require.Eventually(t, func() bool { return proxy.Connections() == 0 }, testLimit, time.Millisecond)
	require.Never(t, func() bool {
		_, err := server.Write(nil)
		return err != nil
	}, 100*time.Millisecond, 10*time.Millisecond, "the server's end stays open")

	proxy.SwallowToServer(false)
	require.Eventually(t, func() bool {
		_, err := server.Write(nil)
		return err != nil
	}, testLimit, time.Millisecond, "now it hears")
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

func TestDropReplies(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	proxy := New(t, server.Addr())

	patient := client(t, server, proxy, 3)
	proxy.DropReplies(2)
	// Both lost replies belong to INCR, not to the set-up of the connections
	// that the retries are made on.
	require.Equal(t, int64(3), patient.Incr(t.Context(), "n").Val())
	require.Equal(t, int64(4), patient.Incr(t.Context(), "n").Val(), "only two are lost")

	hasty := client(t, server, proxy, -1)
	proxy.DropReplies(1)
	require.Error(t, hasty.Incr(t.Context(), "n").Err(), "the connection is cut")
	require.Equal(t, int64(6), hasty.Incr(t.Context(), "n").Val(), "it was done all the same")

	proxy.DropReplies(1)
	proxy.DropReplies(0)
	require.Equal(t, int64(7), hasty.Incr(t.Context(), "n").Val())
}

func TestIsHandshake(t *testing.T) {
	t.Parallel()
	for request, want := range map[string]bool{
		"*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n":        true,
		"*2\r\n$4\r\nauth\r\n$1\r\nx\r\n":         true,
		"*3\r\n$6\r\nclient\r\n$7\r\nsetname\r\n": true,
		"*2\r\n$3\r\nGET\r\n$5\r\nhello\r\n":      false,
		"*1\r\n$4\r\nPING\r\n":                    false,
		"PING\r\n":                                false,
		"":                                        false,
		"*1":                                      false,
		"*2\r\n$6\r\nSELECT\r\n$1\r\n1\r\n*1\r\n$4\r\nPING": true,
	} {
		require.Equal(t, want, isHandshake([]byte(request)), "%q", request)
	}
}

// scope is a TB whose cleanups the test runs when it likes.
type scope struct {
	*testing.T
	cleanups []func()
}

func (s *scope) Cleanup(f func()) { s.cleanups = append(s.cleanups, f) }

func TestCleanupWithConnectionsOpen(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	inner := &scope{T: t}
	proxy := New(inner, server.Addr())
	held := connect(t, proxy.Addr())
	_, err := io.WriteString(held, "PING\r\n")
	require.NoError(t, err)
	_, err = held.Read(make([]byte, 1))
	require.NoError(t, err)
	proxy.HoldToServer()
	_, err = io.WriteString(held, "PING\r\n")
	require.NoError(t, err)
	proxy.SetLatency(time.Hour)
	proxy.SwallowToServer(true)
	conn := connect(t, proxy.Addr())
	_, err = io.WriteString(conn, "PING\r\n")
	require.NoError(t, err)
	server.Stop()

	for _, cleanup := range inner.cleanups {
		cleanup()
	}
	_, err = conn.Read(make([]byte, 1))
	require.Error(t, err)
	require.Zero(t, proxy.Connections())
}
