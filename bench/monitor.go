package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/cache/internal/redistest"
)

// monitor counts the commands that clients send to a server. The server's own
// statistics would count what scripts call as well.
type monitor struct {
	counted chan map[string]int
}

// endMark is what stop sends to find the end of what it has to count.
const endMark = "bench:end-of-monitor"

// startMonitor returns when everything from now on is counted.
func startMonitor(s *scope, server *redistest.Server) (*monitor, error) {
	conn, err := net.Dial("tcp", server.Addr())
	if err != nil {
		return nil, fmt.Errorf("connect monitor: %w", err)
	}
	m := &monitor{counted: make(chan map[string]int, 1)}
	done := make(chan struct{})
	s.Cleanup(func() {
		_ = conn.Close()
		<-done
	})
	reader := bufio.NewReader(conn)
	if _, err := io.WriteString(conn, "MONITOR\r\n"); err != nil {
		close(done)
		return nil, fmt.Errorf("start monitor: %w", err)
	}
	if _, err := reader.ReadString('\n'); err != nil {
		close(done)
		return nil, fmt.Errorf("start monitor: %w", err)
	}
	go func() {
		defer close(done)
		m.count(reader)
	}()
	return m, nil
}

// count reads lines such as
//
//	+1700000000.123456 [0 127.0.0.1:51234] "evalsha" "…"
//
// where "lua" stands in place of the address for what a script calls.
func (m *monitor) count(reader *bufio.Reader) {
	commands := make(map[string]int)
	for {
		line, err := reader.ReadString('\n')
		if err != nil {
			return
		}
		if strings.Contains(line, endMark) {
			m.counted <- commands
			return
		}
		_, rest, _ := strings.Cut(line, " [")
		client, command, _ := strings.Cut(rest, "] \"")
		name, _, found := strings.Cut(strings.ToLower(command), "\"")
		if found && !strings.HasSuffix(client, " lua") && !housekeeping(name) {
			commands[name]++
		}
	}
}

// housekeeping recognises what go-redis sends to set up a connection: it has
// nothing to do with the number of hand-offs.
func housekeeping(command string) bool {
	return command == "hello" || command == "client" || command == "ping"
}

// stop returns the number of commands since startMonitor, by name.
func (m *monitor) stop(ctx context.Context, client redis.UniversalClient) (map[string]int, error) {
	if err := client.Echo(ctx, endMark).Err(); err != nil {
		return nil, err
	}
	timeout := time.NewTimer(receiveLimit)
	defer timeout.Stop()
	select {
	case commands := <-m.counted:
		return commands, nil
	case <-timeout.C:
		return nil, errors.New("monitor did not see its end")
	}
}
