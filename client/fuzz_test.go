package client

import (
	"net"
	"strings"
	"testing"

	"github.com/compozy/cache/config"
)

// named returns host and port of a URL by a rule simpler than any parser's: what
// stands between the last @ before the path and the path.
func named(url string) string {
	_, rest, _ := strings.Cut(strings.TrimSpace(url), "://")
	if end := strings.IndexAny(rest, "/?"); end >= 0 {
		rest = rest[:end]
	}
	rest = strings.ReplaceAll(rest[strings.LastIndexByte(rest, '@')+1:], "%25", "%")
	if _, _, err := net.SplitHostPort(rest); err != nil {
		return net.JoinHostPort(strings.Trim(rest, "[]"), "6379")
	}
	return rest
}

// FuzzNew makes sure that go-redis accepts, without a panic and without I/O, what
// the configuration accepts, that the password stays inside, and that no other host
// is dialled than the one that was named.
func FuzzNew(f *testing.F) {
	for _, rest := range []string{
		"localhost:6379/0", "h?pool_size=100000", "h?max_retries=1000&min_idle_conns=5", "[::1]:1?protocol=2", "/run/redis.sock",
		"h?read_timeout=-1&write_timeout=0&dial_timeout=0&pool_timeout=-1", "h?pipeline_pool_size=-1&max_concurrent_dials=9",
		"h1:6379,h2:6379", "$(REDIS_HOST):6379", "${H}", "{{ .H }}:1", "h/1?db=2", "h?read_timeout=5", "#1@h", "57#w@h:1", "run/redis.sock",
		"[fe80::1%25eth0]:6379", "h:1\n", "h:", ":1", "/1", "h:1:2", "x@h", "h/x@y", "h?x@y", "h?skip_verify=1", "fe80::1:6379", "[h]", "\"",
		"h?conn_max_lifetime=1s&conn_max_lifetime_jitter=2h", "h?pool_fifo=1&client_name=a%20b", "h?max_active_conns=1&pipeline_read_buffer_size=1",
	} {
		for scheme := range uint8(5) {
			f.Add(scheme, rest, false)
		}
		f.Add(uint8(0), rest, true)
	}
	f.Fuzz(func(t *testing.T, scheme uint8, rest string, cluster bool) {
		name := []string{"redis", "rediss", "unix", "valkey", "valkeys"}[scheme%5]
		url := name + "://user:s3cr3t@" + rest
		for _, cfg := range []*config.Config{{URL: url, Cluster: cluster}, {LockNodes: []string{url}}} {
			r, err := New(cfg)
			if err != nil {
				if strings.Contains(err.Error(), "s3cr3t") {
					t.Fatalf("the error shows the password: %v", err)
				}
				continue
			}
			if strings.Contains(r.Addr(), "s3cr3t") {
				t.Fatalf("the address shows the password: %s", r.Addr())
			}
			for _, s := range append(r.nodes, r.main) {
				if len(cfg.LockNodes) > 0 && s == r.main {
					continue // localhost
				}
				if addr := s.endpoint.addrs[0]; name != "unix" && !strings.EqualFold(addr, named(url)) {
					t.Fatalf("%q is dialled for %q", addr, url)
				}
				if s.endpoint.tls != nil != (name == "rediss" || name == "valkeys") {
					t.Fatalf("TLS is on or off in spite of %q", url)
				}
			}
			r.Collector() // needs nothing but New
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}
		}
	})
}
