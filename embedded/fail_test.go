package embedded_test

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/embedded"
)

func TestFail(t *testing.T) {
	t.Parallel()
	client, server := setup(t)
	ctx := t.Context()
	require.NoError(t, client.Set(ctx, "k", "v", 0).Err())
	open, err := server.Dial(ctx, "", "")
	require.NoError(t, err)
	down := errors.New("power cut")

	server.Fail(down)

	_, err = open.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF, "what was open is closed")
	_, err = server.Dial(ctx, "", "")
	require.ErrorIs(t, err, down)
	require.Eventually(t, func() bool { return errors.Is(client.Get(ctx, "k").Err(), down) }, time.Minute, time.Millisecond,
		"once the connections of the pool are used up")

	server.Fail(nil)

	require.Eventually(t, func() bool { return client.Get(ctx, "k").Val() == "v" }, time.Minute, time.Millisecond,
		"and the data is still there")
}

// Connections by TCP are cut and refused as well.
func TestFailByTCP(t *testing.T) {
	t.Parallel()
	server := embedded.New()
	t.Cleanup(func() { assert.NoError(t, server.Close()) })
	require.NoError(t, server.Start(t.Context()))
	dial := func() *raw {
		conn, err := net.Dial("tcp", server.Addr())
		require.NoError(t, err)
		return newRaw(t, conn)
	}
	before := dial()
	require.Equal(t, "+PONG", before.ask("PING"))
	server.Fail(errors.New("power cut"))
	require.NoError(t, before.conn.SetDeadline(time.Now().Add(time.Minute)))
	_, err := before.conn.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF)
	refused := dial() // by the listener, which goes on
	require.NoError(t, refused.conn.SetDeadline(time.Now().Add(time.Minute)))
	_, err = refused.conn.Read(make([]byte, 1))
	require.Error(t, err)
	server.Fail(nil)
	require.Equal(t, "+PONG", dial().ask("PING"))
}
