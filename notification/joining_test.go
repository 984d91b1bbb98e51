package notification_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/notification"
)

// Who joins a name that others listen to gets nothing that was published before the call, and everything after it.
func TestJoiningGivesNothingOlder(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client := server.Client(t)
	n := newSystem(t, client, notification.WithBufferSize(10_000))
	first := subscribe(t, n, "k")
	p := &publisher{system: newSystem(t, server.Client(t))}
	ctx, cancel := context.WithCancel(t.Context())
	var beating sync.WaitGroup
	other := subscribe(t, n, "other")
	beating.Go(func() { // so that there is always a heartbeat under way that was sent before
		for ctx.Err() == nil {
			_ = other.Drain(ctx)
		}
	})
	filling := strings.Repeat("x", 10_000) // so that much is still under way
	for range 50 {
		_, err := client.Pipelined(t.Context(), func(pipe redis.Pipeliner) error {
			for range 100 {
				pipe.Publish(t.Context(), "k", filling)
			}
			return nil
		})
		require.NoError(t, err)
		require.Zero(t, p.publish(t.Context(), "k", 1))
		late := subscribe(t, n, "k")
		require.Zero(t, p.publish(t.Context(), "k", 1))
		m := next(t, late)
		number, err := numberOf(m)
		require.NoError(t, err)
		require.Equal(t, p.last, number)
		require.NoError(t, late.Close())
	}
	cancel()
	beating.Wait()
	assert.Len(t, first.Messages(), 50*102)
}

// Others are served while somebody catches up, however long that takes.
func TestLiveDeliveryGoesOnDuringCatchUp(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client, proxy := through(t, server, func(o *redisOptions) { o.ReadTimeout = time.Minute })
	hook := &reads{hold: make(chan struct{})}
	n := newSystem(t, withHook(client, hook.hook()))
	r := record(t, subscribe(t, n, "k"))
	p := &publisher{system: newSystem(t, server.Client(t))}
	require.Zero(t, p.publish(t.Context(), "k", 5))
	r.reached(t, p.last)
	proxy.Refuse(true)
	proxy.Cut()
	require.Zero(t, p.publish(t.Context(), "k", 5))
	proxy.Refuse(false)
	require.Eventually(t, func() bool { return hook.held.Load() > 0 }, patience, time.Millisecond)
	other := subscribe(t, n, "other")
	for range 3 {
		require.NoError(t, p.system.Publish(t.Context(), "other", struct{}{}))
		assert.False(t, next(t, other).Recovered)
	}
	require.ErrorIs(t, health(n), notification.ErrNotLive, "one is still catching up")
	close(hook.hold)
	r.reached(t, p.last)
	assert.Zero(t, r.verify(t, p.sent))
	assert.Empty(t, r.gaps())
}

// Where commands of the application wait on every connection of the pool, the subscriptions go on.
func TestBusyPoolStopsNoDelivery(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	const pool, heartbeat = 4, 200 * time.Millisecond
	options := server.Options()
	options.PoolSize, options.PoolTimeout = pool, 50*time.Millisecond
	client := newClient(t, options)
	n := newSystem(t, client, notification.WithHeartbeat(heartbeat))
	r := record(t, subscribe(t, n, "k"))
	p := &publisher{system: newSystem(t, server.Client(t))}
	admin := server.Client(t)
	for range pool {
		go func() { _ = client.BLPop(t.Context(), 0, "never").Err() }()
	}
	require.Eventually(t, func() bool {
		return fieldOf(admin.Info(t.Context(), "clients").Val(), "blocked_clients") == "4"
	}, patience, time.Millisecond)
	for start := time.Now(); time.Since(start) < 5*heartbeat; {
		require.Zero(t, p.publish(t.Context(), "k", 10))
		r.reached(t, p.last)
	}
	require.NoError(t, n.HealthCheck(t.Context()))
	require.NoError(t, admin.Do(t.Context(), "client", "kill", "type", "pubsub").Err())
	require.Zero(t, p.publish(t.Context(), "k", 10))
	r.reached(t, p.last)
	assert.Zero(t, r.verify(t, p.sent))
	assert.Empty(t, r.gaps())
	assert.EqualValues(t, 1, n.GetMetrics().Reconnects)
}
