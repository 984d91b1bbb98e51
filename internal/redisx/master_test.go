package redisx_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/internal/redisx"
)

func TestMasters(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, 3)
	client := redis.NewClusterClient(&redis.ClusterOptions{Addrs: cluster.Addrs()})
	t.Cleanup(func() { _ = client.Close() })
	assert.Empty(t, redisx.Master(client, "key"), "nobody was asked")
	masters, err := redisx.Masters(t.Context(), client)
	require.NoError(t, err)
	require.Len(t, masters, 3)
	for address, master := range masters {
		require.Equal(t, address, master.Options().Addr)
		require.NoError(t, master.Ping(t.Context()).Err())
	}

	keys := make([]string, 50)
	for i := range keys {
		keys[i] = fmt.Sprint("key ", i)
	}
	key := func(i int) string { return keys[i] }
	groups := redisx.ByMaster(client, len(keys), key)
	assert.ElementsMatch(t, slices.Collect(maps.Keys(masters)), slices.Collect(maps.Keys(groups)))
	for address, indexes := range groups {
		assert.True(t, slices.IsSorted(indexes))
		for _, i := range indexes {
			master, err := client.MasterForKey(t.Context(), keys[i])
			require.NoError(t, err)
			assert.Equal(t, master.Options().Addr, address)
			assert.Equal(t, address, redisx.Master(client, keys[i]))
		}
	}
	assert.Equal(t, map[string][]int{"": {0, 1, 2}}, redisx.ByMaster(nil, 3, key), "without a Cluster")
	assert.Empty(t, redisx.ByMaster(nil, 0, key))
}
