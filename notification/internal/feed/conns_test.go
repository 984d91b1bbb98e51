package feed_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
)

// Commands beside a session end with it, at once and with an error, and so do those that come later.
func TestCommandsEndWithTheSession(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	admin := server.Client(t)
	_, sink := start(t, server.Client(t), nil)
	sink.wait(t, 1, "up")
	s := sink.current()
	failed := make(chan error, 2)
	go func() { failed <- s.Client.BLPop(context.WithoutCancel(t.Context()), 0, "nothing").Err() }()
	go func() {
		_, err := s.Client.Pipelined(context.WithoutCancel(t.Context()), func(p redis.Pipeliner) error {
			return p.BLPop(context.WithoutCancel(t.Context()), 0, "nothing").Err()
		})
		failed <- err
	}()
	require.Eventually(t, func() bool {
		info, err := admin.Info(t.Context(), "clients").Result()
		return err == nil && strings.Contains(info, "blocked_clients:2")
	}, patience, time.Millisecond)
	require.NoError(t, admin.ClientKillByFilter(t.Context(), "type", "pubsub").Err())
	require.Error(t, <-failed)
	require.Error(t, <-failed)
	require.ErrorIs(t, s.Client.Ping(t.Context()).Err(), redis.ErrClosed)
	_, err := s.Client.Pipelined(t.Context(), func(p redis.Pipeliner) error { return p.Ping(t.Context()).Err() })
	require.ErrorIs(t, err, redis.ErrClosed)
	sink.wait(t, 2, "up")
	require.NoError(t, sink.current().Client.Ping(t.Context()).Err())
}
