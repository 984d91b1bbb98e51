package faultproxy

import (
	"bytes"
	"crypto/rand"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
)

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
