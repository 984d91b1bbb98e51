package lock

import (
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/client"
)

// TestHeeds: whether a client keeps deadlines decides how calls are made, so it must be known of wrapped ones too.
func TestHeeds(t *testing.T) {
	t.Parallel()
	ours, err := client.New(nil)
	require.NoError(t, err)
	for name, test := range map[string]struct {
		client redis.UniversalClient
		want   bool
	}{
		"package client's": {ours, true},
		"keeps":            {redis.NewClient(&redis.Options{ContextTimeoutEnabled: true}), true},
		"does not":         {redis.NewClient(&redis.Options{}), false},
		"cluster":          {redis.NewClusterClient(&redis.ClusterOptions{ContextTimeoutEnabled: true}), true},
		"slow cluster":     {redis.NewClusterClient(&redis.ClusterOptions{}), false},
		"unknown":          {struct{ redis.UniversalClient }{ours}, false},
	} {
		assert.Equal(t, test.want, heeds(test.client), name)
		if name != "unknown" { // which has another one's
			require.NoError(t, test.client.Close())
		}
	}
}
