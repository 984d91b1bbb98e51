package redisx_test

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

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

func TestSeparateKeepsWhatIsSwitchedOff(t *testing.T) {
	t.Parallel()
	for _, timeout := range []time.Duration{-2, -1, 0, time.Minute} {
		for _, retries := range []int{-1, 0, 7} {
			client := redis.NewClient(&redis.Options{
				ReadTimeout: timeout, WriteTimeout: timeout, MaxRetries: retries,
				MinRetryBackoff: time.Duration(retries), MaxRetryBackoff: time.Duration(retries),
				MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
			})
			separate := redisx.Separate(client, nil, 1)
			of, want := separate.Options(), client.Options()
			assert.Equal(t, want.MaxRetries, of.MaxRetries)
			assert.Equal(t, want.ReadTimeout, of.ReadTimeout)
			assert.Equal(t, want.WriteTimeout, of.WriteTimeout)
			assert.Equal(t, want.MinRetryBackoff, of.MinRetryBackoff)
			assert.Equal(t, want.MaxRetryBackoff, of.MaxRetryBackoff)
			assert.NoError(t, separate.Close())
			assert.NoError(t, client.Close())
		}
	}
}
