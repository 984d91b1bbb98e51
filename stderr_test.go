package cache_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"go.uber.org/fx"

	"github.com/compozy/cache"
	"github.com/compozy/cache/embedded"
	"github.com/compozy/cache/internal/redistest"
)

// quietEnv makes the test binary one of the programs in quietPrograms, whose stderr
// must stay empty: go-redis writes there what it thinks of its pools.
const quietEnv = "CACHE_TEST_QUIET"

// quietPrograms are configured by the environment, as any other. They say on stdout how
// far they are, and go on when they read a line.
var quietPrograms = map[string]func(ctx context.Context, in *bufio.Reader) error{
	"starts and stops": startAndStop,
	"port in use":      failToListen,
	"outage":           surviveOutage,
	"refused":          bearRefusal,
}

func runQuietly() {
	ctx, cancel := context.WithTimeout(context.Background(), 3*patience)
	defer cancel()
	err := quietPrograms[os.Getenv(quietEnv)](ctx, bufio.NewReader(os.Stdin))
	fmt.Println("done", err) // which the parent compares
}

// startAndStop starts an application 20 times, has it work, and stops it while others
// still do.
func startAndStop(ctx context.Context, _ *bufio.Reader) error {
	for range 20 {
		var parts everything
		app := fx.New(fx.NopLogger, cache.Module, fx.Invoke(func(p everything) { parts = p }))
		if err := app.Start(ctx); err != nil {
			return err
		}
		sub := parts.Notification.Subscribe(ctx, "workflow:*")
		lock, err := parts.LockManager.Acquire(ctx, "job", time.Minute)
		if err != nil {
			return err
		}
		if err := parts.Notification.PublishWorkflowEvent(ctx, &cache.WorkflowEvent{ID: "w", Status: "s"}); err != nil {
			return err
		}
		select {
		case <-sub.Messages():
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := lock.Release(ctx); err != nil {
			return err
		}
		stopped, busy := make(chan struct{}), sync.WaitGroup{}
		for range 4 {
			busy.Go(func() {
				for i := 0; ; i++ {
					select {
					case <-stopped:
						return
					default:
						// They fail once the application stops.
						parts.Redis.Get(ctx, "k")
						_, _ = parts.Redis.Pipelined(ctx, func(p redis.Pipeliner) error { p.Get(ctx, "k"); return nil })
					}
				}
			})
		}
		err = app.Stop(ctx)
		close(stopped)
		busy.Wait()
		if err != nil {
			return err
		}
	}
	return nil
}

// failToListen starts an application whose embedded server finds its port taken.
func failToListen(ctx context.Context, _ *bufio.Reader) error {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer taken.Close()
	app := fx.New(fx.NopLogger, cache.Module, embedded.Module(embedded.WithAddr(taken.Addr().String())), fx.Invoke(func(everything) {}))
	if err := app.Start(ctx); err == nil || !strings.Contains(err.Error(), "in use") {
		return fmt.Errorf("the port is taken, but: %w", err)
	}
	return app.Stop(ctx)
}

// surviveOutage works, waits for the server to go, tries to work, and works again.
func surviveOutage(ctx context.Context, in *bufio.Reader) error {
	c, err := cache.SetupCache(ctx, nil)
	if err != nil {
		return err
	}
	defer c.Close()
	sub := c.Notification.Subscribe(ctx, "workflow:*")
	lock, err := c.LockManager.Acquire(ctx, "job", time.Second)
	if err != nil {
		return err
	}
	fmt.Println("up")
	if _, err := in.ReadString('\n'); err != nil {
		return err
	}
	<-lock.(*cache.RedisLock).Lost()
	for range 20 {
		c.Redis.Get(ctx, "k")
		_ = c.HealthCheck(ctx)
		_, _ = c.LockManager.Acquire(ctx, "job", time.Second)
		_ = c.Notification.PublishWorkflowEvent(ctx, &cache.WorkflowEvent{ID: "lost", Status: "s"})
	}
	fmt.Println("down")
	if _, err := in.ReadString('\n'); err != nil {
		return err
	}
	for c.HealthCheck(ctx) != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	if err := c.Notification.PublishWorkflowEvent(ctx, &cache.WorkflowEvent{ID: "w", Status: "s"}); err != nil {
		return err
	}
	select {
	case <-sub.Messages():
	case <-ctx.Done():
		return ctx.Err()
	}
	return c.Close()
}

// bearRefusal subscribes as a user who may not use the channel of the heartbeats.
func bearRefusal(ctx context.Context, _ *bufio.Reader) error {
	c, err := cache.SetupCache(ctx, nil)
	if err != nil {
		return err
	}
	defer c.Close()
	c.Notification.Subscribe(ctx, "workflow:*")
	for range 3 {
		if err := c.HealthCheck(ctx); !errors.Is(err, cache.ErrNotLive) {
			return fmt.Errorf("nothing is refused: %w", err)
		}
	}
	return c.Close()
}

// quiet runs one of the programs, hands what it says to steps, and expects it to end
// well with nothing on stderr.
func quiet(t *testing.T, program string, environment []string, steps map[string]func()) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^$")
	cmd.Env = append(append(os.Environ(), quietEnv+"="+program), environment...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	said := bufio.NewScanner(out)
	last := ""
	for said.Scan() {
		last = said.Text()
		if step := steps[last]; step != nil {
			step()
			_, err := io.WriteString(in, "\n")
			require.NoError(t, err)
		}
	}
	require.NoError(t, cmd.Wait(), "%s\n%s", last, &stderr)
	require.Equal(t, "done <nil>", last)
	require.Empty(t, stderr.String())
}

func TestNothingOnStderr(t *testing.T) {
	t.Parallel()
	t.Run("starts and stops", func(t *testing.T) {
		t.Parallel()
		quiet(t, "starts and stops", []string{"REDIS_URL=" + redistest.Start(t).URL()}, nil)
	})
	t.Run("starts and stops with TLS", func(t *testing.T) {
		t.Parallel()
		server := redistest.Start(t, redistest.WithTLS())
		quiet(t, "starts and stops", []string{"REDIS_URL=" + server.URL(), "REDIS_TLS_CA_FILE=" + server.CAFile()}, nil)
	})
	t.Run("starts and stops with lock nodes", func(t *testing.T) {
		t.Parallel()
		servers := redistest.StartN(t, 4)
		nodes := servers[1].Addr() + "," + servers[2].Addr() + "," + servers[3].Addr()
		quiet(t, "starts and stops", []string{"REDIS_URL=" + servers[0].URL(), "REDIS_LOCK_NODES=" + nodes}, nil)
	})
	t.Run("starts and stops with a cluster", func(t *testing.T) {
		t.Parallel()
		addrs := strings.Join(redistest.StartCluster(t, 3).Addrs(), ",")
		quiet(t, "starts and stops", []string{"REDIS_CLUSTER=true", "REDIS_ADDRS=" + addrs}, nil)
	})
	t.Run("port in use", func(t *testing.T) {
		t.Parallel()
		quiet(t, "port in use", nil, nil)
	})
	t.Run("outage", func(t *testing.T) {
		t.Parallel()
		server := redistest.Start(t)
		quiet(t, "outage", []string{"REDIS_URL=" + server.URL()}, map[string]func(){"up": server.Kill, "down": server.Restart})
	})
	t.Run("heartbeats refused", func(t *testing.T) {
		t.Parallel()
		server := redistest.Start(t, redistest.WithConfig("user", "app on >pw ~* +@all resetchannels &cache:probe &workflow:*"))
		quiet(t, "refused", []string{"REDIS_URL=redis://app:pw@" + server.Addr()}, nil)
	})
}
