package redisx

import "github.com/redis/go-redis/v9"

// Unwrap returns the first of c, the client that c wraps, the one that wraps, and
// so on, that is a T; ok tells whether any is. A client wraps another by a method
// Unwrap that returns it, as the one of package client does.
func Unwrap[T any](c redis.UniversalClient) (found T, ok bool) {
	for c != nil {
		if found, ok = c.(T); ok {
			return found, true
		}
		c, _ = unwrap(c)
	}
	return found, false
}

// unwrap returns what c wraps; ok tells whether it is a wrapper at all.
func unwrap(c redis.UniversalClient) (inner redis.UniversalClient, ok bool) {
	wrapper, ok := c.(interface{ Unwrap() redis.UniversalClient })
	if !ok {
		return nil, false
	}
	return wrapper.Unwrap(), true
}

// Same reports whether two clients, or what they wrap, are known to use the same database of the same server: they are one,
// or both are a *redis.Client with the same address, which somebody chose. One that go-redis fills in says nothing, as
// with a Dialer of its own the client may go elsewhere.
func Same(a, b redis.UniversalClient) bool {
	first, ok := Unwrap[*redis.Client](a)
	second, both := Unwrap[*redis.Client](b)
	if !ok || !both {
		one, _ := Unwrap[*redis.ClusterClient](a)
		other, _ := Unwrap[*redis.ClusterClient](b)
		return one != nil && one == other
	}
	o, p := first.Options(), second.Options()
	filledIn := o.Addr == "localhost:6379" || FollowsSentinel(first)
	return first == second || !filledIn && o.Network == p.Network && o.Addr == p.Addr && o.DB == p.DB
}
