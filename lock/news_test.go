package lock

import (
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// TestLatestNewsIsKept: a contender is busy asking, and is told of those ahead of it until it is told that the lock is its own.
func TestLatestNewsIsKept(t *testing.T) {
	t.Parallel()
	client := redis.NewClient(&redis.Options{}) // never used
	m, err := NewRedisLockManager(client)
	require.NoError(t, err)
	defer func() {
		require.NoError(t, m.Close(t.Context()))
		require.NoError(t, client.Close())
	}()
	c := newContender(m, "job")
	m.waiters.byName["me"] = c
	for ahead := range 2 * int64(cap(c.news)) {
		m.waiters.deliver(news{value: "me", token: ahead - 2*int64(cap(c.news))})
	}
	const token = 7
	m.waiters.deliver(news{value: "me", token: token})
	var last news
	for len(c.news) > 0 {
		last = <-c.news
	}
	require.EqualValues(t, token, last.token)
	delete(m.waiters.byName, "me")
}
