package lock_test

import (
	"context"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/lock"
)

// TestNobodyWaitsForAHungMasterWhenTheOthersHaveDecided: by what they say, or as they fail. All who ask say the same.
func TestNobodyWaitsForAHungMasterWhenTheOthersHaveDecided(t *testing.T) {
	t.Parallel()
	const key = "cache:lock:{job}"
	gone := func(ctx context.Context, c *redis.Client) error { return c.Del(ctx, key).Err() }
	stolen := func(ctx context.Context, c *redis.Client) error { return c.Set(ctx, key, "other#1", time.Hour).Err() }
	broken := func(ctx context.Context, c *redis.Client) error {
		return c.Do(ctx, "ACL", "SETUSER", "default", "-eval", "-evalsha").Err()
	}
	for name, c := range map[string]struct {
		first, second func(ctx context.Context, c *redis.Client) error
		err           error
	}{
		"gone":            {gone, gone, lock.ErrLockExpired},
		"stolen":          {stolen, stolen, lock.ErrLockStolen},
		"gone and stolen": {gone, stolen, lock.ErrLockStolen},
		"broken":          {broken, broken, lock.ErrRedis},
	} {
		for verb, do := range map[string]func(context.Context, *lock.RedisLock) error{
			"release": func(ctx context.Context, l *lock.RedisLock) error { return l.Release(ctx) },
			"refresh": func(ctx context.Context, l *lock.RedisLock) error { return l.Refresh(ctx) },
		} {
			t.Run(verb+" "+name, func(t *testing.T) {
				t.Parallel()
				servers, manager := setupNodes(t)
				m := manager(lock.WithNodeTimeout(time.Hour)) // for a single call
				l := acquire(t, m, "job", time.Hour)
				everywhere(t, servers, true)
				servers[2].Stop()
				defer servers[2].Continue()
				require.NoError(t, c.first(t.Context(), servers[0].Client(t)))
				require.NoError(t, c.second(t.Context(), servers[1].Client(t)))
				done := make(chan error, 1)
				go func() { done <- do(context.Background(), l) }()
				select {
				case err := <-done:
					require.ErrorIs(t, err, c.err)
				case <-time.After(patience):
					require.FailNow(t, "waited for what does not matter")
				}
			})
		}
	}
}

// TestAcquireOfMastersThatFail: two say so at once, so that the third has no say.
func TestAcquireOfMastersThatFail(t *testing.T) {
	t.Parallel()
	servers, manager := setupNodes(t)
	m := manager(lock.WithNodeTimeout(time.Hour))
	require.NoError(t, acquire(t, m, "warm", longTTL).Release(t.Context()))
	for _, s := range servers[:2] {
		require.NoError(t, s.Client(t).RPush(t.Context(), "cache:lock:{job}", "x").Err())
	}
	servers[2].Stop()
	defer servers[2].Continue()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	_, err := m.Acquire(ctx, "job", time.Hour)
	require.ErrorIs(t, err, lock.ErrRedis)
}
