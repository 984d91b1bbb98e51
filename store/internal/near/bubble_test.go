package near_test

import (
	"context"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/embedded"
	"github.com/compozy/cache/store/internal/near"
)

// deaf is a connection on which nothing arrives any more once it is set.
type deaf struct {
	net.Conn

	on *atomic.Bool
}

func (d deaf) Read(p []byte) (int, error) {
	for {
		n, err := d.Conn.Read(p)
		if err != nil || !d.on.Load() {
			return n, err
		}
	}
}

// On the bubble's clock: values are served for as long as the bound says, to the millisecond, and for hours if nothing is
// wrong.
func TestInBubble(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const limit = 3 * time.Second
		server := embedded.New()
		var half atomic.Bool
		client := redis.NewClient(&redis.Options{
			Dialer: func(ctx context.Context, network, addr string) (net.Conn, error) {
				conn, err := server.Dial(ctx, network, addr)
				return deaf{conn, &half}, err
			},
			MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		})
		tracker, err := near.New(near.Settings{Client: client, Channel: near.Channel("cache:")})
		require.NoError(t, err)
		cache, err := tracker.NewCache(near.CacheSettings{Prefix: prefix, MaxStaleness: limit})
		require.NoError(t, err)
		served := func() bool { _, ok := cache.Get(key(1)); return ok }
		fill := func(fresh time.Duration) {
			t.Helper()
			require.Eventually(t, func() bool {
				cache.Put(cache.Begin(key(1)), key(1), "v", 1, fresh)
				return served()
			}, patience, time.Millisecond)
		}

		fill(time.Hour)
		began := time.Now()
		for served() {
			time.Sleep(time.Second) // in the bubble
		}
		assert.InDelta(t, time.Hour, time.Since(began), float64(2*time.Second), "never interrupted")

		fill(time.Hour)
		half.Store(true)
		began = time.Now()
		for served() {
			time.Sleep(time.Millisecond) // in the bubble
		}
		// The newest watermark is the beginning of a round up to two before.
		assert.LessOrEqual(t, time.Since(began), limit)
		assert.GreaterOrEqual(t, time.Since(began), limit/3)
		time.Sleep(time.Minute) // in the bubble
		assert.False(t, served())
		half.Store(false)
		fill(time.Hour)

		require.NoError(t, tracker.Close(t.Context()))
		require.NoError(t, client.Close())
		_ = server.Close()
		time.Sleep(time.Minute) // in the bubble: a client may still be trying to dial in the background
	})
}
