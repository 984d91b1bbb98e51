package redistest

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

// The harness talks to its servers with a few lines of its own instead of a
// client library: no pool, no goroutine, and above all no commands besides the
// one asked for, so that they can be subtracted exactly from the statistics.

const (
	connTimeout = 5 * time.Second
	// maxBulk is far above any reply the harness asks for.
	maxBulk = 16 << 20
)

// replyError is an error that the server answered with.
type replyError string

// Error returns the server's text.
func (e replyError) Error() string { return string(e) }

// conn is one connection for one command.
type conn struct {
	net.Conn
	reader *bufio.Reader
}

// dial connects within connTimeout, which also limits everything sent later.
func dial(addr string, security *tls.Config) (*conn, error) {
	dialer := net.Dialer{Timeout: connTimeout}
	var raw net.Conn
	var err error
	if security == nil {
		raw, err = dialer.Dial("tcp", addr)
	} else {
		raw, err = tls.DialWithDialer(&dialer, "tcp", addr, security)
	}
	if err != nil {
		return nil, err
	}
	if err := raw.SetDeadline(time.Now().Add(connTimeout)); err != nil {
		_ = raw.Close()
		return nil, err
	}
	return &conn{Conn: raw, reader: bufio.NewReader(raw)}, nil
}

// do sends one command and returns its reply: a string, an int64, nil or a
// []any of these. An error reply comes back as a replyError.
func (c *conn) do(args ...string) (any, error) {
	var request strings.Builder
	fmt.Fprintf(&request, "*%d\r\n", len(args))
	for _, arg := range args {
		fmt.Fprintf(&request, "$%d\r\n%s\r\n", len(arg), arg)
	}
	if _, err := io.WriteString(c, request.String()); err != nil {
		return nil, err
	}
	return c.reply()
}

// reply reads one reply of protocol version 2.
func (c *conn) reply() (any, error) {
	line, err := c.reader.ReadString('\n')
	if err != nil {
		return nil, err
	}
	line = strings.TrimSuffix(line, "\r\n")
	if line == "" {
		return nil, errors.New("redistest: empty reply")
	}
	kind, rest := line[0], line[1:]
	switch kind {
	case '+':
		return rest, nil
	case '-':
		return nil, replyError(rest)
	case ':':
		return strconv.ParseInt(rest, 10, 64)
	case '$', '*':
		size, err := strconv.Atoi(rest)
		switch {
		case err != nil:
			return nil, fmt.Errorf("redistest: length of a reply: %w", err)
		case size < 0:
			return nil, nil
		case size > maxBulk:
			return nil, fmt.Errorf("redistest: reply of %d bytes", size)
		case kind == '$':
			return c.bulk(size)
		default:
			return c.array(size)
		}
	default:
		return nil, fmt.Errorf("redistest: unexpected reply %q", line)
	}
}

// bulk reads a string and the line end that follows it.
func (c *conn) bulk(size int) (any, error) {
	data := make([]byte, size+len("\r\n"))
	if _, err := io.ReadFull(c.reader, data); err != nil {
		return nil, err
	}
	return string(data[:size]), nil
}

// array reads its elements; an error among them ends the whole reply.
func (c *conn) array(size int) (any, error) {
	elements := make([]any, 0, size)
	for range size {
		element, err := c.reply()
		if err != nil {
			return nil, err
		}
		elements = append(elements, element)
	}
	return elements, nil
}

// fields returns the "name:value" lines of an INFO-like text.
func fields(text string) map[string]string {
	values := make(map[string]string)
	for line := range strings.Lines(text) {
		if name, value, found := strings.Cut(strings.TrimRight(line, "\r\n"), ":"); found {
			values[name] = value
		}
	}
	return values
}
