package fxtest_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/embedded"
	cachetest "github.com/compozy/cache/fxtest"
	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/lock"
	"github.com/compozy/cache/notification"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// inMemory returns a client of an embedded server of its own.
func inMemory(t testing.TB) *redis.Client {
	server := embedded.New()
	client := redis.NewClient(&redis.Options{
		Dialer:                   server.Dial,
		ContextTimeoutEnabled:    true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
	t.Cleanup(func() {
		assert.NoError(t, client.Close())
		assert.NoError(t, server.Close())
	})
	return client
}

func lockManager(t testing.TB, client redis.UniversalClient, opts ...lock.Option) *lock.RedisLockManager {
	m, err := lock.NewRedisLockManager(client, opts...)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, m.Close(context.Background())) })
	return m
}

// LockManagerContract is for fakes that are no Lockers; LockerContract contains it.
func TestLockManagerContractFake(t *testing.T) {
	t.Parallel()
	cachetest.LockManagerContract(t, func(testing.TB) lock.LockManager { return cachetest.NewLockManager() })
}

func TestLockerContractFake(t *testing.T) {
	t.Parallel()
	cachetest.LockerContract(t, func(testing.TB) lock.Locker { return cachetest.NewLockManager() })
}

func TestLockerContractRedis(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	cachetest.LockerContract(t, func(t testing.TB) lock.Locker { return lockManager(t, server.Client(t)) })
}

func TestLockerContractThreeMasters(t *testing.T) {
	t.Parallel()
	servers := redistest.StartN(t, 3)
	cachetest.LockerContract(t, func(t testing.TB) lock.Locker {
		var nodes []redis.UniversalClient
		for _, s := range servers {
			nodes = append(nodes, s.Client(t))
		}
		return lockManager(t, nodes[0], lock.WithNodes(nodes...))
	})
}

func TestLockerContractEmbedded(t *testing.T) {
	t.Parallel()
	cachetest.LockerContract(t, func(t testing.TB) lock.Locker { return lockManager(t, inMemory(t)) })
}

// Without a Close the contract checks the rest.
func TestLockerContractWithoutClose(t *testing.T) {
	t.Parallel()
	cachetest.LockerContract(t, func(testing.TB) lock.Locker { return struct{ lock.Locker }{cachetest.NewLockManager()} })
}

func notifications(t testing.TB, client redis.UniversalClient, opts ...notification.Option) notification.NotificationSystem {
	s, err := notification.NewRedisNotificationSystem(client, opts...)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, s.Close()) })
	return s
}

func TestNotificationSystemContractFake(t *testing.T) {
	t.Parallel()
	cachetest.NotificationSystemContract(t, func(testing.TB) notification.NotificationSystem {
		return cachetest.NewNotificationSystem()
	})
}

func TestNotificationSystemContractRedis(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	cachetest.NotificationSystemContract(t, func(t testing.TB) notification.NotificationSystem {
		return notifications(t, server.Client(t))
	})
}

func TestNotificationSystemContractWithoutHistory(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	cachetest.NotificationSystemContract(t, func(t testing.TB) notification.NotificationSystem {
		return notifications(t, server.Client(t), notification.WithHistory(0, 0))
	})
}

func TestNotificationSystemContractEmbedded(t *testing.T) {
	t.Parallel()
	cachetest.NotificationSystemContract(t, func(t testing.TB) notification.NotificationSystem {
		return notifications(t, inMemory(t))
	})
}
