package notification_test

import (
	"context"
	"errors"
	"net"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/faultproxy"
	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/notification"
)

// The reply to an event that was published is lost, and its repetition is refused: what the server says then is not
// about the first attempt.
func TestRefusedRepetitionIsUncertain(t *testing.T) {
	t.Parallel()
	for name, count := range map[string]int{"alone": 1, "batch": 3} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t)
			admin := server.Client(t)
			proxy := faultproxy.New(t, server.Addr())
			// Only what is cut is repeated.
			client := redis.NewClient(&redis.Options{Addr: proxy.Addr(), ReadTimeout: patience})
			t.Cleanup(func() { _ = client.Close() })
			s := subscribe(t, newSystem(t, admin), "k")
			n := newSystem(t, client)
			var batch []notification.Outgoing
			for range count {
				batch = append(batch, notification.To("k", struct{}{}))
			}
			done := publishUnheard(t, n, proxy, s, batch)
			require.NoError(t, admin.Do(t.Context(), "replicaof", "127.0.0.1", "1").Err())
			proxy.SwallowToClient(false)
			proxy.Cut()
			for _, err := range each(t, <-done, count) {
				var failed *notification.PublishError
				require.ErrorAs(t, err, &failed)
				assert.True(t, failed.Uncertain)
				assert.ErrorContains(t, err, "READONLY")
			}
		})
	}
}

// The reply to an event is lost, and the journal has forgotten the event when it is repeated. It is published once all the
// same, and its caller knows it.
func TestRepetitionNeedsNoJournal(t *testing.T) {
	t.Parallel()
	for name, count := range map[string]int{"alone": 1, "batch": 3} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t)
			client, proxy := through(t, server)
			history := notification.WithHistory(100, 0)
			n, outside := newSystem(t, client, history), newSystem(t, server.Client(t), history)
			s := subscribe(t, outside, "k")
			var batch, others []notification.Outgoing
			for range count {
				batch = append(batch, notification.To("k", numbered{1}))
			}
			for range 1000 {
				others = append(others, notification.To("other", numbered{2}))
			}
			done := publishUnheard(t, n, proxy, s, batch)
			require.NoError(t, outside.PublishBatch(t.Context(), others...))
			proxy.SwallowToClient(false)
			require.NoError(t, <-done)
			require.NoError(t, n.Publish(t.Context(), "k", numbered{3}))
			v, err := notification.Decode[numbered](next(t, s))
			require.NoError(t, err)
			assert.Equal(t, 3, v.N, "nothing came twice")
		})
	}
}

// An event whose first channel was not refused is published, if not everywhere.
func TestPartialPublishIsUncertain(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ history, count int }{
		"alone": {100, 1}, "batch": {100, 3}, "plain": {0, 1}, "plain batch": {0, 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t)
			admin := server.Client(t)
			client := limited(t, server, "resetchannels", "&workflow:events")
			n := newSystem(t, client, notification.WithHistory(c.history, 0))
			s := subscribe(t, newSystem(t, admin), "workflow:events")
			outcome := map[bool]string{
				true:  `^notification: publish to "workflow:events" has an unknown outcome: PARTIAL `,
				false: `^notification: publish to "workflow:1": `,
			}
			refused := func(err error, uncertain bool) {
				t.Helper()
				for _, err := range each(t, err, c.count) {
					var failed *notification.PublishError
					require.ErrorAs(t, err, &failed)
					assert.Equal(t, uncertain, failed.Uncertain)
					assert.Regexp(t, outcome[uncertain], err.Error())
					// What follows the code differs from server to server, and so does the code of what a script calls.
					var answer redis.Error
					if assert.ErrorAs(t, err, &answer) {
						assert.Regexp(t, `^(PARTIAL )?(NOPERM|ERR) .`, answer.Error(), "what the server said")
					}
				}
			}
			var partial, none []notification.Outgoing
			for range c.count {
				partial = append(partial, &notification.WorkflowEvent{ID: "1", Status: "s"})
				none = append(none, notification.To("workflow:1", struct{}{}))
			}
			refused(n.PublishBatch(t.Context(), partial...), true)
			for range c.count {
				next(t, s)
			}
			refused(n.PublishBatch(t.Context(), none...), false)
			if c.history > 0 {
				assert.EqualValues(t, c.count, admin.XLen(t.Context(), journalKey).Val(), "those that were published")
			}
		})
	}
}

