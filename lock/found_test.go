package lock_test

import (
	"context"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/lock"
)

// TestLossThatACallFinds: whoever listens hears of it, and it is counted, as if the renewal had found it. Once.
func TestLossThatACallFinds(t *testing.T) {
	t.Parallel()
	harms := map[string]struct {
		inflict func(context.Context, *redis.Client) error
		cause   error
	}{
		"deleted": {func(ctx context.Context, c *redis.Client) error {
			return c.Del(ctx, "cache:lock:{job}").Err()
		}, lock.ErrLockExpired},
		"stolen": {func(ctx context.Context, c *redis.Client) error {
			return c.Set(ctx, "cache:lock:{job}", "thief", 0).Err()
		}, lock.ErrLockStolen},
	}
	calls := map[string]func(*lock.RedisLock, context.Context) error{
		"release": (*lock.RedisLock).Release, "refresh": (*lock.RedisLock).Refresh,
	}
	onOneAndThree(t, func(t *testing.T, count int) { //nolint:thelper // a test
		servers := redistest.StartN(t, count)
		for harm, h := range harms {
			for name, call := range calls {
				t.Run(name+" "+harm, func(t *testing.T) {
					m := managerOn(t, clientsOf(t, servers), lock.WithNodeTimeout(patience))
					l := acquire(t, m, "job", longTTL)
					lost, ctx := l.Lost(), l.Context()
					late := acquire(t, m, "other", longTTL) // nobody asks for its channel before
					require.NoError(t, late.Release(t.Context()))
					for _, s := range servers {
						require.NoError(t, h.inflict(t.Context(), s.Client(t)))
					}
					for range 2 {
						err := call(l, t.Context())
						require.ErrorIs(t, err, lock.ErrLockNotHeld)
						require.ErrorIs(t, err, h.cause)
					}
					wait(t, lost, "the channel from before")
					wait(t, l.Lost(), "the channel afterwards")
					wait(t, ctx.Done(), "the context from before")
					assert.False(t, l.IsHeld())
					got := m.GetMetrics()
					want := map[error]int64{h.cause: 1}
					assert.Equal(t, want[lock.ErrLockExpired], got.LostExpired)
					assert.Equal(t, want[lock.ErrLockStolen], got.LostStolen)
					assert.Zero(t, got.Held)
					select {
					case <-late.Lost():
						assert.Fail(t, "a released lock is not lost")
					default:
					}
					for _, s := range servers {
						require.NoError(t, s.Client(t).Del(t.Context(), "cache:lock:{job}").Err())
					}
				})
			}
		}
	})
}
