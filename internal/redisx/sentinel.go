package redisx

import "github.com/redis/go-redis/v9"

// FollowsSentinel reports whether c, or the client that it wraps, asks a Sentinel for its server whenever it opens a
// connection. Such a client of go-redis has this for an address.
func FollowsSentinel(c redis.UniversalClient) bool {
	client, ok := Unwrap[*redis.Client](c)
	return ok && client.Options().Addr == "FailoverClient"
}
