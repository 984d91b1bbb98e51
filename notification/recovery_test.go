package notification_test

import (
	"context"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/faultproxy"
	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/notification"
)

func TestKilledConnectionsLoseNothing(t *testing.T) {
	t.Parallel()
	const events, kills = 10_000, 100
	client := redistest.Start(t).Client(t)
	n := newSystem(t, client, notification.WithHistory(2*events, 0), notification.WithLongestPause(10*time.Millisecond))
	all := record(t, subscribe(t, n, "k*"))
	exact := record(t, subscribe(t, n, "k"))
	p := &publisher{system: n}
	for i := range kills {
		var publishing sync.WaitGroup
		publishing.Go(func() { assert.Zero(t, p.publish(t.Context(), "k", events/kills)) })
		if i%2 == 0 { // the others are killed as soon as they exist, before or during their recovery
			require.Eventually(t, func() bool { return n.HealthCheck(t.Context()) == nil }, patience, time.Millisecond)
		}
		require.Eventually(t, func() bool {
			return client.ClientKillByFilter(t.Context(), "type", "pubsub").Val() == 1
		}, patience, time.Millisecond)
		publishing.Wait()
	}
	require.Zero(t, p.publish(t.Context(), "k", 1))
	for _, r := range []*recorder{all, exact} {
		r.reached(t, p.last)
		assert.Zero(t, r.verify(t, p.sent))
		assert.Empty(t, r.gaps())
	}
	assert.GreaterOrEqual(t, n.GetMetrics().Reconnects, int64(kills))
	assert.Positive(t, n.GetMetrics().MessagesRecovered)
}

func TestWithoutHistoryACutIsAGap(t *testing.T) {
	t.Parallel()
	client := redistest.Start(t).Client(t)
	n := newSystem(t, client, notification.WithHistory(0, 0))
	r := record(t, subscribe(t, n, "k"))
	p := &publisher{system: n}
	for range 10 {
		p.publish(t.Context(), "k", 10)
		require.NoError(t, client.Do(t.Context(), "client", "kill", "type", "pubsub").Err())
		p.publish(t.Context(), "k", 10)
		require.Eventually(t, func() bool { return n.HealthCheck(t.Context()) == nil }, patience, time.Millisecond)
	}
	// The last kill may not have been noticed yet, and what is lost then is reported with the next message.
	require.Eventually(t, func() bool {
		p.publish(t.Context(), "k", 1)
		return r.last() > p.last-5
	}, patience, 10*time.Millisecond)
	r.reached(t, p.last)
	r.verify(t, p.sent)
	assert.Contains(t, r.gaps(), notification.GapReconnected)
}

// through returns a client for the server behind a proxy.
func through(tb testing.TB, server *redistest.Server, change ...func(*redis.Options)) (*redis.Client, *faultproxy.Proxy) {
	tb.Helper()
	proxy := faultproxy.New(tb, server.Addr())
	options := server.Options()
	options.Addr = proxy.Addr()
	options.ContextTimeoutEnabled = true
	options.ReadTimeout = 500 * time.Millisecond
	options.DialTimeout = 500 * time.Millisecond
	for _, f := range change {
		f(options)
	}
	client := redis.NewClient(options)
	tb.Cleanup(func() { _ = client.Close() })
	return client, proxy
}

func TestHalfOpenConnectionIsNoticed(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string][]notification.Option{
		"quick heartbeat": {notification.WithHeartbeat(50 * time.Millisecond)}, "default heartbeat": nil,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testHalfOpen(t, opts...)
		})
	}
}

