package client

import (
	"context"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/config"
	"github.com/compozy/cache/internal/redistest"
)

// A command under way ends with Close, with the error that its comment names.
func TestCloseEndsCommands(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		retries int
		want    error
	}{
		"may be repeated": {3, redis.ErrClosed},
		"is sent once":    {-1, net.ErrClosed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := redistest.Start(t)
			r := ready(t, &config.Config{URL: srv.URL(), MaxRetries: test.retries, ReadTimeout: time.Hour})
			ctx := context.Background()
			got := make(chan error, 2)
			go func() { got <- r.BLPop(ctx, 0, "none").Err() }()
			go func() {
				_, err := r.Pipelined(ctx, func(p redis.Pipeliner) error { return p.BLPop(ctx, 0, "none").Err() })
				got <- err
			}()
			admin := srv.Client(t)
			eventually(t, func() bool { return infoField(admin.Info(ctx, "clients").Val(), "blocked_clients") == "2" }, "both wait")
			require.NoError(t, r.Close())
			for range 2 {
				select {
				case err := <-got:
					require.ErrorIs(t, err, test.want)
				case <-time.After(patience):
					t.Fatal("a command still waits")
				}
			}
		})
	}
}

// A hook that does not return within a round of the idleKeeper costs Close what other commands may take, and no more.
func TestCloseWaitsOnceForTheIdleKeeper(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		called, release := make(chan struct{}), make(chan struct{})
		r, err := New(&config.Config{MinIdleConns: 1, Dialer: func(context.Context, string, string) (net.Conn, error) {
			near, _ := net.Pipe()
			return near, nil
		}})
		require.NoError(t, err)
		r.AddHook(faulty{command: "hello", fault: func() {
			close(called)
			<-release
		}})
		r.Open()
		<-called
		began := time.Now()
		require.NoError(t, r.Close())
		require.Less(t, time.Since(began), closeGrace+closeLimit+100*time.Millisecond)
		close(release)
		synctest.Wait()
	})
}
