package notification_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap/zaptest/observer"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/internal/redisx"
	"github.com/compozy/cache/notification"
)

// slowLink is a link that lets through so many bytes a second from the server, for all connections together.
type slowLink struct {
	mu   sync.Mutex
	rate int
}

type slowConn struct {
	net.Conn
	link *slowLink
}

func (c slowConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b[:min(len(b), 8<<10)])
	if n > 256 { // heartbeats and the like do not wait
		c.link.mu.Lock()
		defer c.link.mu.Unlock()
		_ = redisx.Sleep(context.Background(), time.Duration(n)*time.Second/time.Duration(c.link.rate))
	}
	return n, err
}

// overSlowLink returns a client that gives up after the time given, and repeats nothing.
func overSlowLink(t *testing.T, server *redistest.Server, rate int, timeout time.Duration) *redis.Client {
	t.Helper()
	link := &slowLink{rate: rate}
	return newClient(t, &redis.Options{
		Addr: server.Addr(), ReadTimeout: timeout, ContextTimeoutEnabled: true, MaxRetries: -1,
		Dialer: func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			if tcp, ok := conn.(*net.TCPConn); ok {
				_ = tcp.SetReadBuffer(16 << 10)
			}
			return slowConn{conn, link}, nil
		},
	})
}

func large(n, size int) map[string]any { return map[string]any{"n": n, "x": strings.Repeat("x", size)} }

// After a cut the journal is compared with what was known, though the events that this is about do not arrive together before
// the client gives up.
func TestRecoveryOverASlowLink(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	admin := server.Client(t)
	out := newSystem(t, admin)
	n := newSystem(t, overSlowLink(t, server, 400<<10, time.Second))
	r := record(t, subscribe(t, n, "k"))
	for i := 1; i <= 3; i++ {
		require.NoError(t, out.Publish(t.Context(), "k", large(i, 200<<10)))
	}
	r.reached(t, 3)
	require.NoError(t, admin.ClientKillByFilter(t.Context(), "type", "pubsub").Err())
	require.NoError(t, out.Publish(t.Context(), "k", large(4, 10)))
	r.reached(t, 4)
	assert.Empty(t, r.gaps())
}

// showOnFailure shows what was logged, if the test fails.
func showOnFailure(t *testing.T, logs *observer.ObservedLogs) {
	t.Helper()
	t.Cleanup(func() {
		for _, entry := range logs.All() {
			if t.Failed() {
				t.Log(entry.Time.Format(time.StampMicro), entry.Message, entry.ContextMap())
			}
		}
	})
}

// A group gets past events that do not arrive together before the client gives up: its leader asks for fewer from then on.
func TestConsumeOverASlowLink(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	out := newSystem(t, server.Client(t))
	const events = 40
	for i := range events {
		require.NoError(t, out.Publish(t.Context(), "k", large(i+1, 60<<10)))
	}
	gaps := make(chan notification.Gap, 10)
	log, logs := logging()
	showOnFailure(t, logs)
	client := overSlowLink(t, server, 1600<<10, 500*time.Millisecond)
	w := consumeSlowly(t, client, gaps, nil, log)
	w.first(t, events)
	assert.Empty(t, gaps)
	failed := logs.FilterMessage("notification: reading the journal for a group failed").Len()
	assert.Positive(t, failed, "the link is too fast")
	assert.LessOrEqual(t, failed, events/3, "it is not learnt for each event")
}

