package notification_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/notification"
)

// Not parallel: it counts the goroutines of the whole process.
//
//nolint:paralleltest // it counts goroutines
func TestTenThousandSubscribersOneStuck(t *testing.T) {
	const subscribers, events = 10_000, 3
	client := redistest.Start(t).Client(t)
	n := newSystem(t, client, notification.WithBufferSize(2*events))
	p := &publisher{system: n}
	stuck := subscribe(t, n, "k")
	before := runtime.NumGoroutine()
	subs := make([]notification.Subscriber, subscribers)
	for i := range subs {
		subs[i] = n.Subscribe(t.Context(), "k")
	}
	assert.LessOrEqual(t, runtime.NumGoroutine(), before+5, "subscribers cost no goroutines")
	assert.Len(t, pubsubClients(t, client), 1)

	// Three buffers' worth of events: the others read, one does not.
	for round := range 6 {
		require.Zero(t, p.publish(t.Context(), "k", events))
		for i, s := range subs {
			for k := range events {
				v, err := notification.Decode[numbered](next(t, s))
				require.NoError(t, err)
				require.Equal(t, round*events+k+1, v.N, "subscriber %d", i)
			}
		}
	}
	m := n.GetMetrics()
	assert.Zero(t, m.DroppedMessages)
	assert.EqualValues(t, 6*events*subscribers+2*events, m.MessagesReceived)
	late := record(t, stuck)
	late.reached(t, p.last)
	assert.Zero(t, late.verify(t, p.sent))
}

func TestClosingWhileDelivering(t *testing.T) {
	t.Parallel()
	n := newSystem(t, redistest.Start(t).Client(t), notification.WithBufferSize(1), notification.WithUnsubscribeDelay(-1))
	p := &publisher{system: n}
	stop := p.traffic(t)
	defer stop()
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			for range 20 {
				ctx, cancel := context.WithCancel(t.Context())
				s := n.Subscribe(ctx, []string{"k", "k*", "?"}[rand.IntN(3)])
				if i%2 == 0 {
					select {
					case <-s.Messages():
					case <-time.After(patience):
						t.Error("no message")
					}
				}
				if rand.IntN(2) == 0 {
					cancel()
				}
				assert.NoError(t, s.Close())
				for range s.Messages() { // until it is closed
				}
				cancel()
			}
		})
	}
	all.Wait()
	assert.Zero(t, n.GetMetrics().Subscribers)
}

// Closing never waits for Redis: it is done while the server stands still, with a client that would wait for ever.
func TestClosingWhileRedisStandsStill(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	options := server.Options()
	options.ReadTimeout, options.WriteTimeout = -1, -1
	client := redis.NewClient(options)
	t.Cleanup(func() { _ = client.Close() })
	n := newSystem(t, client, notification.WithUnsubscribeDelay(-1), notification.WithPingTimeout(time.Hour))
	subs := []notification.Subscriber{subscribe(t, n, "a"), subscribe(t, n, "a"), subscribe(t, n, "b*"), subscribe(t, n, "c")}
	server.Stop()
	defer server.Continue()
	done := make(chan struct{})
	go func() {
		defer close(done)
		ctx, cancel := context.WithCancel(t.Context())
		var asking sync.WaitGroup
		asking.Go(func() { subs = append(subs, n.Subscribe(ctx, "new")) }) // waits for Redis, and so do those who ask for it
		for n.GetMetrics().Subscribers < 5 {
			runtime.Gosched()
		}
		for _, s := range subs[:3] {
			assert.NoError(t, s.Close())
		}
		cancel()
		asking.Wait()
		for range subs[4].Messages() { // until it is closed
		}
		assert.NoError(t, n.Close())
	}()
	select {
	case <-done:
	case <-time.After(patience):
		require.FailNow(t, "somebody waits for Redis")
	}
	for _, s := range subs {
		requireClosed(t, s.(*notification.Subscription))
	}
}

func TestManyNames(t *testing.T) {
	t.Parallel()
	const names = 3000
	client := redistest.Start(t).Client(t)
	n := newSystem(t, client, notification.WithUnsubscribeDelay(-1))
	var subs sync.Map
	var all sync.WaitGroup
	for worker := range 10 {
		all.Go(func() {
			for i := worker; i < names; i += 10 {
				name := fmt.Sprint("name:", i)
				subs.Store(name, n.Subscribe(t.Context(), name))
			}
		})
	}
	all.Wait()
	assert.Equal(t, names, n.GetMetrics().ActiveChannels)
	deliver := func() {
		var batch []notification.Outgoing
		for i := range names {
			batch = append(batch, notification.To(fmt.Sprint("name:", i), numbered{i}))
		}
		require.NoError(t, n.PublishBatch(t.Context(), batch...))
		subs.Range(func(name, s any) bool {
			m := next(t, s.(notification.Subscriber))
			assert.Equal(t, name, m.Channel)
			return assert.Nil(t, m.Gap)
		})
	}
	deliver()
	require.NoError(t, client.Do(t.Context(), "client", "kill", "type", "pubsub").Err())
	deliver()
	subs.Range(func(_, s any) bool { return assert.NoError(t, s.(notification.Subscriber).Close()) })
	require.Eventually(t, func() bool {
		left, err := client.PubSubChannels(t.Context(), "name:*").Result()
		return err == nil && len(left) == 0 && n.GetMetrics().ActiveChannels == 0
	}, patience, 5*time.Millisecond)
}
