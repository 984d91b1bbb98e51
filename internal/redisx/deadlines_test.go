package redisx_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redisx"
)

func TestHeedsDeadlines(t *testing.T) {
	t.Parallel()
	for _, on := range []bool{true, false} {
		for name, c := range map[string]redis.UniversalClient{
			"single": redis.NewClient(&redis.Options{ContextTimeoutEnabled: on}),
			"failover": redis.NewFailoverClient(&redis.FailoverOptions{
				MasterName: "m", SentinelAddrs: []string{"localhost:1"}, ContextTimeoutEnabled: on,
			}),
			"cluster": redis.NewClusterClient(&redis.ClusterOptions{
				Addrs: []string{"localhost:1"}, ContextTimeoutEnabled: on,
			}),
		} {
			t.Cleanup(func() { _ = c.Close() })
			assert.Equal(t, on, redisx.HeedsDeadlines(c), name)
			assert.Equal(t, on, redisx.HeedsDeadlines(wrapper{wrapper{c}}), name)
			assert.False(t, redisx.HeedsDeadlines(opaque{c}), name)
		}
	}
	assert.False(t, redisx.HeedsDeadlines(nil))
}

// endless has a deadline and never ends, as contexts that somebody has made himself may do.
type endless struct {
	context.Context

	deadline time.Time
}

func (e endless) Deadline() (time.Time, bool) { return e.deadline, true }

func TestWithDeadline(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ ctx, limit, want time.Duration }{
		{time.Second, time.Hour, time.Second}, {time.Hour, time.Second, time.Second}, {time.Second, time.Second, time.Second}, {-time.Second, time.Hour, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			ctx, cancel := redisx.WithTimeout(endless{t.Context(), began.Add(test.ctx)}, test.limit)
			defer cancel()
			<-ctx.Done()
			require.ErrorIs(t, ctx.Err(), context.DeadlineExceeded)
			require.Equal(t, test.want, time.Since(began))
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	ended, done := redisx.WithTimeout(ctx, time.Hour)
	defer done()
	require.ErrorIs(t, ended.Err(), context.Canceled)
}
