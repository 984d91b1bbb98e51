package embedded_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/embedded"
)

// options lead a go-redis client to server in memory.
func options(server *embedded.Server) *redis.Options {
	return &redis.Options{
		Addr:                     "embedded:6379",
		Dialer:                   server.Dial,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
}

// setup returns a client of a new server; both are closed at clean-up.
func setup(t *testing.T) (*redis.Client, *embedded.Server) {
	t.Helper()
	server := embedded.New()
	client := redis.NewClient(options(server))
	t.Cleanup(func() {
		assert.NoError(t, client.Close())
		assert.NoError(t, server.Close())
	})
	return client, server
}

func TestDialWorksWithoutStart(t *testing.T) {
	t.Parallel()
	client, server := setup(t)
	require.NoError(t, client.Set(t.Context(), "k", "v", 0).Err())
	assert.Equal(t, "v", client.Get(t.Context(), "k").Val())
	assert.Empty(t, server.Addr())
	assert.Empty(t, server.URL())
}

func TestStartOpensAPortToTheSameData(t *testing.T) {
	t.Parallel()
	inMemory, server := setup(t)
	require.NoError(t, inMemory.Set(t.Context(), "k", "v", 0).Err())
	require.NoError(t, server.Start(t.Context()))
	addr := server.Addr()
	require.NoError(t, server.Start(t.Context()), "may be repeated")
	assert.Equal(t, addr, server.Addr())
	host, _, err := net.SplitHostPort(addr)
	require.NoError(t, err)
	assert.Equal(t, "127.0.0.1", host, "nobody outside can reach it")

	opts, err := redis.ParseURL(server.URL())
	require.NoError(t, err)
	opts.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	byTCP := redis.NewClient(opts)
	defer func() { assert.NoError(t, byTCP.Close()) }()
	assert.Equal(t, "v", byTCP.Get(t.Context(), "k").Val())

	// Messages cross from one to the other.
	sub := byTCP.Subscribe(t.Context(), "c")
	defer func() { assert.NoError(t, sub.Close()) }()
	_, err = sub.Receive(t.Context())
	require.NoError(t, err)
	require.NoError(t, inMemory.Publish(t.Context(), "c", "hello").Err())
	message, err := sub.ReceiveMessage(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "hello", message.Payload)
}

func TestStartFailsOnATakenPort(t *testing.T) {
	t.Parallel()
	_, first := setup(t)
	require.NoError(t, first.Start(t.Context()))
	second := embedded.New(embedded.WithAddr(first.Addr()))
	defer func() { assert.NoError(t, second.Close()) }()
	err := second.Start(t.Context())
	require.Error(t, err)
	assert.Contains(t, err.Error(), first.Addr())
	assert.Empty(t, second.Addr())
}

func TestClose(t *testing.T) {
	t.Parallel()
	never := embedded.New()
	require.NoError(t, never.Close(), "a server that was never used")

	server := embedded.New()
	require.NoError(t, server.Start(t.Context()))
	conn, err := server.Dial(t.Context(), "", "")
	require.NoError(t, err)
	require.NoError(t, server.Close())
	require.NoError(t, server.Close())
	_, err = conn.Read(make([]byte, 1))
	require.Error(t, err, "connections are closed")
	require.NoError(t, conn.Close())

	require.ErrorIs(t, server.Start(t.Context()), embedded.ErrClosed)
	_, err = server.Dial(t.Context(), "", "")
	require.ErrorIs(t, err, embedded.ErrClosed)

	ended, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("cause")
	cancel(cause)
	_, err = never.Dial(ended, "", "")
	require.ErrorIs(t, err, cause)
}

// Close must meet every connection, however it races with new ones and with
// commands that wait on the server.
func TestCloseWhileInUse(t *testing.T) {
	t.Parallel()
	server := embedded.New()
	require.NoError(t, server.Start(t.Context()))
	client := redis.NewClient(options(server))
	byTCP := redis.NewClient(&redis.Options{
		Addr: server.Addr(), MaxRetries: -1,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
	var wg sync.WaitGroup
	var waiting sync.WaitGroup
	for i := range 20 {
		waiting.Add(1)
		wg.Go(func() {
			c := client
			if i%2 == 0 {
				c = byTCP
			}
			assert.NoError(t, c.Ping(t.Context()).Err())
			waiting.Done()
			if i%4 < 2 {
				assert.Error(t, c.BLPop(t.Context(), 0, "nothing").Err())
				return
			}
			var err error
			for err == nil {
				err = c.Ping(t.Context()).Err()
			}
		})
	}
	waiting.Wait()
	require.NoError(t, server.Close())
	wg.Wait()
	require.NoError(t, client.Close())
	require.NoError(t, byTCP.Close())
}

// A client sends a whole pipeline before it reads. On a pipe without buffer the
// first answers would block the server, and the client with it.
func TestLargePipeline(t *testing.T) {
	t.Parallel()
	client, _ := setup(t)
	value := strings.Repeat("x", 100)
	pipe := client.Pipeline()
	for i := range 5_000 {
		pipe.Set(t.Context(), fmt.Sprint("k", i%10), value, 0)
		pipe.Get(t.Context(), fmt.Sprint("k", i%10))
	}
	replies, err := pipe.Exec(t.Context())
	require.NoError(t, err)
	assert.Len(t, replies, 10_000)
}

func TestKeysExpireOnTheClockOfTheBubble(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		client, server := setup(t)
		ctx := t.Context()
		require.NoError(t, client.Set(ctx, "hour", 1, time.Hour).Err())
		require.NoError(t, client.Set(ctx, "day", 1, 24*time.Hour).Err())
		before := client.Time(ctx).Val()

		time.Sleep(time.Hour - time.Millisecond) // in a bubble: its clock
		assert.Equal(t, time.Millisecond, client.PTTL(ctx, "hour").Val())
		time.Sleep(time.Millisecond) // in a bubble: its clock
		assert.ErrorIs(t, client.Get(ctx, "hour").Err(), redis.Nil)
		assert.Equal(t, time.Hour, client.Time(ctx).Val().Sub(before), "TIME agrees")

		server.FastForward(23 * time.Hour)
		assert.ErrorIs(t, client.Get(ctx, "day").Err(), redis.Nil)
	})
}

func TestBlockingCommandsInABubble(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		client, _ := setup(t)
		start := time.Now()
		require.ErrorIs(t, client.BLPop(t.Context(), time.Minute, "q").Err(), redis.Nil)
		assert.Equal(t, time.Minute, time.Since(start))
		time.AfterFunc(time.Hour, func() { client.LPush(context.Background(), "q", "v") })
		got, err := client.BLPop(t.Context(), 0, "q").Result()
		require.NoError(t, err)
		assert.Equal(t, []string{"q", "v"}, got)
		assert.Equal(t, time.Hour+time.Minute, time.Since(start))
	})
}

func TestConfigLeadsToTheServer(t *testing.T) {
	t.Parallel()
	_, server := setup(t)
	cfg := server.Config()
	require.NoError(t, cfg.Validate())
	conn, err := cfg.Dialer(t.Context(), "tcp", "anything:1")
	require.NoError(t, err)
	require.NoError(t, conn.Close())
	cfg.KeyPrefix = "changed:"
	assert.NotEqual(t, cfg.KeyPrefix, server.Config().KeyPrefix, "each call returns a new one")
}
