package client

import (
	"context"
	"net"
	"testing"
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
