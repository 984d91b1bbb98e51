package redisx_test

import (
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"

	"github.com/compozy/cache/internal/redisx"
)

func TestFollowsSentinel(t *testing.T) {
	t.Parallel()
	follows := redis.NewFailoverClient(&redis.FailoverOptions{MasterName: "main", SentinelAddrs: []string{"localhost:26379"}})
	t.Cleanup(func() { _ = follows.Close() })
	assert.True(t, redisx.FollowsSentinel(follows))
	separate := redisx.Separate(follows, nil, 1)
	t.Cleanup(func() { _ = separate.Close() })
	assert.True(t, redisx.FollowsSentinel(separate))
	fixed := redis.NewClient(&redis.Options{Addr: "localhost:6379"})
	t.Cleanup(func() { _ = fixed.Close() })
	assert.False(t, redisx.FollowsSentinel(fixed))
}
