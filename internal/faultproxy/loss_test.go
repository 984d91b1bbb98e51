package faultproxy

import (
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
)

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
