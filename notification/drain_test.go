package notification_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/notification"
)

// What was published just before Close is delivered, also if it is still under way.
func TestCloseDeliversWhatWasPublishedBefore(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	outside := newSystem(t, server.Client(t))
	for range 10 {
		n := newSystem(t, server.Client(t), notification.WithBufferSize(10))
		r, p := record(t, subscribe(t, n, "k")), &publisher{system: outside}
		require.Zero(t, p.publish(t.Context(), "k", 100))
		require.NoError(t, n.Close())
		<-r.done
		assert.Zero(t, r.verify(t, p.sent))
		assert.Empty(t, r.gaps())
	}
}

// What was published while the connection was cut is delivered, as the next one is made in time.
func TestShutdownWaitsForTheNextConnection(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client, proxy := through(t, server)
	n := newSystem(t, client)
	r, p := record(t, subscribe(t, n, "k")), &publisher{system: newSystem(t, server.Client(t))}
	p.arrived(t, r)
	proxy.Refuse(true)
	proxy.Cut()
	require.Eventually(t, func() bool { return health(n) != nil }, patience, time.Millisecond)
	require.Zero(t, p.publish(t.Context(), "k", 20))
	shut := make(chan error, 1)
	go func() { shut <- n.Shutdown(t.Context()) }()
	require.Eventually(t, func() bool { return isRefused(n) }, patience, time.Millisecond, "the shutdown never began")
	proxy.Refuse(false)
	require.NoError(t, <-shut)
	<-r.done
	assert.Zero(t, r.verify(t, p.sent))
	assert.Empty(t, r.gaps())
}

// Without Redis a shutdown ends in time, and says that it has not delivered all. A subscription that never began has no part
// in that.
func TestShutdownWithoutRedis(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	n := newSystem(t, server.Client(t))
	subscribe(t, n, "k")
	server.Kill()
	require.Eventually(t, func() bool { return health(n) != nil }, patience, time.Millisecond)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	require.ErrorIs(t, n.Shutdown(ctx), context.DeadlineExceeded)
	require.NoError(t, ctx.Err(), "it waits for half of the time")

	never := newSystem(t, server.Client(t), notification.WithPingTimeout(time.Millisecond))
	subscribe(t, never, "k")
	require.NoError(t, never.Shutdown(t.Context()))
}

// A handler publishes its results while the system is being closed.
func TestHandlersPublishWhileDraining(t *testing.T) {
	t.Parallel()
	client := redistest.Start(t).Client(t)
	n, other := newSystem(t, client), newSystem(t, client)
	results := record(t, subscribe(t, other, "result"))
	begun, release, handled := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		handled <- notification.Handle(context.Background(), n, "task", func(ctx context.Context, v numbered) error {
			if v.N == 1 {
				close(begun)
				<-release
			}
			err := n.Publish(ctx, "result", v)
			assert.NoError(t, err)
			return err
		})
	}()
	require.Eventually(t, func() bool { return n.GetMetrics().Subscribers == 1 && health(n) == nil }, patience, time.Millisecond)
	p := &publisher{system: n}
	require.Zero(t, p.publish(t.Context(), "task", 20))
	<-begun
	shut := make(chan error, 1)
	go func() { shut <- n.Shutdown(t.Context()) }()
	require.Eventually(t, func() bool { return isRefused(n) }, patience, time.Millisecond, "the shutdown never began")
	close(release)
	require.NoError(t, <-shut)
	require.ErrorIs(t, <-handled, notification.ErrClosed)
	results.reached(t, p.last)
	assert.Zero(t, results.verify(t, p.sent))
	require.ErrorIs(t, n.Publish(t.Context(), "result", struct{}{}), notification.ErrClosed)
}

// Drain waits for what was published before, and for nothing else.
func TestDrain(t *testing.T) {
	t.Parallel()
	client := redistest.Start(t).Client(t)
	n := newSystem(t, client, notification.WithBufferSize(4), notification.WithHeartbeat(time.Hour))
	s := subscribe(t, n, "k")
	require.NoError(t, s.Drain(t.Context()), "nothing was published")
	p := &publisher{system: newSystem(t, client)}
	for _, events := range []int{1, 4, 50} { // the last ones do not fit, and are left to the journal
		require.Zero(t, p.publish(t.Context(), "k", events))
		drained := make(chan error, 2)
		go func() { drained <- s.Drain(t.Context()) }()
		go func() { drained <- n.Drain(t.Context()) }()
		for range events {
			select {
			case err := <-drained:
				require.Failf(t, "there is more", "%v", err)
			case <-time.After(time.Millisecond):
			}
			next(t, s)
		}
		require.NoError(t, <-drained)
		require.NoError(t, <-drained)
		empty(t, s)
		require.NoError(t, s.Err())
	}
	require.Zero(t, p.publish(t.Context(), "k", 1))
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(assert.AnError)
	require.ErrorIs(t, s.Drain(ctx), assert.AnError)
	var none context.Context
	require.ErrorIs(t, s.Drain(none), notification.ErrInvalidArgument)
	require.ErrorIs(t, n.Drain(none), notification.ErrInvalidArgument)
	require.NoError(t, s.Close())
	require.NoError(t, s.Drain(t.Context()))
}

