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

	"github.com/stretchr/testify/require"
	"go.uber.org/fx"

	"github.com/compozy/cache"
	"github.com/compozy/cache/internal/redistest"
)

const (
	// holderEnv makes the test binary an application that holds a lock.
	holderEnv = "CACHE_TEST_HOLDER"
	holderTTL = 1500 * time.Millisecond
)

// holdInProcess is that application. It is configured by REDIS_URL, as any other,
// says when it has the lock, and runs until it is killed or told to stop.
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
			holder := startHolder(t, server)
			// Longer than the TTL: the lock is renewed.
			for renewed := time.Now().Add(holderTTL); time.Now().Before(renewed); {
				_, err := locks.Acquire(ctx, "job", time.Minute)
				require.ErrorIs(t, err, cache.ErrLockNotAcquired)
			}

			require.NoError(t, holder.Process.Signal(end.signal))
			_ = holder.Wait() // says that it was killed, if it was

			_, err := locks.Acquire(ctx, "job", time.Minute)
			if !end.held {
				require.NoError(t, err)
				return
			}
			require.ErrorIs(t, err, cache.ErrLockNotAcquired)
			eventually(t, "the TTL is over", func() bool {
				_, err = locks.Acquire(ctx, "job", time.Minute)
				return !errors.Is(err, cache.ErrLockNotAcquired)
			})
			require.NoError(t, err)
		})
	}
}
