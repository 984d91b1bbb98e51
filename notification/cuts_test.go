package notification_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/notification"
)

// Connections break anywhere, also between the copies of an event, and whoever gets several of them gets it once.
func TestCutsBetweenCopies(t *testing.T) {
	t.Parallel()
	const events, ids = 2000, 3
	server := redistest.Start(t)
	line := &brittle{}
	options := server.Options()
	options.Dialer = line.Dial
	options.Protocol = 2 // with the other one go-redis prints what it thinks of broken connections
	client := redis.NewClient(options)
	t.Cleanup(func() { _ = client.Close() })
	n := newSystem(t, client, notification.WithLongestPause(2*time.Millisecond))
	recorders := make(map[string]*recorder)
	for _, pattern := range []string{"workflow:*", "*", "workflow:[0-9]", notification.WorkflowEvents, "workflow:1"} {
		recorders[pattern] = record(t, subscribe(t, n, pattern))
	}
	outside := newSystem(t, server.Client(t))
	sent := make(map[string][]int) // by workflow
	var all []int
	publish := func() {
		number := len(all) + 1
		id := fmt.Sprint(number % ids)
		require.NoError(t, outside.PublishWorkflowEvent(t.Context(), &notification.WorkflowEvent{ID: id, Data: numbered{number}}))
		all, sent[id] = append(all, number), append(sent[id], number)
	}
	line.breaks.Store(true)
	for len(all) < events || line.broken.Load() < 50 {
		publish()
	}
	line.breaks.Store(false)
	for range ids {
		publish()
	}
	for pattern, r := range recorders {
		expected := all
		if pattern == "workflow:1" {
			expected = sent["1"]
		}
		r.reached(t, expected[len(expected)-1])
		assert.Zero(t, r.verify(t, expected), pattern)
		assert.Empty(t, r.gaps(), pattern)
	}
	assert.Positive(t, n.GetMetrics().MessagesRecovered)
	t.Logf("%d events, %d cuts", len(all), line.broken.Load())
}

// brittle makes connections of which those that subscribe break after some bytes.
type brittle struct {
	breaks atomic.Bool
	broken atomic.Int64
}

func (b *brittle) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return &brittleConn{Conn: conn, line: b, left: 200 + rand.IntN(5000)}, nil
}

type brittleConn struct {
	net.Conn
	line       *brittle
	subscribes atomic.Bool
	left       int // bytes until it breaks
}

func (c *brittleConn) Write(b []byte) (int, error) {
	if bytes.Contains(b, []byte("\r\nsubscribe\r\n")) {
		c.subscribes.Store(true)
	}
	return c.Conn.Write(b)
}

func (c *brittleConn) Read(b []byte) (int, error) {
	if !c.subscribes.Load() || !c.line.breaks.Load() {
		return c.Conn.Read(b)
	}
	if c.left == 0 {
		c.line.broken.Add(1)
		_ = c.Close()
		return 0, io.EOF
	}
	n, err := c.Conn.Read(b[:min(len(b), c.left)])
	c.left -= n
	return n, err
}

// Several publish at the same time and lose replies, on a client that loses its subscribing connection as well. What each
// of them has published arrives once and in its order.
func TestPublishersThatLoseReplies(t *testing.T) {
	t.Parallel()
	const publishers, events = 8, 300
	server := redistest.Start(t)
	client, proxy := through(t, server)
	n := newSystem(t, client, notification.WithLongestPause(10*time.Millisecond))
	all := record(t, subscribe(t, n, "p:*"))
	var working sync.WaitGroup
	var exact []*recorder
	var each []*publisher
	for i := range publishers {
		channel := fmt.Sprint("p:", i)
		p := &publisher{system: n}
		each = append(each, p)
		exact = append(exact, record(t, subscribe(t, n, channel)))
		working.Go(func() { assert.Zero(t, p.publish(t.Context(), channel, events)) })
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		working.Wait()
	}()
	admin := server.Client(t)
	pause := time.NewTicker(time.Millisecond)
	defer pause.Stop()
	lost, until := 0, int64(0)
	for busy := true; busy; {
		select {
		case <-done:
			busy = false
		case <-pause.C:
			if n.GetMetrics().MessagesPublished < until {
				continue // who loses the replies to all repetitions too has to fail
			}
			until = n.GetMetrics().MessagesPublished + 20
			proxy.DropReplies(1)
			if lost++; lost%5 == 0 {
				require.NoError(t, admin.ClientKillByFilter(t.Context(), "type", "pubsub").Err())
			}
		}
	}
	proxy.DropReplies(0)
	for i, p := range each {
		channel := fmt.Sprint("p:", i)
		require.Zero(t, p.publish(t.Context(), channel, 1))
		exact[i].reached(t, p.last)
		assert.Zero(t, exact[i].verify(t, p.sent), channel)
		require.Eventually(t, func() bool { return all.on(channel).last() == p.last }, patience, time.Millisecond)
		assert.Zero(t, all.on(channel).verify(t, p.sent), channel)
		assert.Empty(t, exact[i].gaps())
	}
	assert.Empty(t, all.gaps())
	assert.Positive(t, n.GetMetrics().Reconnects)
	assert.EqualValues(t, publishers*(events+1), admin.XLen(t.Context(), journalKey).Val())
	t.Logf("%d replies lost, %d reconnects", lost, n.GetMetrics().Reconnects)
}

// on returns what a recorder has of one channel.
func (r *recorder) on(channel string) *recorder {
	r.mu.Lock()
	defer r.mu.Unlock()
	part := &recorder{}
	for i, m := range r.messages {
		if m.Channel == channel {
			part.messages = append(part.messages, m)
			part.numbers = append(part.numbers, r.numbers[i])
		}
	}
	return part
}
