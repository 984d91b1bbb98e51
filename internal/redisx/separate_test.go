package redisx_test

import (
	"context"
	"errors"
	"net"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redisx"
)

var errRefused = errors.New("refused")

// A client that is told when its server is about to move shares what handles that with nobody: go-redis panics.
func TestSeparateOfAClientWithPushMessages(t *testing.T) {
	t.Parallel()
	client := redis.NewClient(&redis.Options{
		Protocol: 3, MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeEnabled},
	})
	defer client.Close()
	separate := redisx.Separate(client, nil, 3, func(o *redis.Options) {
		o.MaxRetries, o.DialerRetries = -1, 1
		o.Dialer = func(context.Context, string, string) (net.Conn, error) { return nil, errRefused }
	})
	require.NotNil(t, separate)
	defer separate.Close()
	assert.Equal(t, 3, separate.Options().PoolSize)
	require.ErrorIs(t, separate.Ping(t.Context()).Err(), errRefused, "what was adjusted holds")
}

func TestSeparateOfAnUnknownClient(t *testing.T) {
	t.Parallel()
	assert.Nil(t, redisx.Separate(struct{ redis.UniversalClient }{}, nil, 1))
}
