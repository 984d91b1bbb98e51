package redisx_test

import (
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"

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