func testHalfOpen(t *testing.T, opts ...notification.Option) {
	t.Helper()
	server := redistest.Start(t)
	client, proxy := through(t, server)
	n := newSystem(t, client, opts...)
	outside := newSystem(t, server.Client(t))
	r := record(t, subscribe(t, n, "k"))
	p := &publisher{system: outside}
	require.Zero(t, p.publish(t.Context(), "k", 10))
	r.reached(t, p.last)

	proxy.SwallowToClient(true)
	proxy.SwallowToServer(true)
	require.Zero(t, p.publish(t.Context(), "k", 100))
	// It is not enough that the heartbeat is late: a connection that has not been given up yet would go on behind what the
	// proxy has swallowed, which no real one does.
	require.Eventually(t, func() bool {
		err := health(n)
		return err != nil && !strings.Contains(err.Error(), "no heartbeat")
	}, patience, 5*time.Millisecond)
	require.NoError(t, n.Alive())
	proxy.SwallowToClient(false)
	proxy.SwallowToServer(false)
	require.Zero(t, p.publish(t.Context(), "k", 10))
	r.reached(t, p.last)
	assert.Zero(t, r.verify(t, p.sent))
	assert.Empty(t, r.gaps())
}

func TestLostRepliesNeitherLoseNorDouble(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client, proxy := through(t, server)
	n := newSystem(t, client)
	listener := newSystem(t, server.Client(t))
	r := record(t, subscribe(t, listener, "k"))
	p := &publisher{system: n}
	for range 50 {
		require.Zero(t, p.publish(t.Context(), "k", 3))
		proxy.DropReplies(1)
		require.Zero(t, p.publish(t.Context(), "k", 3))
	}
	r.reached(t, p.last)
	assert.Zero(t, r.verify(t, p.sent))
	assert.Empty(t, r.gaps())
	length, err := server.Client(t).XLen(t.Context(), "cache:{notification}:journal").Result()
	require.NoError(t, err)
	assert.EqualValues(t, len(p.sent), length)
}

// A program passes on an event that was published before anybody here listened: it is a foreign message as well.
func TestOldEventsThatAreForwardedArriveAsTheyAre(t *testing.T) {
	t.Parallel()
	client := redistest.Start(t).Client(t)
	early := newSystem(t, client)
	heard := subscribe(t, early, "k")
	require.NoError(t, early.Publish(t.Context(), "k", numbered{1}))
	payload := next(t, heard).Payload

	n := newSystem(t, client)
	r, mirror := record(t, subscribe(t, n, "k")), subscribe(t, n, "mirror")
	p := &publisher{system: early}
	for range 3 {
		require.Zero(t, p.publish(t.Context(), "k", 2))
		r.reached(t, p.last)
		require.NoError(t, client.Publish(t.Context(), "mirror", payload).Err())
		m := next(t, mirror)
		assert.Equal(t, payload, m.Payload)
		assert.Empty(t, m.EventID)
		assert.Nil(t, m.Gap)
	}
	assert.Zero(t, r.verify(t, p.sent))
	assert.Empty(t, r.gaps())
	assert.Zero(t, n.GetMetrics().Reconnects)
}

// narrow lets only small parts of the journal arrive in time, as where events are large or the network is slow.
type narrow struct{ limit atomic.Int32 }

func (h *narrow) hook() *partHook {
	return &partHook{read: func(_ context.Context, p part, next func() error) error {
		if limit := int(h.limit.Load()); limit >= 0 && limit < p.count {
			return &net.OpError{Op: "read", Net: "tcp", Err: os.ErrDeadlineExceeded}
		}
		return next()
	}}
}

func TestRecoveryOfEventsThatArriveSlowly(t *testing.T) {
	t.Parallel()
	for name, wiped := range map[string]bool{"same history": false, "another history": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t)
			client, proxy := through(t, server)
			hook := &narrow{}
			hook.limit.Store(-1)
			n, outside := newSystem(t, withHook(client, hook.hook())), newSystem(t, server.Client(t))
			r := record(t, subscribe(t, n, "k"))
			p := &publisher{system: outside}
			require.Zero(t, p.publish(t.Context(), "k", 10))
			r.reached(t, p.last)
			proxy.Refuse(true)
			proxy.Cut()
			var gaps []notification.GapReason
			if wiped {
				require.NoError(t, server.Client(t).FlushAll(t.Context()).Err())
				gaps = append(gaps, notification.GapWiped)
			}
			require.Zero(t, p.publish(t.Context(), "k", 200))
			hook.limit.Store(8)
			proxy.Refuse(false)
			r.reached(t, p.last)
			assert.Zero(t, r.verify(t, p.sent))
			assert.Equal(t, gaps, r.gaps())
		})
	}
}
