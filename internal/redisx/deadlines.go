package redisx

import "github.com/redis/go-redis/v9"

// HeedsDeadlines reports whether c is known to return at the deadline of a context, as clients of go-redis do with
// ContextTimeoutEnabled. Others return with the reply, or after ReadTimeout, and that again for each retry. A client of
// another kind is not known to, unless it wraps one of these (see Unwrap).
func HeedsDeadlines(c redis.UniversalClient) bool {
	if single, ok := Unwrap[*redis.Client](c); ok {
		return single.Options().ContextTimeoutEnabled
	}
	if cluster, ok := Unwrap[*redis.ClusterClient](c); ok {
		return cluster.Options().ContextTimeoutEnabled
	}
	return false
}
