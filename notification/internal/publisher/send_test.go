package publisher

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/faultproxy"
	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/notification/internal/journal"
)

// sent notes the arguments of all commands that a client has sent.
type sent struct {
	redistest.Hook

	mu   sync.Mutex
	args [][]any
}

func (h *sent) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if cmd.Name() != "hello" { // which begins a connection
			h.mu.Lock()
			h.args = append(h.args, cmd.Args())
			h.mu.Unlock()
		}
		return next(ctx, cmd)
	}
}

func (h *sent) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.args)
}

func (h *sent) take() [][]any {
	h.mu.Lock()
	defer h.mu.Unlock()
	args := h.args
	h.args = nil
	return args
}

// A publisher's first event is one round trip like all others, and fails as soon, as there is nothing to ask before.
func TestFirstPublishIsOneRoundTrip(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client := impatient(t, server.Addr(), 100*time.Millisecond)
	require.NoError(t, publish(t, newPublisher(client), "k", 1, 0)) // the script is known
	var commands sent
	client.AddHook(&commands)
	require.NoError(t, publish(t, newPublisher(client), "k", 1, 0))
	require.Len(t, commands.take(), 1)

	p := newPublisher(client)
	server.Stop()
	require.Error(t, publish(t, p, "k", 1, 0))
	first := len(commands.take())
	require.Error(t, publish(t, p, "k", 1, 0))
	assert.Len(t, commands.take(), first)
	assert.Equal(t, p.retries.count+1, first)
	server.Continue()
}

// A caller that has waited for a connection as long as the client is set to does not wait again.
func TestNoConnectionToSpareIsNotRepeated(t *testing.T) {
	t.Parallel()
	client := impatient(t, redistest.Start(t).Addr(), patience, func(o *redis.Options) { o.PoolTimeout = 10 * time.Millisecond })
	taken := client.Conn()
	t.Cleanup(func() { _ = taken.Close() })
	require.NoError(t, taken.Ping(t.Context()).Err())
	var commands sent
	client.AddHook(&commands)
	err := publish(t, newPublisher(client), "k", 1, 0)
	require.ErrorIs(t, err, redis.ErrPoolTimeout)
	assert.False(t, uncertain(t, err))
	assert.Len(t, commands.take(), 1)
}

// The reply to a request is lost. The repetition costs the server no more than a first attempt, however long the journal is.
func TestLostReplyCostsNoMoreInALongJournal(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	admin := server.Client(t)
	proxy := faultproxy.New(t, server.Addr())
	p := newPublisher(impatient(t, proxy.Addr(), patience))
	for range 10_000 / maxBatch {
		require.NoError(t, publish(t, p, "k", maxBatch, 100))
	}
	for _, count := range []int{1, 10} {
		require.NoError(t, admin.ConfigResetStat(t.Context()).Err())
		before := length(t, admin, p)
		proxy.DropReplies(1)
		require.NoError(t, publish(t, p, "k", count, 0))
		assert.Equal(t, before+count, length(t, admin, p))
		stats := admin.Info(t.Context(), "commandstats").Val()
		called := func(command string) (n int) {
			_, after, found := strings.Cut(stats, "cmdstat_"+command+":calls=")
			if found {
				_, err := fmt.Sscanf(after, "%d", &n)
				require.NoError(t, err)
			}
			return n
		}
		assert.Equal(t, 2, called("evalsha"), "an attempt and its repetition")
		assert.Equal(t, count, called("xadd"))
		assert.Equal(t, 3, called("set"), "two in each lane, and one that restores it")
		for _, command := range []string{"xrange", "xrevrange", "xread", "hgetall", "keys", "scan"} {
			assert.Zero(t, called(command), command)
		}
	}
}