// An event that was refused, and cannot be taken out of the journal again, may still be read there.
func TestRefusedEventThatStaysIsUncertain(t *testing.T) {
	t.Parallel()
	for name, count := range map[string]int{"alone": 1, "batch": 3} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t)
			n := newSystem(t, limited(t, server, "resetchannels", "-xdel"))
			batch := slices.Repeat([]notification.Outgoing{notification.To("k", struct{}{})}, count)
			for _, err := range each(t, n.PublishBatch(t.Context(), batch...), count) {
				var failed *notification.PublishError
				require.ErrorAs(t, err, &failed)
				assert.True(t, failed.Uncertain)
				assert.ErrorContains(t, err, "PARTIAL")
			}
			assert.EqualValues(t, count, server.Client(t).XLen(t.Context(), journalKey).Val())
		})
	}
}

// A journal that may not be given a time to live keeps no event from being published, nor calls it refused.
func TestPublishWithoutExpiry(t *testing.T) {
	t.Parallel()
	for name, count := range map[string]int{"alone": 1, "batch": 3} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t)
			admin := server.Client(t)
			n := newSystem(t, limited(t, server, "-pexpire"))
			s := subscribe(t, newSystem(t, admin), "k")
			batch := slices.Repeat([]notification.Outgoing{notification.To("k", struct{}{})}, count)
			require.NoError(t, n.PublishBatch(t.Context(), batch...))
			for range count {
				next(t, s)
			}
			assert.EqualValues(t, count, admin.XLen(t.Context(), journalKey).Val())
			assert.EqualValues(t, -1, admin.PTTL(t.Context(), journalKey).Val(), "it has none")
		})
	}
}

// The network's error is not what callers look for when their own context has ended.
func TestErrorOfAnEndedContext(t *testing.T) {
	t.Parallel()
	gone := errors.New("gone")
	for name, c := range map[string]struct {
		count int
		cause error // of the cancellation; nil means a deadline instead
	}{
		"cancelled": {1, context.Canceled}, "cancelled with a cause": {1, gone}, "cancelled batch": {3, context.Canceled},
		"deadline": {1, nil}, "deadline of a batch": {3, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t)
			client, proxy := through(t, server)
			n := newSystem(t, client)
			var batch []notification.Outgoing
			for range c.count {
				batch = append(batch, notification.To("k", struct{}{}))
			}
			require.NoError(t, n.PublishBatch(t.Context(), batch...)) // the script is known now
			proxy.SwallowToClient(true)
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			expected := c.cause
			if expected == nil {
				var stop context.CancelFunc
				ctx, stop = context.WithTimeout(ctx, 100*time.Millisecond)
				defer stop()
				expected = context.DeadlineExceeded
			}
			done := make(chan error, 1)
			go func() { done <- n.PublishBatch(ctx, batch...) }()
			if c.cause != nil {
				admin := server.Client(t)
				require.Eventually(t, func() bool {
					return admin.XLen(t.Context(), journalKey).Val() == int64(2*c.count)
				}, patience, time.Millisecond)
				cancel(c.cause) // after the event was published, and before the reply
			}
			for _, err := range each(t, <-done, c.count) {
				require.ErrorIs(t, err, expected)
				var failed *notification.PublishError
				require.ErrorAs(t, err, &failed)
				if c.cause != nil {
					assert.True(t, failed.Uncertain)
				}
			}
		})
	}
}

