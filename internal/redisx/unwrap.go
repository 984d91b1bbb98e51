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
