package client

import (
	"strings"
	"testing"

	"github.com/compozy/cache/config"
)

// FuzzNew makes sure that go-redis accepts, without a panic and without I/O, what
// the configuration accepts, and that the password stays inside.
func FuzzNew(f *testing.F) {
	for _, rest := range []string{
		"localhost:6379/0", "h?pool_size=100000", "h?max_retries=1000&min_idle_conns=5", "[::1]:1?protocol=2", "/run/redis.sock",
		"h?read_timeout=-1&write_timeout=0&dial_timeout=0&pool_timeout=-1", "h?pipeline_pool_size=-1&max_concurrent_dials=9",
		"h?conn_max_lifetime=1s&conn_max_lifetime_jitter=2h", "h?pool_fifo=1&client_name=a%20b", "h?max_active_conns=1&pipeline_read_buffer_size=1",
	} {
		for scheme := range uint8(3) {
			f.Add(scheme, rest, false)
		}
		f.Add(uint8(0), rest, true)
	}
	f.Fuzz(func(t *testing.T, scheme uint8, rest string, cluster bool) {
		url := []string{"redis", "rediss", "unix"}[scheme%3] + "://user:s3cr3t@" + rest
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
			r.Collector() // needs nothing but New
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}
		}
	})
}
