package redistest

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// quiet returns a client that sends nothing when it connects but what it must.
func quiet(t *testing.T, server *Server) *redis.Client {
	t.Helper()
	opts := server.Options()
	opts.DisableIdentity = true
	client := redis.NewClient(opts)
	t.Cleanup(func() { _ = client.Close() })
	require.NoError(t, client.Ping(within(t, 10*time.Second)).Err())
	return client
}

func TestCommands(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string][]Option{
		"plain":    nil,
		"password": {WithPassword("secret")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := Start(t, opts...)
			require.Empty(t, server.Commands(t), "starting leaves no trace")
			ctx := within(t, 10*time.Second)
			client := quiet(t, server)

			server.ResetCommands(t)
			require.Empty(t, server.Commands(t))
			require.Empty(t, server.Commands(t), "asking leaves no trace")
			require.NoError(t, client.Set(ctx, "k", "v", 0).Err())
			require.NoError(t, client.Set(ctx, "k", "v", 0).Err())
			require.NoError(t, client.Eval(ctx, "return redis.call('GET', KEYS[1])", []string{"k"}).Err())
			require.NoError(t, client.Info(ctx).Err())
			require.NoError(t, client.ConfigGet(ctx, "save").Err())
			want := map[string]int64{"set": 2, "eval": 1, "get": 1, "info": 1, "config|get": 1}
			require.Equal(t, want, server.Commands(t))
			require.Equal(t, want, server.Commands(t))

			server.ResetCommands(t)
			require.Empty(t, server.Commands(t))
		})
	}
}

func TestCommandsBeginAnewAfterRestart(t *testing.T) {
	t.Parallel()
	server := Start(t)
	require.NoError(t, quiet(t, server).Set(within(t, 10*time.Second), "k", "v", 0).Err())
	require.NotEmpty(t, server.Commands(t))
	server.Restart()
	require.Empty(t, server.Commands(t))
}

func TestCPUGrowsWithWork(t *testing.T) {
	t.Parallel()
	server := Start(t)
	before := server.CPU(t)
	require.Positive(t, before)
	require.Eventually(t, func() bool {
		_, err := server.send("EVAL", "for i = 1, 1e6 do end", "0")
		return err == nil && server.CPU(t) > before+10*time.Millisecond
	}, 10*time.Second, time.Millisecond)
}
