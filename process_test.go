package cache_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/fx"

	"github.com/compozy/cache"
	"github.com/compozy/cache/internal/redistest"
)

const (
	// holderEnv makes the test binary an application that holds a lock.
	holderEnv = "CACHE_TEST_HOLDER"
	// holderTTL is so long that a busy machine does not lose the lock. Nothing waits
	// for it to pass.
	holderTTL = 10 * time.Second
	holderKey = "cache:lock:{job}"
)

// holdInProcess is that application. It is configured by REDIS_URL, as any other,
// says when it has the lock, and runs until it is killed or gets a signal to stop.
func holdInProcess() {
	fx.New(fx.NopLogger, cache.Module, fx.Invoke(func(lc fx.Lifecycle, locks cache.LockManager) {
		lc.Append(fx.StartHook(func(ctx context.Context) error {
			_, err := locks.Acquire(ctx, "job", holderTTL)
			fmt.Println("held", err)
			return err
		}))
	})).Run()
}

// startHolder returns the process when it has the lock.
func startHolder(t *testing.T, server *redistest.Server) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), holderEnv+"=1", "REDIS_URL="+server.URL())
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "held <nil>\n", line)
	return cmd
}

func TestLockOfAnotherProcess(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]struct {
		signal os.Signal
		held   bool // the lock is, after the process has gone
	}{
		"stopped in the orderly way": {os.Interrupt, false},
		"killed":                     {os.Kill, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t)
			var locks cache.LockManager
			startApp(t, server, fx.Populate(&locks))
			ctx := timeout(t)
			rdb := server.Client(t)
			holder := startHolder(t, server)
			left := rdb.PTTL(ctx, holderKey).Val()
			require.Positive(t, left)
			eventually(t, "the lock is renewed", func() bool {
				before := left
				left = rdb.PTTL(ctx, holderKey).Val()
				_, err := locks.Acquire(ctx, "job", time.Minute)
				return !assert.ErrorIs(t, err, cache.ErrLockNotAcquired) || left > before
			})

			require.NoError(t, holder.Process.Signal(end.signal))
			_ = holder.Wait() // says that it was killed, if it was

			_, err := locks.Acquire(ctx, "job", time.Minute)
			if !end.held {
				require.NoError(t, err)
				return
			}
			require.ErrorIs(t, err, cache.ErrLockNotAcquired)
			// Nobody renews it any more, so it ends with its TTL, of which the rest is cut off.
			require.True(t, rdb.PExpire(ctx, holderKey, time.Millisecond).Val())
			eventually(t, "the TTL is over", func() bool {
				_, err = locks.Acquire(ctx, "job", time.Minute)
				return !errors.Is(err, cache.ErrLockNotAcquired)
			})
			require.NoError(t, err)
		})
	}
}