// The message of the function that still runs has left the buffer, but its result is not there yet.
func TestShutdownWaitsForTheFunctionsOfHandle(t *testing.T) {
	t.Parallel()
	client := redistest.Start(t).Client(t)
	n, other := newSystem(t, client), newSystem(t, client)
	results := record(t, subscribe(t, other, "result"))
	waiting, shut := context.WithCancel(t.Context())
	defer shut()
	begun, published, handled := make(chan struct{}), make(chan error, 1), make(chan error, 1)
	go func() {
		handled <- notification.Handle(context.Background(), n, "task", func(ctx context.Context, v numbered) error {
			close(begun)
			assert.Eventually(t, func() bool { return isRefused(n) }, patience, time.Millisecond, "the shutdown never began")
			_ = n.Drain(waiting) // the shutdown has nothing to drain any more either
			published <- n.Publish(ctx, "result", v)
			return nil
		})
	}()
	p := &publisher{system: other}
	require.Eventually(t, func() bool { return n.GetMetrics().Subscribers == 1 && health(n) == nil }, patience, time.Millisecond)
	require.Zero(t, p.publish(t.Context(), "task", 1))
	<-begun
	require.NoError(t, n.Shutdown(t.Context()))
	shut()
	require.NoError(t, <-published)
	require.ErrorIs(t, <-handled, notification.ErrClosed)
	results.reached(t, p.last)
	assert.Zero(t, n.GetMetrics().HandlerErrors)
}

// isRefused reports whether a system takes no more subscriptions.
func isRefused(n *notification.RedisNotificationSystem) bool {
	s := n.SubscribeTask(context.Background(), "any")
	defer func() { _ = s.Close() }()
	return errors.Is(s.Err(), notification.ErrClosed)
}

// A function that does not return uses up half of the time, also through a type that embeds the system.
func TestShutdownDoesNotWaitForAFunctionOfHandleForever(t *testing.T) {
	t.Parallel()
	n := newSystem(t, redistest.Start(t).Client(t))
	begun, release, handled := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		handled <- notification.Handle(context.Background(), embedding{n}, "k", func(ctx context.Context, _ numbered) error {
			close(begun)
			<-release
			assert.NoError(t, ctx.Err())
			return nil
		})
	}()
	require.Eventually(t, func() bool { return n.GetMetrics().Subscribers == 1 && health(n) == nil }, patience, time.Millisecond)
	require.NoError(t, n.Publish(t.Context(), "k", numbered{1}))
	<-begun
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	require.ErrorIs(t, n.Shutdown(ctx), context.DeadlineExceeded)
	require.NoError(t, ctx.Err(), "it waits for half of the time")
	close(release)
	require.ErrorIs(t, <-handled, notification.ErrClosed)
}

type embedding struct {
	*notification.RedisNotificationSystem
}

// Without Redis no heartbeat comes back, and a Drain ends nevertheless once there is nothing open to wait for.
func TestDrainEndsWithWhatItWaitsFor(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	n := newSystem(t, server.Client(t))
	s, own, closed := subscribe(t, n, "k"), subscribe(t, n, "k"), subscribe(t, n, "k")
	server.Stop()
	t.Cleanup(server.Continue)
	begin := func(drain func(context.Context) error) <-chan error {
		result := make(chan error, 1)
		go func() { result <- drain(context.Background()) }()
		return result
	}
	ends := func(what string, result <-chan error) {
		t.Helper()
		select {
		case err := <-result:
			require.NoError(t, err, what)
		case <-time.After(patience):
			require.FailNow(t, "does not return", what)
		}
	}
	require.NoError(t, closed.Close())
	ends("a subscription that was closed before", begin(closed.Drain))

	result := begin(own.Drain)
	select {
	case err := <-result:
		require.FailNow(t, "it did not wait", "%v", err)
	case <-time.After(20 * time.Millisecond):
	}
	require.NoError(t, own.Close())
	ends("a subscription that is closed meanwhile", result)

	ofAll, ofOne := begin(n.Drain), begin(s.Drain)
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	require.Error(t, n.Shutdown(ctx))
	ends("the system is closed meanwhile", ofAll)
	ends("its subscription", ofOne)
	ends("the system was closed before", begin(n.Drain))
	ends("its subscription, later", begin(s.Drain))
}
