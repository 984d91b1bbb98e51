package redisx_test

import (
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/internal/redisx"
)

func TestKeysWithTheSameTagShareASlot(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, 3)
	client := redis.NewClusterClient(&redis.ClusterOptions{Addrs: cluster.Addrs()})
	t.Cleanup(func() { _ = client.Close() })
	seen := make(map[string]string)
	for _, name := range []string{
		"", "a", "a}", "}", "}a", "{", "{}", "{a}", "a{b}c", "%", "%}", "%%", "%a", "}}", "\x00\xff", "日本", "{}}", "a b\n",
	} {
		tag := redisx.HashTag(name)
		require.NotContains(t, seen, tag, "%q and %q", name, seen[tag])
		seen[tag] = name
		slot := client.ClusterKeySlot(t.Context(), "cache:lock:"+tag).Val()
		for _, suffix := range []string{":fence", ":queue", "{x}", "}"} {
			require.Equal(t, slot, client.ClusterKeySlot(t.Context(), "cache:lock:"+tag+suffix).Val(), "%q", name)
			require.Equal(t, slot, client.ClusterKeySlot(t.Context(), "other:"+tag+suffix).Val(), "%q", name)
		}
	}
}
