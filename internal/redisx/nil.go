package redisx

import (
	"reflect"

	"github.com/redis/go-redis/v9"
)

// IsNil reports whether c is no client at all: nil, a nil pointer of some type, or a
// wrapper (see Unwrap) around one. Its first use would be a panic.
func IsNil(c redis.UniversalClient) bool {
	for c != nil {
		if v := reflect.ValueOf(c); v.Kind() == reflect.Pointer && v.IsNil() {
			return true
		}
		inner, wraps := unwrap(c)
		if !wraps {
			return false
		}
		c = inner
	}
	return true
}
