package redisx_test

import (
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/compozy/cache/internal/redisx"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// wrapper is a client around another.
type wrapper struct{ redis.UniversalClient }

func (w wrapper) Unwrap() redis.UniversalClient { return w.UniversalClient }

// opaque is one that does not say what is in it.
type opaque struct{ redis.UniversalClient }

func TestUnwrap(t *testing.T) {
	t.Parallel()
	inner := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{"localhost:1"}})
	t.Cleanup(func() { _ = inner.Close() })
	for name, c := range map[string]redis.UniversalClient{
		"itself": inner, "wrapped": wrapper{inner}, "wrapped twice": wrapper{wrapper{inner}},
	} {
		found, ok := redisx.Unwrap[*redis.ClusterClient](c)
		require.True(t, ok, name)
		assert.Same(t, inner, found, name)
	}
	outer, ok := redisx.Unwrap[wrapper](wrapper{inner})
	require.True(t, ok, "the wrapper counts too")
	assert.Equal(t, inner, outer.UniversalClient)

	for name, c := range map[string]redis.UniversalClient{
		"nil": nil, "opaque": opaque{inner}, "wrapped nil": wrapper{}, "wrapped opaque": wrapper{opaque{inner}},
	} {
		_, ok := redisx.Unwrap[*redis.ClusterClient](c)
		assert.False(t, ok, name)
	}
	_, ok = redisx.Unwrap[*redis.Client](wrapper{inner})
	assert.False(t, ok, "another kind")
}
