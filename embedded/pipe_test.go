package embedded

import (
	"bytes"
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestPipeWritesDoNotWait(t *testing.T) {
	t.Parallel()
	near, far := newPipe()
	want := bytes.Repeat([]byte("0123456789"), 100_000)
	_, err := near.Write(want)
	require.NoError(t, err)
	_, err = far.Write([]byte("answer"))
	require.NoError(t, err)
	require.NoError(t, near.Close())

	got, err := io.ReadAll(far)
	require.NoError(t, err, "what was written before Close arrives, then EOF")
	assert.True(t, bytes.Equal(want, got))
	_, err = near.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.ErrClosedPipe, "but who closed reads no more")
	_, err = near.Write([]byte("x"))
	require.ErrorIs(t, err, io.ErrClosedPipe)
	_, err = far.Write([]byte("x"))
	require.ErrorIs(t, err, io.ErrClosedPipe)
	require.NoError(t, near.Close())
	require.NoError(t, far.Close())
}

func TestPipeDeadlines(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		near, far := newPipe()
		buf := make([]byte, 8)
		start := time.Now()
		require.NoError(t, near.SetReadDeadline(start.Add(time.Second)))
		_, err := near.Read(buf)
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		var netErr net.Error
		require.ErrorAs(t, err, &netErr)
		assert.True(t, netErr.Timeout())
		assert.Equal(t, time.Second, time.Since(start))

		// A deadline that is moved, or taken away, while somebody reads.
		require.NoError(t, near.SetDeadline(time.Now().Add(time.Hour)))
		go func() { assert.NoError(t, near.SetDeadline(time.Now().Add(time.Minute))) }()
		_, err = near.Read(buf)
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		assert.Equal(t, time.Minute+time.Second, time.Since(start))
		require.NoError(t, near.SetDeadline(time.Time{}))
		require.NoError(t, near.SetWriteDeadline(time.Now().Add(-time.Second)))
		go func() {
			time.Sleep(time.Hour) // in a bubble: its clock
			_, werr := far.Write([]byte("hi"))
			assert.NoError(t, werr)
		}()
		n, err := near.Read(buf)
		require.NoError(t, err)
		assert.Equal(t, "hi", string(buf[:n]))

		// A reader is woken by the close of either end.
		go func() { assert.NoError(t, far.Close()) }()
		_, err = near.Read(buf)
		require.ErrorIs(t, err, io.EOF)
		require.NoError(t, near.Close())
	})
}

func TestPipeClosesOnAReaderThatDoesNotRead(t *testing.T) {
	t.Parallel()
	near, far := newPipe()
	chunk := make([]byte, 1<<20)
	var err error
	written := 0
	for err == nil && written <= maxUnread {
		_, err = near.Write(chunk)
		written += len(chunk)
	}
	require.ErrorIs(t, err, errUnread)
	_, err = far.Read(chunk)
	require.ErrorIs(t, err, errUnread)
	require.NoError(t, near.Close())
	require.NoError(t, far.Close())
}

func TestPipeKeepsNoBurst(t *testing.T) {
	t.Parallel()
	near, far := newPipe()
	s := near.out
	for _, size := range []int{100, 10 * maxIdle} {
		_, err := near.Write(make([]byte, size))
		require.NoError(t, err)
		_, err = io.ReadFull(far, make([]byte, size))
		require.NoError(t, err)
		assert.LessOrEqual(t, cap(s.buf), maxIdle)
	}
	assert.Equal(t, "embedded", near.RemoteAddr().String())
	assert.Equal(t, "pipe", near.LocalAddr().Network())
}
