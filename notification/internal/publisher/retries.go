package publisher

import (
	"context"
	"errors"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/cache/internal/redisx"
)

// retries are how often a publisher repeats what failed, and how long it waits before. It does so itself, and yet as the
// client's settings say: go-redis would send the same bytes again, which do not say that they are a repetition.
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

// repeats reports whether a failed request may be sent again. Anything the server refused for good is not; what happened to a
// lost connection or during a failover is. Neither is what found no connection to spare: its caller has waited for one for as
// long as the client is set to.
func (r retries) repeats(ctx context.Context, err error) bool {
	return ctx.Err() == nil && redisx.IsTransient(err) && !errors.Is(err, redis.ErrPoolTimeout)
}

// pause returns how long to wait before a repetition, of which the first has number 1.
func (r retries) pause(number int) time.Duration { return redisx.Backoff(number, r.low, r.high) }