// What cannot have been sent was not published.
func TestNothingSentIsCertain(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	dead := redistest.Start(t)
	dead.Kill()
	newClient := func(change func(*redis.Options)) *redis.Client {
		options := server.Options()
		options.DialerRetries = 1
		change(options)
		client := redis.NewClient(options)
		t.Cleanup(func() { _ = client.Close() })
		return client
	}
	closed := newClient(func(*redis.Options) {})
	require.NoError(t, closed.Close())
	busy := newClient(func(o *redis.Options) { o.PoolSize, o.PoolTimeout = 1, time.Millisecond })
	taken := busy.Conn()
	t.Cleanup(func() { _ = taken.Close() })
	require.NoError(t, taken.Ping(t.Context()).Err())
	for name, c := range map[string]struct {
		client redis.UniversalClient
		cause  error
	}{
		"killed":                 {newClient(func(o *redis.Options) { o.Addr = dead.Addr() }), syscall.ECONNREFUSED},
		"closed":                 {closed, redis.ErrClosed},
		"no connection to spare": {busy, redis.ErrPoolTimeout},
		"not started":            {unopened(t, server.URL()), errNotStarted},
	} {
		for _, history := range []int{100, 0} {
			n := newSystem(t, c.client, notification.WithHistory(history, 0))
			for count := 1; count <= 2; count++ {
				batch := slices.Repeat([]notification.Outgoing{notification.To("k", struct{}{})}, count)
				for _, err := range each(t, n.PublishBatch(t.Context(), batch...), count) {
					var failed *notification.PublishError
					require.ErrorAs(t, err, &failed, name)
					assert.False(t, failed.Uncertain, "%s: %v", name, err)
					assert.ErrorIs(t, err, c.cause, name)
				}
			}
		}
	}
}

// refuse returns a dialer that fails as one does whom nobody answers.
func refuse(err error) func(context.Context, string, string) (net.Conn, error) {
	return func(context.Context, string, string) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Err: err}
	}
}

// That a repetition was not sent says nothing of the attempt before it.
func TestLostReplyIsUncertainThoughNobodyAnswersAnyMore(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	proxy := faultproxy.New(t, server.Addr())
	var gone atomic.Bool
	options := server.Options()
	options.Addr, options.DialerRetries = proxy.Addr(), 1
	options.Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
		if gone.Load() {
			return refuse(errors.New("nobody there"))(ctx, network, addr)
		}
		return new(net.Dialer).DialContext(ctx, network, addr)
	}
	client := redis.NewClient(options)
	t.Cleanup(func() { _ = client.Close() })
	n := newSystem(t, client)
	require.NoError(t, n.Publish(t.Context(), "k", struct{}{})) // the script is known now
	gone.Store(true)
	proxy.DropReplies(1)
	err := n.Publish(t.Context(), "k", struct{}{})
	var failed *notification.PublishError
	require.ErrorAs(t, err, &failed)
	assert.True(t, failed.Uncertain)
	assert.ErrorContains(t, err, "and then: dial: nobody there")
	assert.EqualValues(t, 2, server.Client(t).XLen(t.Context(), journalKey).Val(), "it was published")
}

// Nobody answered before the caller's context ended: the error tells both, and that nothing was sent.
func TestErrorOfAnEndedContextWithoutAServer(t *testing.T) {
	t.Parallel()
	options := redistest.Start(t).Options()
	options.DialerRetries, options.Dialer = 1, refuse(errors.New("nobody there"))
	client := redis.NewClient(options)
	t.Cleanup(func() { _ = client.Close() })
	n := newSystem(t, client)
	gone := errors.New("gone")
	ctx, cancel := context.WithCancelCause(t.Context())
	client.AddHook(redistest.AfterScript(func() { cancel(gone) }))
	err := n.PublishBatch(ctx, notification.To("k", struct{}{}), notification.To("k", struct{}{})) // which waits for the reply
	require.ErrorIs(t, err, gone)
	require.ErrorContains(t, err, "nobody there")
	var failed *notification.PublishError
	require.ErrorAs(t, err, &failed)
	assert.False(t, failed.Uncertain)
}

// publishUnheard publishes a batch whose reply the proxy swallows, and returns when a subscription has it. The outcome comes
// later.
func publishUnheard(
	t *testing.T, n *notification.RedisNotificationSystem, proxy *faultproxy.Proxy, s notification.Subscriber,
	batch []notification.Outgoing,
) (outcome <-chan error) {
	t.Helper()
	require.NoError(t, n.PublishBatch(t.Context(), batch...)) // the script is known now
	for range batch {
		next(t, s)
	}
	proxy.SwallowToClient(true)
	done := make(chan error, 1)
	go func() { done <- n.PublishBatch(t.Context(), batch...) }()
	for range batch {
		next(t, s)
	}
	return done
}

// each returns the errors of a batch, of which all have failed, or the one of a single event.
func each(t *testing.T, err error, count int) []error {
	t.Helper()
	errs := []error{err}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		errs = joined.Unwrap()
	}
	require.Len(t, errs, count)
	return errs
}
