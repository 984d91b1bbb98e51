package lock_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/lock"
)

// holderEnv makes the test binary a process that holds a lock on the server it names, with the TTL that follows.
const holderEnv = "LOCK_TEST_HOLDER"

// holdInProcess is what that process does: it takes "job", looks at it all the time, and says when it knew last that it
// held it. It ends with its input.
func holdInProcess(task string) {
	addr, text, _ := strings.Cut(task, " ")
	ttl, err := time.ParseDuration(text)
	if err != nil {
		panic(err)
	}
	client := redis.NewClient(&redis.Options{Addr: addr, ContextTimeoutEnabled: true})
	m, err := lock.NewRedisLockManager(client)
	if err != nil {
		panic(err)
	}
	l, err := m.AcquireWait(context.Background(), "job", ttl)
	if err != nil {
		panic(err)
	}
	var last, until time.Time
	for {
		deadline := l.Until()
		now := time.Now()
		if !l.IsHeld() {
			break
		}
		if last.IsZero() {
			fmt.Println(l.Token()) // only now may it be stopped: it has seen once that it holds the lock
		}
		last, until = now, deadline
		select {
		case <-l.Lost():
		case <-time.After(time.Millisecond):
		}
	}
	fmt.Println(last.UnixNano(), until.UnixNano(), time.Now().UnixNano())
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// holderTTL is for holders whose lock is to run out: it must last until they are stopped.
const holderTTL = 3 * time.Second

// holder is such a process.
type holder struct {
	cmd   *exec.Cmd
	out   *bufio.Reader
	token int64
}

// startHolder returns a process that holds "job".
func startHolder(t testing.TB, server *redistest.Server, ttl time.Duration) *holder {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), holderEnv+"="+server.Addr()+" "+ttl.String())
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	h := &holder{cmd: cmd, out: bufio.NewReader(out)}
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Process.Signal(syscall.SIGCONT)
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	_, err = fmt.Fscanln(h.out, &h.token)
	require.NoError(t, err)
	return h
}

func TestStoppedHolderKnowsAtOnceWhenItGoesOn(t *testing.T) {
	t.Parallel()
	server, m := setup(t)
	h := startHolder(t, server, holderTTL)
	require.NoError(t, h.cmd.Process.Signal(syscall.SIGSTOP))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	l, err := m.AcquireWait(ctx, "job", longTTL)
	require.NoError(t, err)
	start := time.Now()
	require.NoError(t, h.cmd.Process.Signal(syscall.SIGCONT))

	var last, until, told int64
	_, err = fmt.Fscanln(h.out, &last, &until, &told)
	require.NoError(t, err)
	assert.Less(t, last, until, "it never believed beyond Until")
	assert.Less(t, until, start.UnixNano(), "which was over when the next one got the lock")
	assert.Greater(t, told, start.UnixNano(), "it was stopped in between")
	assert.Greater(t, l.Token(), h.token)
	assert.True(t, l.IsHeld(), "the former holder's renewal changed nothing")
	require.NoError(t, l.Refresh(t.Context()))
	require.NoError(t, l.Release(t.Context()))
}

func TestKilledHolderIsFollowedAfterItsTTL(t *testing.T) {
	t.Parallel()
	server, m := setup(t)
	h := startHolder(t, server, longTTL)
	require.NoError(t, h.cmd.Process.Kill())
	_, err := m.Acquire(t.Context(), "job", longTTL)
	require.ErrorIs(t, err, lock.ErrLockNotAcquired)
	client := server.Client(t)
	left := client.PTTL(t.Context(), "cache:lock:{job}").Val()
	assert.Positive(t, left)
	assert.LessOrEqual(t, left, longTTL)
	require.NoError(t, client.PExpire(t.Context(), "cache:lock:{job}", 500*time.Millisecond).Err()) // nearly over
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	l, err := m.AcquireWait(ctx, "job", longTTL)
	require.NoError(t, err)
	assert.Greater(t, l.Token(), h.token)
}

func TestStoppedHolderIsToldBeforeRedisForgets(t *testing.T) {
	t.Parallel()
	server, _ := setup(t)
	h := startHolder(t, server, holderTTL)
	server.Stop()
	stopped := time.Now()
	var last, until, told int64
	_, err := fmt.Fscanln(h.out, &last, &until, &told)
	require.NoError(t, err)
	assert.Less(t, until, stopped.Add(holderTTL).UnixNano(), "nothing was confirmed any more")
	assert.Less(t, last, until, "it never believed beyond Until")
}
