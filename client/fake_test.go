package client

import (
	"bufio"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// fakeServer answers every command with what reply returns for its arguments, as
// raw RESP. It is for states that a real server cannot be held in. HELLO is
// unknown to it, as to a server before Redis 6.
func fakeServer(t *testing.T, reply func(args []string) string) *listener {
	t.Helper()
	return listen(t, answering(func(args []string) string {
		if strings.EqualFold(args[0], "hello") {
			return "-ERR unknown command\r\n"
		}
		return reply(args)
	}))
}

// answering serves a connection with what reply returns.
func answering(reply func(args []string) string) func(net.Conn) {
	return func(conn net.Conn) {
		in := bufio.NewReader(conn)
		for {
			args, err := readCommand(in)
			if err != nil {
				return
			}
			if _, err := io.WriteString(conn, reply(args)); err != nil {
				return
			}
		}
	}
}

// readCommand reads one command in the form that clients send: an array of strings.
func readCommand(in *bufio.Reader) ([]string, error) {
	n, err := readNumber(in, '*')
	if err != nil {
		return nil, err
	}
	args := make([]string, n)
	for i := range args {
		size, err := readNumber(in, '$')
		if err != nil {
			return nil, err
		}
		text := make([]byte, size+2)
		if _, err := io.ReadFull(in, text); err != nil {
			return nil, err
		}
		args[i] = string(text[:size])
	}
	return args, nil
}

func readNumber(in *bufio.Reader, kind byte) (int, error) {
	line, err := in.ReadString('\n')
	if err != nil || line[0] != kind {
		return 0, io.ErrUnexpectedEOF
	}
	return strconv.Atoi(strings.TrimSpace(line[1:]))
}

func TestReadCommand(t *testing.T) {
	t.Parallel()
	got, err := readCommand(bufio.NewReader(strings.NewReader("*2\r\n$3\r\nGET\r\n$1\r\nk\r\n")))
	require.NoError(t, err)
	require.Equal(t, []string{"GET", "k"}, got)
}

// bulk is text as a reply.
func bulk(text string) string {
	return "$" + strconv.Itoa(len(text)) + "\r\n" + text + "\r\n"
}
