package redisx

import (
	"context"
	"sync"

	"github.com/redis/go-redis/v9"
)

// Master returns the address of the master that has a key: "" if that is not known just now, or cluster is nil. It asks no
// server: the caller would have to wait for that, and sending a command does.
func Master(cluster *redis.ClusterClient, key string) string {
	if cluster == nil {
		return ""
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // before anything is sent
	node, err := cluster.MasterForKey(ctx, key)
	if err != nil {
		return ""
	}
	return node.Options().Addr
}

// ByMaster divides the indexes of n things, each of which has a key, by the address that Master returns for it.
func ByMaster(cluster *redis.ClusterClient, n int, key func(i int) string) map[string][]int {
	groups := make(map[string][]int)
	for i := range n {
		address := Master(cluster, key(i))
		groups[address] = append(groups[address], i)
	}
	return groups
}

// Masters returns the clients of all masters, by their addresses.
func Masters(ctx context.Context, cluster *redis.ClusterClient) (map[string]*redis.Client, error) {
	var mu sync.Mutex
	masters := make(map[string]*redis.Client)
	err := cluster.ForEachMaster(ctx, func(_ context.Context, master *redis.Client) error {
		mu.Lock()
		defer mu.Unlock()
		masters[master.Options().Addr] = master
		return nil
	})
	return masters, err
}