func TestChannelPrefix(t *testing.T) {
	t.Parallel()
	client := redistest.Start(t).Client(t)
	p := newPublisher(client, func(s *Settings) {
		s.ChannelPrefix, s.Keys = "staging:", journal.NewKeys(journal.DefaultKeyPrefix, "staging:", 0)
	})
	sub := client.Subscribe(t.Context(), "staging:k")
	t.Cleanup(func() { _ = sub.Close() })
	_, err := sub.Receive(t.Context())
	require.NoError(t, err)
	require.NoError(t, publish(t, p, "k", 1, 0))
	m, err := sub.ReceiveMessage(t.Context())
	require.NoError(t, err)
	_, ours := journal.Open(m.Payload, p.set.Keys.Tag)
	assert.True(t, ours)
	assert.Equal(t, []string{"staging:k"}, read(t, client, p)[0].Channels)
	assert.Equal(t, []string{
		"cache:{notification}:staging::journal", "cache:{notification}:staging::lane:" + p.own + ":0", "cache:{notification}:staging::state",
	}, slices.Sorted(slices.Values(client.Keys(t.Context(), "*").Val())))

	closed := impatient(t, "127.0.0.1:1", patience)
	require.NoError(t, closed.Close())
	p.set.Client = closed
	var failed *Error
	require.ErrorAs(t, publish(t, p, "k", 1, 0), &failed)
	assert.Equal(t, "k", failed.Channel, "as its caller calls it")
}

// The embedded server runs the same scripts.
func TestEmbeddedServer(t *testing.T) {
	t.Parallel()
	server := miniredis.RunT(t)
	client := redis.NewClient(&redis.Options{Addr: server.Addr()})
	t.Cleanup(func() { _ = client.Close() })
	p := newPublisher(client, func(s *Settings) { s.HistoryBytes = 100_000 })
	for range 300 {
		require.NoError(t, publish(t, p, "k", 2, 1000))
	}
	entries := read(t, client, p)
	requireChain(t, client, p, len(entries))
	assert.LessOrEqual(t, int(entries[len(entries)-1].Pos.Offset-entries[0].Start()), 100_000)
	p = newPublisher(client) // which keeps all that follows
	ahead := redis.XAddArgs{Stream: p.set.Keys.Journal, ID: "8000000000000-0", Values: []any{"k", "v"}}
	require.NoError(t, client.XAdd(t.Context(), &ahead).Err())
	require.NoError(t, publish(t, p, "k", 2, 0))
	require.NoError(t, publish(t, p, "k", 1, 0))
	assert.Equal(t, len(entries)+4, length(t, client, p))
	l := p.lanes.take()
	all := events(t, p, "k", 1, 0)
	for range 2 {
		failures, err := p.append(t.Context(), l, all, false)
		require.NoError(t, err)
		require.Empty(t, failures)
	}
	assert.Equal(t, len(entries)+5, length(t, client, p))
}

// Callers that end while others wait for their lanes get a lane each, and lanes are used again.
func TestLanesAreUsedAgain(t *testing.T) {
	t.Parallel()
	client := redistest.Start(t).Client(t)
	p := newPublisher(client)
	for range 20 {
		require.NoError(t, publish(t, p, "k", 1, 0))
	}
	assert.Equal(t, 1, p.lanes.made)
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("gone"))
	require.Error(t, send(ctx, p, events(t, p, "k", 2, 0)))
	assert.Equal(t, "20", client.Get(t.Context(), p.lanes.prefix+"0").Val())
}

// What is taken from the queue at the end of its callers' time is not sent, and they know it.
func TestNothingIsSentAfterTheDeadline(t *testing.T) {
	t.Parallel()
	client := redistest.Start(t).Client(t)
	var commands sent
	client.AddHook(&commands)
	for _, history := range []int{100, 0} {
		p := newPublisher(client, func(s *Settings) { s.History = history })
		all := events(t, p, "k", 2, 0)
		p.send(overdue{t.Context()}, all)
		for _, e := range all {
			err := e.outcome(t.Context())
			require.ErrorIs(t, err, context.DeadlineExceeded)
			assert.False(t, uncertain(t, err))
		}
	}
	assert.Empty(t, commands.take())
}

// overdue is a context that has not noticed yet that its time is over.
type overdue struct{ context.Context } //nolint:containedctx // it is one

func (overdue) Deadline() (time.Time, bool) { return time.Now(), true }
