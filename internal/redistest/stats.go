package redistest

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Commands returns how often the server has run each command since it started
// or since ResetCommands, as INFO commandstats counts: by name in lower case,
// with the subcommand if there is one ("evalsha", "client|setinfo"). What the
// harness itself sent is not in it. What a script calls is, as are the
// commands by which replicas, sentinels and cluster nodes watch a server.
func (s *Server) Commands(t TB) map[string]int64 {
	t.Helper()
	s.statMu.Lock()
	defer s.statMu.Unlock()
	counts, err := s.commands()
	if err != nil {
		t.Fatalf("redistest: count commands: %v", err)
	}
	return counts
}

// ResetCommands makes Commands count from zero.
func (s *Server) ResetCommands(t TB) {
	t.Helper()
	if err := s.forget(); err != nil {
		t.Fatalf("redistest: reset command counts: %v", err)
	}
}

// CPU returns the processor time that the server has used since it started, in
// user mode and in the kernel, all of its threads together, as INFO cpu says.
// The question itself costs the server some 50 µs.
func (s *Server) CPU(t TB) time.Duration {
	t.Helper()
	info, err := s.info("cpu")
	if err != nil {
		t.Fatalf("redistest: ask for processor time: %v", err)
	}
	user, userErr := strconv.ParseFloat(info["used_cpu_user"], 64)
	system, systemErr := strconv.ParseFloat(info["used_cpu_sys"], 64)
	if err := errors.Join(userErr, systemErr); err != nil {
		t.Fatalf("redistest: processor time: %v", err)
	}
	return time.Duration((user + system) * float64(time.Second))
}

// commands asks for the counts and subtracts the harness' own. The caller
// holds statMu.
func (s *Server) commands() (map[string]int64, error) {
	// INFO does not count itself, but the AUTH on the same connection is in it.
	c, err := s.connect()
	if err != nil {
		return nil, err
	}
	defer func() { _ = c.Close() }()
	text, err := c.text("INFO", "commandstats")
	if err != nil {
		return nil, err
	}
	counts := make(map[string]int64)
	for name, value := range fields(text) {
		command, isStat := strings.CutPrefix(name, "cmdstat_")
		calls, hasCalls := strings.CutPrefix(value, "calls=")
		if !isStat || !hasCalls {
			continue
		}
		number, _, _ := strings.Cut(calls, ",")
		count, err := strconv.ParseInt(number, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("calls of %s: %w", command, err)
		}
		if count -= s.own[command]; count != 0 {
			counts[command] = count
		}
	}
	s.own["info"]++
	return counts, nil
}

// forget resets the server's counts and ours.
func (s *Server) forget() error {
	s.statMu.Lock()
	defer s.statMu.Unlock()
	if s.sentinel {
		return nil // sentinels know no CONFIG RESETSTAT
	}
	c, err := s.connect()
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	if _, err := c.do("CONFIG", "RESETSTAT"); err != nil {
		return err
	}
	clear(s.own)
	// It is counted after it has reset everything else.
	s.own["config|resetstat"] = 1
	return nil
}

// connect opens a connection for the harness, authenticated if need be. The
// caller holds statMu.
func (s *Server) connect() (*conn, error) {
	c, err := dial(s.Addr(), s.TLSConfig())
	if err != nil {
		return nil, err
	}
	username, password := s.credentials()
	if password == "" {
		return c, nil
	}
	auth := []string{"AUTH", password}
	if username != "" {
		auth = []string{"AUTH", username, password}
	}
	if _, err := c.do(auth...); err != nil {
		_ = c.Close()
		return nil, err
	}
	s.own["auth"]++
	return c, nil
}

// send runs one command on a connection of its own and counts it as ours.
func (s *Server) send(args ...string) (any, error) {
	s.statMu.Lock()
	defer s.statMu.Unlock()
	c, err := s.connect()
	if err != nil {
		return nil, err
	}
	defer func() { _ = c.Close() }()
	reply, err := c.do(args...)
	if err == nil {
		s.own[statName(args)]++
	}
	return reply, err
}

// sendText is send for commands that answer with a string.
func (s *Server) sendText(args ...string) (string, error) {
	reply, err := s.send(args...)
	if err != nil {
		return "", err
	}
	return asText(reply)
}

// info returns one section of INFO.
func (s *Server) info(section string) (map[string]string, error) {
	text, err := s.sendText("INFO", section)
	if err != nil {
		return nil, err
	}
	return fields(text), nil
}

// statName returns the name under which the server counts a command.
func statName(args []string) string {
	name := strings.ToLower(args[0])
	switch name {
	case "config", "cluster", "sentinel":
		return name + "|" + strings.ToLower(args[1])
	default:
		return name
	}
}

// text is do for commands that answer with a string.
func (c *conn) text(args ...string) (string, error) {
	reply, err := c.do(args...)
	if err != nil {
		return "", err
	}
	return asText(reply)
}

// asText returns a reply that must be a string.
func asText(reply any) (string, error) {
	text, ok := reply.(string)
	if !ok {
		return "", fmt.Errorf("redistest: reply of type %T, not a string", reply)
	}
	return text, nil
}
