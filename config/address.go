package config

import (
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

const (
	allowedPort = "a port from 1 to 65535"
	allowedURL  = "redis://[user:password@]host[:port][/database][?option=value], rediss://… or unix://[user:password@]/path"
)

// checkURL parses a Redis URL and returns what is allowed in its place, or "" if
// it is good. The errors of net/url and go-redis quote the whole URL with its
// password, so what they say is told in other words.
func checkURL(raw string) (*redis.Options, string) {
	u, err := url.Parse(raw)
	if err != nil {
		return nil, allowedURL + " with special characters of user and password percent-encoded"
	}
	if u.Opaque != "" {
		// "redis:host:6380": go-redis would go to localhost without a word.
		return nil, allowedURL
	}
	switch u.Scheme {
	case "redis", "rediss":
		if u.Hostname() == "" && u.Port() == "" && u.Host != "" {
			return nil, allowedURL
		}
		if p := u.Port(); p != "" && !isPort(p) {
			return nil, "a URL with " + allowedPort
		}
		if !isDatabasePath(u.Path) {
			return nil, "a URL whose path is a database number"
		}
	case "unix":
		if u.Path == "" {
			return nil, "a unix:// URL with the path of a socket"
		}
	default:
		return nil, "a URL of the scheme redis, rediss or unix"
	}
	if _, err := url.ParseQuery(u.RawQuery); err != nil {
		return nil, "a URL with a well-formed query"
	}
	opts, err := redis.ParseURL(raw)
	if err != nil {
		return nil, "a URL whose query names options of go-redis, with values that fit them"
	}
	return opts, checkURLOptions(opts)
}

// maxConns bounds pool sizes: go-redis reserves memory for each connection in
// advance and panics beyond 32 bits.
const maxConns = 100_000

// maxBuffer bounds the buffers that a URL may ask for, in bytes per connection.
const maxBuffer = 64 << 20

// checkURLOptions returns what is allowed for the options in a URL's query, or "".
func checkURLOptions(o *redis.Options) string {
	limits := []struct {
		name        string
		value, most int
		least       int
	}{
		{"db", o.DB, 1 << 30, 0},
		{"pool_size", o.PoolSize, maxConns, 0},
		{"min_idle_conns", o.MinIdleConns, maxConns, 0},
		{"max_idle_conns", o.MaxIdleConns, maxConns, 0},
		{"max_active_conns", o.MaxActiveConns, maxConns, 0},
		{"max_concurrent_dials", o.MaxConcurrentDials, maxConns, 0},
		{"pipeline_pool_size", o.PipelinePoolSize, maxConns, -1},
		{"pipeline_read_buffer_size", o.PipelineReadBufferSize, maxBuffer, 0},
		{"pipeline_write_buffer_size", o.PipelineWriteBufferSize, maxBuffer, 0},
		{"max_retries", o.MaxRetries, 1000, -1},
	}
	for _, l := range limits {
		if l.value < l.least || l.value > l.most {
			return fmt.Sprintf("a URL with %s from %d to %d", l.name, l.least, l.most)
		}
	}
	if o.Protocol != 0 && o.Protocol != 2 && o.Protocol != 3 {
		return "a URL with protocol 2 or 3"
	}
	return ""
}

// isPort reports whether s is a TCP port in plain digits.
func isPort(s string) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return err == nil && n > 0
}

// isHost reports whether s can be the host part of an address: a name or an IP
// address, IPv6 with or without brackets.
func isHost(s string) bool {
	if net.ParseIP(strings.Trim(s, "[]")) != nil {
		return true
	}
	if s == "" || len(s) > 253 {
		return false
	}
	return !strings.ContainsAny(s, ":/@?#[] \t\r\n\"\\") && isPrintable(s)
}

// isHostPort reports whether s is host:port with both parts.
func isHostPort(s string) bool {
	host, port, err := net.SplitHostPort(s)
	return err == nil && isHost(host) && isPort(port)
}

// isPrintable reports whether s consists of printable characters other than space.
func isPrintable(s string) bool {
	for _, r := range s {
		if r <= ' ' || r == 0x7f || !strconv.IsPrint(r) {
			return false
		}
	}
	return true
}
