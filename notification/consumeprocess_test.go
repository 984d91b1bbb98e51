package notification_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/internal/redisx"
	"github.com/compozy/cache/notification"
)

// memberEnv makes the test binary a member of a group, on the server that it names.
const memberEnv = "NOTIFICATION_TEST_MEMBER"

// claimAfter is that of the processes in these tests.
const claimAfter = time.Second

// beMember is that member. It says what it does on its standard output: "ready", and "begin <n>" and "end <n>" of each event,
// which takes a moment. Event -1 kills it; it never ends event -2.
func beMember(addr string) {
	n, err := notification.NewRedisNotificationSystem(redis.NewClient(&redis.Options{Addr: addr, ReadTimeout: time.Second}))
	if err != nil {
		fmt.Println("failed", err)
		return
	}
	err = notification.Consume(context.Background(), n, "g", "k", func(ctx context.Context, v numbered) error {
		fmt.Println("begin", v.N)
		switch v.N {
		case -1:
			os.Exit(3)
		case -2:
			select {}
		}
		_ = redisx.Sleep(ctx, 5*time.Millisecond)
		fmt.Println("end", v.N)
		return nil
	}, notification.WithReady(func() { fmt.Println("ready") }), notification.WithClaimAfter(claimAfter),
		notification.WithMaxAttempts(3), notification.WithBackoff(10*time.Millisecond, time.Second))
	fmt.Println("failed", err)
}

// startMember starts such a process, and returns it with what it says, once it is ready.
func startMember(tb testing.TB, server *redistest.Server) (*exec.Cmd, <-chan string) {
	tb.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), memberEnv+"="+server.Addr())
	out, err := cmd.StdoutPipe()
	require.NoError(tb, err)
	require.NoError(tb, cmd.Start())
	lines := make(chan string, 10_000)
	read := make(chan struct{})
	go func() {
		defer close(read)
		for scanner := bufio.NewScanner(out); scanner.Scan(); {
			lines <- scanner.Text()
		}
		close(lines)
	}()
	tb.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-read
		_ = cmd.Wait()
	})
	require.Equal(tb, "ready", line(tb, lines))
	return cmd, lines
}

func line(tb testing.TB, lines <-chan string) string {
	tb.Helper()
	select {
	case l := <-lines:
		return l
	case <-time.After(patience):
		require.FailNow(tb, "the process says nothing")
		return ""
	}
}

// Processes are killed, and frozen, in the middle of their work. Every event is handled, by those that are left.
func TestConsumeSurvivesProcesses(t *testing.T) {
	t.Parallel()
	for name, signal := range map[string]syscall.Signal{"killed": syscall.SIGKILL, "frozen": syscall.SIGSTOP} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t)
			n := newSystem(t, server.Client(t))
			victim, lines := startMember(t, server)
			publish(t, n, "k", -2, -2)
			require.Equal(t, "begin -2", line(t, lines))
			publish(t, n, "k", 1, 30)
			require.NoError(t, victim.Process.Signal(signal))
			publish(t, n, "k", 31, 60)
			w := newWork()
			consume(t, n, "g", "k", w.handled, notification.WithClaimAfter(claimAfter))
			w.first(t, 61)
			for _, c := range w.all() {
				claimed := c.n == -2
				assert.Equal(t, claimed, c.redelivered, c.n)
				assert.Equal(t, claimed, c.attempt == 2, c.n)
			}
			assert.Len(t, w.all(), 61, "each once")
			assert.EqualValues(t, 1, n.GetMetrics().EventsClaimed)
			if signal == syscall.SIGSTOP { // it wakes up, and works on
				require.NoError(t, victim.Process.Signal(syscall.SIGCONT))
			}
			publish(t, n, "k", 61, 90)
			w.first(t, 91)
		})
	}
}

// An event that kills each process that gets it is given up, and the others go on.
func TestConsumeGivesUpWhatKills(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	n := newSystem(t, server.Client(t))
	victim, _ := startMember(t, server)
	publish(t, n, "k", -1, -1)
	for range 3 {
		err := victim.Wait()
		var exit *exec.ExitError
		require.ErrorAs(t, err, &exit)
		require.Equal(t, 3, exit.ExitCode())
		victim, _ = startMember(t, server)
	}
	publish(t, n, "k", 1, 1)
	var letters []*notification.DeadLetter
	require.Eventually(t, func() bool {
		letters = nil
		for letter, err := range n.DeadLetters(t.Context(), "g") {
			require.NoError(t, err)
			letters = append(letters, letter)
		}
		return len(letters) == 1
	}, patience, 50*time.Millisecond)
	assert.Contains(t, letters[0].Error, "sign of life")
	assert.NoError(t, victim.Process.Signal(syscall.Signal(0)), "the last one lives")
}

// Closing the system lets functions end what they have begun, within its budget, and then cancels them.
func TestCloseEndsConsume(t *testing.T) {
	t.Parallel()
	client := redistest.Start(t).Client(t)
	for name, patient := range map[string]bool{"within the budget": true, "beyond the budget": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newSystem(t, client)
			begun, finish := make(chan struct{}), make(chan struct{})
			result := make(chan error, 1)
			go func() {
				result <- notification.Consume(context.Background(), n, name, "k", func(ctx context.Context, _ numbered) error {
					close(begun)
					select {
					case <-finish:
						return ctx.Err()
					case <-ctx.Done():
						return context.Cause(ctx)
					}
				}, notification.WithFrom(""))
			}()
			publish(t, n, "k", 1, 1)
			<-begun
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			closed := make(chan error, 1)
			go func() { closed <- n.Shutdown(ctx) }()
			require.Eventually(t, func() bool {
				s, ok := n.Subscribe(t.Context(), "other").(*notification.Subscription)
				return ok && errors.Is(s.Err(), notification.ErrClosed)
			}, patience, time.Millisecond)
			require.NoError(t, n.Publish(t.Context(), "results", numbered{2}), "as functions that end may do")
			if patient {
				close(finish)
				require.NoError(t, <-closed)
			} else {
				cancel()
				require.ErrorIs(t, <-closed, context.Canceled)
			}
			require.ErrorIs(t, <-result, notification.ErrClosed)
			require.ErrorIs(t, n.Publish(t.Context(), "k", numbered{2}), notification.ErrClosed)
			handled := int64(0)
			if patient {
				handled = 1
			}
			assert.Equal(t, handled, n.GetMetrics().EventsConsumed)
			assert.Zero(t, n.GetMetrics().HandlerErrors)
		})
	}
}