// A member that takes several events at once takes fewer once they do not arrive together.
func TestConsumeManyOverASlowLink(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	admin := server.Client(t)
	out := newSystem(t, admin)
	const events = 40
	for i := range events {
		require.NoError(t, out.Publish(t.Context(), "k", large(i+1, 60<<10)))
	}
	ctx, cancel := context.WithCancel(t.Context())
	over := make(chan error, 1)
	go func() { // has the group read the journal, and handles nothing
		over <- notification.Consume(ctx, out, "g", "k", func(ctx context.Context, _ numbered) error {
			<-ctx.Done()
			return ctx.Err()
		}, notification.WithFrom(""))
	}()
	require.Eventually(t, func() bool {
		return admin.ZCard(t.Context(), "cache:{notification}:group:g:due").Val() == events
	}, patience, 10*time.Millisecond)
	cancel()
	require.NoError(t, <-over)
	log, logs := logging()
	client := overSlowLink(t, server, 1200<<10, 500*time.Millisecond)
	w := consumeSlowly(t, client, make(chan notification.Gap, 10), []notification.ConsumeOption{notification.WithConcurrency(20)}, log)
	w.first(t, events)
	failed := logs.FilterMessage("notification: a group cannot be reached").Len()
	assert.Positive(t, failed, "the link is too fast")
	assert.LessOrEqual(t, failed, events/3, "it is not learnt for each turn")
}

// One that never arrives is skipped and reported. What the group has read before it, and does not want, is no hindrance.
func TestConsumeSkipsWhatCannotBeRead(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	out := newSystem(t, server.Client(t))
	require.NoError(t, out.Publish(t.Context(), "other", large(1, 10)))
	require.NoError(t, out.Publish(t.Context(), "k", large(2, 400<<10)))
	require.NoError(t, out.Publish(t.Context(), "k", large(3, 10)))
	gaps := make(chan notification.Gap, 10)
	w := consumeSlowly(t, overSlowLink(t, server, 100<<10, 2*time.Second), gaps, nil)
	limit := time.After(2 * patience)
	select {
	case g := <-gaps:
		assert.Equal(t, notification.GapUnreadable, g.Reason)
	case <-limit:
		require.FailNow(t, "no gap")
	}
	w.first(t, 1)
	assert.Equal(t, map[int]int{3: 1}, w.numbers())
	assert.Empty(t, gaps)
}

// Dead letters that do not arrive together before the client gives up arrive one by one.
func TestDeadLettersOverASlowLink(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	admin := server.Client(t)
	out := newSystem(t, admin)
	const events = 20
	for i := range events {
		require.NoError(t, out.Publish(t.Context(), "k", large(i+1, 60<<10)))
	}
	ctx, cancel := context.WithCancel(t.Context())
	over := make(chan error, 1)
	go func() {
		over <- notification.Consume(ctx, out, "g", "k", func(context.Context, numbered) error {
			return notification.Permanent(errors.New("no"))
		}, notification.WithFrom(""))
	}()
	require.Eventually(t, func() bool {
		return admin.XLen(t.Context(), "cache:{notification}:group:g:dead").Val() == events
	}, patience, 10*time.Millisecond)
	cancel()
	require.NoError(t, <-over)
	n := newSystem(t, overSlowLink(t, server, 1200<<10, 500*time.Millisecond))
	read := 0
	for letter, err := range n.DeadLetters(t.Context(), "g") {
		require.NoError(t, err)
		read++
		assert.NotEmpty(t, letter.Message.Payload)
	}
	assert.Equal(t, events, read)
}

// consumeSlowly consumes events of "k" from the beginning of the journal.
func consumeSlowly(
	t *testing.T, client *redis.Client, gaps chan<- notification.Gap, how []notification.ConsumeOption, opts ...notification.Option,
) *work {
	t.Helper()
	n, w := newSystem(t, client, opts...), newWork()
	ctx, cancel := context.WithCancel(t.Context())
	over := make(chan error, 1)
	go func() {
		over <- notification.Consume(ctx, n, "g", "k", func(ctx context.Context, v numbered) error {
			w.add(ctx, v)
			return nil
		}, append(how, notification.WithFrom(""), notification.WithOnGap(func(g notification.Gap) { gaps <- g }))...)
	}()
	t.Cleanup(func() {
		cancel()
		assert.NoError(t, <-over)
	})
	return w
}
