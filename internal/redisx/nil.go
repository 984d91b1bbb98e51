package redisx

import (
	"reflect"

	"github.com/redis/go-redis/v9"
)

// IsNil reports whether c is no client at all: nil, a nil pointer of some type, one of
// go-redis' own clients that none of its constructors made, such as &redis.Client{}, or a
// wrapper (see Unwrap) around one of these. Its first use would be a panic.
func IsNil(c redis.UniversalClient) bool {
	for c != nil {
		if v := reflect.ValueOf(c); v.Kind() == reflect.Pointer && v.IsNil() {
			return true
		}
		switch c.(type) {
		case *redis.Client, *redis.ClusterClient, *redis.Ring:
			return reflect.ValueOf(c).Elem().IsZero()
		}
		inner, wraps := unwrap(c)
		if !wraps {
			return false
		}
		c = inner
	}
	return true
}
