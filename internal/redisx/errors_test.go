package redisx_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/internal/redisx"
)

// classes are what is known of an error.
type classes struct{ reply, unsent, transient bool }

func check(t *testing.T, name string, want classes, err error) {
	t.Helper()
	require.Error(t, err, name)
	for _, err := range []error{err, fmt.Errorf("wrapped: %w", err)} {
		assert.Equal(t, want, classes{redisx.IsReply(err), redisx.IsUnsent(err), redisx.IsTransient(err)}, "%s: %v", name, err)
	}
}

// reply is an error of a server that is hard to make one say.
type reply string

func (e reply) Error() string { return string(e) }
func (reply) RedisError()     {}

func TestErrorsOfRealServers(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client := server.Client(t)
	ctx := t.Context()
	require.NoError(t, client.LPush(ctx, "list", 1).Err())
	check(t, "wrong type", classes{reply: true}, client.Incr(ctx, "list").Err())
	check(t, "unknown script", classes{reply: true}, client.EvalSha(ctx, "0000", nil).Err())
	require.True(t, redisx.IsUnknownScript(client.EvalSha(ctx, "0000", nil).Err()))
	check(t, "unknown command", classes{reply: true}, client.Do(ctx, "nonsense").Err())

	require.NoError(t, client.ConfigSet(ctx, "min-replicas-to-write", "1").Err())
	check(t, "no replicas", classes{reply: true, transient: true}, client.Set(ctx, "k", 1, 0).Err())
	script := redisx.NewScript(`return redis.call('SET', KEYS[1], 1)`)
	_, err := script.Run(ctx, client.Process, []string{"k"})
	check(t, "no replicas, in a script", classes{reply: true, transient: true}, err)
	require.NoError(t, client.ConfigSet(ctx, "min-replicas-to-write", "0").Err())

	require.NoError(t, client.ReplicaOf(ctx, "127.0.0.1", "1").Err())
	check(t, "replica", classes{reply: true, transient: true}, client.Set(ctx, "k", 1, 0).Err())
	_, err = script.Run(ctx, client.Process, []string{"k"})
	check(t, "replica, in a script", classes{reply: true, transient: true}, err)
	require.NoError(t, client.ReplicaOf(ctx, "no", "one").Err())

	options := server.Options()
	options.PoolSize, options.PoolTimeout, options.MaxRetries = 1, time.Millisecond, -1
	busy := redis.NewClient(options)
	t.Cleanup(func() { _ = busy.Close() })
	only := busy.Conn()
	require.NoError(t, only.Ping(ctx).Err())
	check(t, "no connection to spare", classes{unsent: true, transient: true}, busy.Ping(ctx).Err())
	require.NoError(t, only.Close())
	require.NoError(t, busy.Close())
	check(t, "closed client", classes{unsent: true}, busy.Ping(ctx).Err())

	options = server.Options()
	options.MaxRetries, options.ReadTimeout = -1, 200*time.Millisecond
	hasty := redis.NewClient(options)
	t.Cleanup(func() { _ = hasty.Close() })
	require.NoError(t, hasty.Ping(ctx).Err())
	server.Stop()
	check(t, "time-out", classes{transient: true}, hasty.Ping(ctx).Err())
	server.Continue()

	server.Kill()
	options.DialerRetries = 1
	late := redis.NewClient(options)
	t.Cleanup(func() { _ = late.Close() })
	check(t, "refused connection", classes{unsent: true, transient: true}, late.Ping(ctx).Err())
}

func TestOtherErrors(t *testing.T) {
	t.Parallel()
	check(t, "not started", classes{unsent: true}, redisx.ErrNotStarted)
	check(t, "no sentinel knows the master", classes{transient: true}, fmt.Errorf("all sentinels are unreachable: %w", redis.Nil))
	require.True(t, redisx.IsReply(redis.Nil))
	check(t, "EOF", classes{transient: true}, io.EOF)
	check(t, "canceled", classes{}, context.Canceled)
	check(t, "deadline", classes{transient: true}, context.DeadlineExceeded)
	check(t, "canceled, and more", classes{}, errors.Join(io.EOF, context.Canceled))
	for _, text := range []string{
		"LOADING Redis is loading", "MASTERDOWN Link with MASTER is down", "CLUSTERDOWN Hash slot not served",
		"TRYAGAIN Multiple keys request", "BUSY Redis is busy running a script", "UNBLOCKED force unblock",
		"ERR max number of clients reached",
	} {
		check(t, text, classes{reply: true, transient: true}, reply(text))
	}
	for _, text := range []string{"BUSYGROUP exists", "BUSYKEY exists", "NOPERM no", "OOM command not allowed", "MISCONF disk"} {
		check(t, text, classes{reply: true}, reply(text))
	}
	check(t, "no master", classes{unsent: true, transient: true},
		errors.New("redis: all sentinels specified in configuration are unreachable: redis: nil"))
	check(t, "marked", classes{unsent: true, transient: true}, unsent{})
	require.False(t, redisx.IsTransient(nil))
	require.False(t, redisx.IsReply(nil))
	require.False(t, redisx.IsUnsent(nil))
}

// unsent is an error that says so.
type unsent struct{}

func (unsent) Error() string { return "the tunnel is down" }
func (unsent) Unsent() bool  { return true }

func TestDiscreet(t *testing.T) {
	t.Parallel()
	for said, want := range map[string]string{
		"ERR unknown command 'evalsha', with args beginning with: 'hunter2' ":  "ERR unknown command 'evalsha'",
		"ERR unknown command `evalsha`, with args beginning with: `hunter2`, ": "ERR unknown command `evalsha`",
		"ERR Unknown command evalsha hunter2":                                  "ERR unknown command (which is left out, with its arguments)",
		"OOM command not allowed when used memory > 'maxmemory'.":              "OOM command not allowed when used memory > 'maxmemory'.",
	} {
		err := redisx.Discreet(reply(said))
		require.EqualError(t, err, want)
		require.True(t, redisx.IsReply(err))
	}
	require.NoError(t, redisx.Discreet(nil))
	require.Equal(t, redis.Nil, redisx.Discreet(redis.Nil))
	other := errors.New("unknown command of somebody else")
	require.Equal(t, other, redisx.Discreet(other))
}
