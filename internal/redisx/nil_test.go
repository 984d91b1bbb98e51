package redisx_test

import (
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redisx"
)

func TestIsNil(t *testing.T) {
	t.Parallel()
	client := redis.NewClient(&redis.Options{Addr: "localhost:1"})
	t.Cleanup(func() { _ = client.Close() })
	for name, c := range map[string]redis.UniversalClient{
		"nil": nil, "typed nil": (*redis.Client)(nil), "typed nil cluster": (*redis.ClusterClient)(nil),
		"wrapped nil": wrapper{}, "wrapped typed nil": wrapper{(*redis.Client)(nil)}, "typed nil wrapper": (*wrapper)(nil),
		"zero": &redis.Client{}, "zero cluster": &redis.ClusterClient{}, "zero ring": &redis.Ring{}, "wrapped zero": wrapper{&redis.Client{}},
	} {
		require.True(t, redisx.IsNil(c), name)
	}
	for name, c := range map[string]redis.UniversalClient{
		"client": client, "wrapped": wrapper{client}, "wrapped twice": &wrapper{wrapper{client}}, "opaque": opaque{client},
	} {
		require.False(t, redisx.IsNil(c), name)
	}
}
