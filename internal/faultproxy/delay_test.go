package faultproxy

import (
	"bufio"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
)

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
