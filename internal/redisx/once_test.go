package redisx_test

import (
	"context"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/faultproxy"
	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/internal/redisx"
)

func TestOnceIsNotRepeated(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	proxy := faultproxy.New(t, server.Addr())
	client := redis.NewClient(&redis.Options{Addr: proxy.Addr(), MaxRetries: 3})
	t.Cleanup(func() { _ = client.Close() })
	incr := func() *redis.IntCmd { return redis.NewIntCmd(t.Context(), "incr", "n") }
	for name, process := range map[string]func(context.Context, redis.Cmder) error{
		"alone": client.Process,
		"in a pipeline": func(ctx context.Context, cmd redis.Cmder) error {
			pipe := client.Pipeline()
			_ = pipe.Process(ctx, cmd)
			_, err := pipe.Exec(ctx)
			return err
		},
	} {
		require.NoError(t, client.Set(t.Context(), "n", 0, 0).Err())
		proxy.DropReplies(1)
		require.Error(t, process(t.Context(), redisx.Once(incr())), name)
		require.Equal(t, "1", client.Get(t.Context(), "n").Val(), name)

		proxy.DropReplies(1)
		require.NoError(t, process(t.Context(), incr()), name)
		require.Equal(t, "3", client.Get(t.Context(), "n").Val(), "%s: what this prevents", name)
	}
}
