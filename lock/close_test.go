package lock_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/lock"
)

// keysOfLocks returns those of all locks that a server has.
func keysOfLocks(t *testing.T, server *redistest.Server) []string {
	t.Helper()
	return server.Client(t).Keys(t.Context(), "cache:lock:{*}").Val()
}

// TestCloseSaysWhetherAKeyMayBeLeft: a manager that holds a lock, waits for it and has just failed to get others is closed
// while Redis stalls. Where Close returns no error there is no key of it, now or later.
func TestCloseSaysWhetherAKeyMayBeLeft(t *testing.T) {
	t.Parallel()
	onOneAndThree(t, func(t *testing.T, count int) { //nolint:thelper // a test
		for name, test := range map[string]struct {
			stall, patience, node time.Duration
			fails                 bool
			rounds                int
		}{
			"no patience":        {stall: 400 * time.Millisecond, patience: 100 * time.Millisecond, fails: true, rounds: 3},
			"patience":           {stall: 400 * time.Millisecond, patience: patience, rounds: 3},
			"impatient nodes":    {stall: 400 * time.Millisecond, patience: patience, node: 200 * time.Millisecond, rounds: 3},
			"long stall":         {stall: 4 * time.Second, patience: patience, fails: true, rounds: 1},
			"impatient and long": {stall: 4 * time.Second, patience: patience, node: 200 * time.Millisecond, fails: true, rounds: 1},
			"no stall":           {patience: patience, rounds: 3},
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				servers := redistest.StartN(t, count)
				var opts []lock.Option
				if test.node > 0 {
					opts = append(opts, lock.WithNodeTimeout(test.node))
				}
				for range test.rounds {
					for _, s := range servers { // what the last round may have left
						require.NoError(t, s.Client(t).FlushAll(t.Context()).Err())
					}
					m := managerOn(t, clientsOf(t, servers), opts...)
					warmUp(t, m)
					acquire(t, m, "job", longTTL)
					acquire(t, m, "other", longTTL)
					ctx, cancel := context.WithCancel(t.Context())
					var all sync.WaitGroup
					all.Go(func() {
						_, err := m.AcquireWait(ctx, "job", longTTL)
						if !errors.Is(err, lock.ErrRedis) { // on a busy machine the first question may fail
							assert.ErrorIs(t, err, lock.ErrManagerClosed)
						}
					})
					length := queueLength(t, servers[0])
					require.Eventually(t, func() bool { return length() == 1 }, patience, tick)
					if test.stall > 0 {
						for _, s := range servers {
							require.NoError(t, s.Client(t).Do(ctx, "CLIENT", "PAUSE", test.stall.Milliseconds(), "ALL").Err())
						}
					}
					for _, resource := range []string{"tried", "waited for"} {
						all.Go(func() { // under way when the manager is closed
							call := m.TryAcquire
							if resource != "tried" {
								call = m.AcquireWait
							}
							_, _ = call(ctx, resource, longTTL)
						})
					}
					hold(20 * time.Millisecond)
					limit, end := context.WithTimeout(t.Context(), test.patience)
					err := m.Close(limit)
					end()
					if test.fails {
						require.Error(t, err)
					}
					// The pause is over when the next command is answered. What is under way by then comes within moments.
					for _, s := range servers {
						require.Eventually(t, func() bool {
							return s.Client(t).Ping(t.Context()).Err() == nil
						}, patience, tick)
					}
					if err == nil {
						for end := time.Now().Add(200 * time.Millisecond); time.Now().Before(end); hold(tick) {
							for _, s := range servers {
								for _, key := range keysOfLocks(t, s) {
									assert.True(t, strings.HasSuffix(key, ":fence"), "%s is left", key)
								}
							}
						}
					}
					cancel()
					all.Wait()
					for _, s := range servers {
						require.NoError(t, s.Client(t).FlushAll(t.Context()).Err())
					}
				}
			})
		}
	})
}

// TestCloseWhileRedisHangs: it cannot remove what it holds, and says so.
func TestCloseWhileRedisHangs(t *testing.T) {
	t.Parallel()
	onOneAndThree(t, func(t *testing.T, count int) { //nolint:thelper // a test
		servers := redistest.StartN(t, count)
		m := managerOn(t, clientsOf(t, servers), lock.WithNodeTimeout(300*time.Millisecond))
		warmUp(t, m)
		l := acquire(t, m, "job", longTTL)
		lost := l.Lost()
		for _, s := range servers {
			s.Stop()
			defer s.Continue()
		}
		err := m.Close(t.Context())
		require.ErrorIs(t, err, lock.ErrRedis, "the key is there")
		wait(t, lost, "the end of the manager")
		require.ErrorIs(t, l.Release(t.Context()), lock.ErrManagerClosed)
		require.NotErrorIs(t, err, context.DeadlineExceeded, "nobody set one")
	})
}
