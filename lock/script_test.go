package lock_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/lock"
)

// TestWhatScriptsDo counts the commands that the scripts execute on a single node, which is what they cost the server.
func TestWhatScriptsDo(t *testing.T) {
	t.Parallel()
	type counted struct{ acquire, refused, refresh, release map[string]int64 }
	undisturbed(t, counted{
		acquire: map[string]int64{"get": 1, "exists": 1, "time": 1, "set": 2},
		refused: map[string]int64{"get": 1, "pttl": 1},
		refresh: map[string]int64{"get": 1, "pexpire": 1},
		release: map[string]int64{"get": 1, "del": 1, "zpopmin": 1},
	}, func() (counts counted) {
		server, m := setup(t)
		other := newManager(t, newClient(t, server.Addr()))
		count := func(act func()) map[string]int64 {
			server.ResetCommands(t)
			act()
			calls := server.Commands(t)
			delete(calls, "evalsha")
			delete(calls, "eval") // the first run of a script carries its source
			return calls
		}
		var l *lock.RedisLock
		refused := func() {
			_, err := other.Acquire(t.Context(), "job", longTTL)
			require.ErrorIs(t, err, lock.ErrLockNotAcquired)
		}
		release := func() { require.NoError(t, l.Release(t.Context())) }
		l = acquire(t, m, "job", longTTL)
		refused()
		release()

		counts.acquire = count(func() { l = acquire(t, m, "job", longTTL) })
		counts.refused = count(refused)
		counts.refresh = count(func() { require.NoError(t, l.Refresh(t.Context())) })
		counts.release = count(release)
		return counts
	})
}
