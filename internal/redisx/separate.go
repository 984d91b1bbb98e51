package redisx

import "github.com/redis/go-redis/v9"

// Separate returns a client for the server, or cluster, of c that has connections of its own: what waits for one of c's
// does not hold it up. It heeds the deadlines of contexts, and carries none of c's hooks. The caller closes it. ok is
// false, and the client nil, where c is no *redis.Client or *redis.ClusterClient and wraps none.
func Separate(c redis.UniversalClient, connections int) (separate redis.UniversalClient, ok bool) {
	if cluster, ok := Unwrap[*redis.ClusterClient](c); ok {
		options := *cluster.Options()
		options.PoolSize, options.MinIdleConns, options.MaxIdleConns, options.MaxActiveConns = connections, 0, 0, 0
		options.ContextTimeoutEnabled = true
		return redis.NewClusterClient(&options), true
	}
	if client, ok := Unwrap[*redis.Client](c); ok && client.Options() != nil {
		options := *client.Options()
		options.PoolSize, options.MinIdleConns, options.MaxIdleConns, options.MaxActiveConns = connections, 0, 0, 0
		options.ContextTimeoutEnabled = true
		return redis.NewClient(&options), true
	}
	return nil, false
}
