package notification

import (
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/cache/internal/redisx"
)

// retries are how often a publisher repeats what failed, and how long it waits before. It does so itself, and yet as the
// client's settings say: go-redis would send the same bytes again, and tell nothing of what became of them before.
type retries struct {
	count     int           // how often at most, at least once
	low, high time.Duration // the first pause and the longest
}

const (
	defaultRetries = 3
	minRetryPause  = 8 * time.Millisecond // a server that refuses needs a moment, whatever the settings say
	maxRetryPause  = 512 * time.Millisecond
)

// retriesOf returns what a client is set to. One for a cluster repeats in two places.
func retriesOf(client redis.UniversalClient) retries {
	r := retries{count: defaultRetries, low: minRetryPause, high: maxRetryPause}
	if c, ok := redisx.Unwrap[*redis.Client](client); ok {
		o := c.Options()
		r = retries{count: o.MaxRetries, low: o.MinRetryBackoff, high: o.MaxRetryBackoff}
	}
	if c, ok := redisx.Unwrap[*redis.ClusterClient](client); ok {
		o := c.Options()
		r = retries{count: max(o.MaxRetries, 0) + o.MaxRedirects, low: o.MinRetryBackoff, high: o.MaxRetryBackoff}
	}
	r.count = max(r.count, 0) + 1
	r.low = max(r.low, minRetryPause)
	r.high = max(r.high, r.low)
	return r
}

// pause returns how long to wait before a repetition, of which the first has number 1.
func (r retries) pause(number int) time.Duration { return redisx.Backoff(number, r.low, r.high) }
