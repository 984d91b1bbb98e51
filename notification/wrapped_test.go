package notification_test

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/client"
	"github.com/compozy/cache/config"
)

// wrappedCluster returns the client that applications use, for a cluster.
func wrappedCluster(tb testing.TB, addrs []string) redis.UniversalClient {
	tb.Helper()
	c, err := client.NewRedis(tb.Context(), &config.Config{
		Cluster: true, Addrs: addrs, DialTimeout: time.Second, ReadTimeout: time.Second,
	})
	require.NoError(tb, err)
	tb.Cleanup(func() { _ = c.Close() })
	return c
}

// unopened returns such a client before the application has started.
func unopened(tb testing.TB, url string) redis.UniversalClient {
	tb.Helper()
	c, err := client.New(&config.Config{URL: url})
	require.NoError(tb, err)
	tb.Cleanup(func() { _ = c.Close() })
	return c
}

// errNotStarted is what that one answers to everything.
var errNotStarted = client.ErrNotStarted
