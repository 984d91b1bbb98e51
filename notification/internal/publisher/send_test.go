package publisher

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/arguments"
	"github.com/compozy/cache/internal/faultproxy"
	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/notification/internal/journal"
)

// uncertain returns an event's error.
func uncertain(t *testing.T, err error) bool {
	t.Helper()
	var failed *Error
	require.ErrorAs(t, err, &failed)
	return failed.Uncertain
}

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

// While the server stands still for longer than clients wait, many callers publish. What they have sent by then, with all
// repetitions, keeps nobody waiting afterwards, and each event is published once.
func TestServerIsFreeAfterAStall(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	admin := server.Client(t)
	client := impatient(t, server.Addr(), time.Second, func(o *redis.Options) { o.PoolSize = 10 })
	p := newPublisher(client)
	for range 10_000 / maxBatch { // a long journal
		require.NoError(t, publish(t, p, "k", maxBatch, 100))
	}
	// What a search through the journal took would be in the log of slow commands.
	require.NoError(t, admin.ConfigSet(t.Context(), "slowlog-log-slower-than", "100000").Err())
	require.NoError(t, admin.Do(t.Context(), "slowlog", "reset").Err())
	var attempts, published atomic.Int64
	ctx, stop := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for range 320 {
		all.Go(func() {
			pace := time.NewTicker(320 * time.Millisecond) // a thousand a second in total
			defer pace.Stop()
			for {
				select {
				case <-ctx.Done():
					return
				case <-pace.C:
				}
				e := &Event{}
				e.To("k")
				if assert.NoError(t, p.Encode(context.Background(), e, struct{}{}, false)) {
					attempts.Add(1)
					if p.Publish(context.Background(), e) == nil {
						published.Add(1)
					}
				}
			}
		})
	}
	require.Eventually(t, func() bool { return published.Load() > 320 }, patience, time.Millisecond)
	server.Stop()
	const stall = 4 * time.Second
	stalled := time.NewTimer(stall)
	<-stalled.C
	server.Continue()
	slowest := time.Duration(0)
	pinging := time.Now()
	for time.Since(pinging) < time.Second {
		begun := time.Now()
		require.NoError(t, admin.Ping(t.Context()).Err())
		slowest = max(slowest, time.Since(begun))
	}
	stop()
	all.Wait()
	t.Logf("slowest PING %v, %d of %d published", slowest, published.Load(), attempts.Load())
	for _, command := range admin.SlowLogGet(t.Context(), -1).Val() {
		assert.GreaterOrEqual(t, command.Duration, stall-100*time.Millisecond, "other than the one in which the server was stopped")
	}
	assert.GreaterOrEqual(t, int64(length(t, admin, p)), min(published.Load(), 10_000))
	keys := map[string]bool{}
	for _, m := range admin.XRange(t.Context(), p.set.Keys.Journal, "-", "+").Val() {
		key, _ := m.Values["k"].(string)
		require.False(t, keys[key], "doubled")
		keys[key] = true
	}
}

// A first attempt that is held up in the network arrives after its repetition, or after later requests, and does nothing.
func TestAttemptHeldUpDoesNothing(t *testing.T) {
	t.Parallel()
	for name, count := range map[string]int{"one": 1, "batch": 3} {
		for _, later := range []int{0, 1, 5} {
			t.Run(fmt.Sprint(name, ", requests after it: ", later), func(t *testing.T) {
				t.Parallel()
				server := redistest.Start(t)
				admin := server.Client(t)
				proxy := faultproxy.New(t, server.Addr())
				p := newPublisher(impatient(t, proxy.Addr(), 200*time.Millisecond))
				require.NoError(t, publish(t, p, "k", count, 0)) // the script is known, and the connection open
				let := proxy.HoldToServer()
				require.NoError(t, publish(t, p, "k", count, 0))
				for range later {
					require.NoError(t, publish(t, p, "k", count, 0))
				}
				require.Equal(t, (2+later)*count, length(t, admin, p))
				let()
				held := func() bool {
					stats := admin.Info(t.Context(), "commandstats").Val()
					return strings.Contains(stats, fmt.Sprintf("cmdstat_evalsha:calls=%d,", 3+later)) // with one NOSCRIPT
				}
				require.Eventually(t, held, patience, time.Millisecond, "it has arrived")
				requireChain(t, admin, p, (2+later)*count)
			})
		}
	}
}

// Requests and replies are lost at random, and connections cut. What is published is in the journal once, and what was
// refused not at all.
func TestUnderFaults(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	admin := server.Client(t)
	proxy := faultproxy.New(t, server.Addr())
	p := newPublisher(impatient(t, proxy.Addr(), 50*time.Millisecond, func(o *redis.Options) { o.PoolSize = 10 }),
		func(s *Settings) { s.History = 1_000_000 })
	require.NoError(t, publish(t, p, "warm", 1, 0))
	ctx, stop := context.WithCancel(t.Context())
	var faults sync.WaitGroup
	faults.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			switch i % 4 {
			case 0:
				proxy.DropReplies(3)
			case 1:
				proxy.Cut()
			case 2:
				proxy.SwallowToServer(true)
			default:
				proxy.SwallowToClient(true)
			}
			pause := time.NewTimer(20 * time.Millisecond)
			<-pause.C
			proxy.SwallowToServer(false)
			proxy.SwallowToClient(false)
		}
	})
	type outcome struct{ published, refused, unknown []string }
	outcomes := make([]outcome, 16)
	var all sync.WaitGroup
	for i := range outcomes {
		all.Go(func() {
			for range 40 {
				batch := make([]*Event, 1+2*(i%2))
				for n := range batch {
					batch[n] = &Event{Index: n}
					batch[n].To("k")
					if !assert.NoError(t, p.Encode(ctx, batch[n], struct{}{}, false)) {
						return
					}
				}
				_ = send(context.Background(), p, batch)
				for _, e := range batch {
					o := &outcomes[i]
					switch err := e.outcome(context.Background()); {
					case err == nil:
						o.published = append(o.published, e.key)
					case certain(e.err):
						o.refused = append(o.refused, e.key)
					default:
						o.unknown = append(o.unknown, e.key)
					}
				}
			}
		})
	}
	all.Wait()
	stop()
	faults.Wait()
	times := map[string]int{}
	for _, m := range admin.XRange(t.Context(), p.set.Keys.Journal, "-", "+").Val() {
		key, _ := m.Values["k"].(string)
		times[key]++
	}
	unknown := 0
	for _, o := range outcomes {
		unknown += len(o.unknown)
		for _, key := range o.published {
			assert.Equal(t, 1, times[key], key)
		}
		for _, key := range o.refused {
			assert.Zero(t, times[key], key)
		}
		for _, key := range o.unknown {
			assert.LessOrEqual(t, times[key], 1, key)
		}
	}
	t.Logf("%d in the journal, %d uncertain", len(times), unknown)
	requireChain(t, admin, p, len(times))
}

// A failover loses what the server knew of the lane, but not the event: it comes twice, and the second says that it may.
func TestRedeliveredAfterAFailover(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	admin := server.Client(t)
	proxy := faultproxy.New(t, server.Addr())
	p := newPublisher(impatient(t, proxy.Addr(), 200*time.Millisecond))
	require.NoError(t, publish(t, p, "k", 1, 0))
	sub := admin.Subscribe(t.Context(), "k")
	t.Cleanup(func() { _ = sub.Close() })
	_, err := sub.Receive(t.Context())
	require.NoError(t, err)
	payload := func() string {
		m, err := sub.ReceiveMessage(t.Context())
		require.NoError(t, err)
		return m.Payload
	}
	proxy.SwallowToClient(true)
	done := make(chan error, 1)
	all := events(t, p, "k", 1, 5)
	go func() { done <- send(t.Context(), p, all) }()
	first := payload()
	require.NoError(t, admin.Del(t.Context(), p.lanes.prefix+"0").Err())
	proxy.SwallowToClient(false)
	require.NoError(t, <-done)
	second := payload()
	one, ours := journal.Open(first, "")
	require.True(t, ours)
	two, ours := journal.Open(second, "")
	require.True(t, ours)
	assert.False(t, one.Redelivered)
	assert.True(t, two.Redelivered)
	assert.Equal(t, one.Stamp, two.Stamp)
	assert.Contains(t, second, `,"v":"xxxxx"}`)
	requireChain(t, admin, p, 3)
}

// An attempt that cannot have been executed is followed by another first attempt.
func TestRepetitionOfWhatWasNotSentIsNotMarked(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	admin := server.Client(t)
	client := impatient(t, server.Addr(), patience)
	p := newPublisher(client)
	require.NoError(t, admin.Do(t.Context(), "replicaof", "127.0.0.1", "1").Err())
	client.AddHook(redistest.AfterScript(func() { assert.NoError(t, admin.Do(context.Background(), "replicaof", "no", "one").Err()) }))
	require.NoError(t, publish(t, p, "k", 1, 0))
	entries := read(t, admin, p)
	require.Len(t, entries, 1)
	assert.False(t, entries[0].Redelivered)
}

// An event that is too large is refused before anything is sent.
func TestLargeEventIsRefused(t *testing.T) {
	t.Parallel()
	client := redistest.Start(t).Client(t)
	var commands sent
	client.AddHook(&commands)
	for _, history := range []int{100, 0} {
		p := newPublisher(client, func(s *Settings) { s.MaxEventSize, s.History = 1000, history })
		e := &Event{}
		e.To("k")
		require.NoError(t, p.Encode(t.Context(), e, map[string]string{"v": strings.Repeat("x", 900)}, false))
		for own, argument := range map[bool]string{false: "v", true: "event.Data"} {
			err := p.Encode(t.Context(), &Event{}, map[string]string{"v": strings.Repeat("x", 1000)}, own)
			var refused *arguments.Error
			require.ErrorAs(t, err, &refused)
			assert.Equal(t, argument, refused.Argument)
			assert.ErrorContains(t, err, "WithMaxEventSize")
		}
		long := &Event{}
		long.To(strings.Repeat("c", 2000))
		require.Error(t, p.Encode(t.Context(), long, struct{}{}, false), "the names of channels count")
	}
	assert.Empty(t, commands.take())
}

// An event that is larger than the server accepts breaks the connection at each attempt. It is certain all the same that it
// was not published, and it stays so.
func TestEventBeyondTheServersLimitIsCertain(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.WithConfig("proto-max-bulk-len", "1mb"))
	admin := server.Client(t)
	p := newPublisher(impatient(t, server.Addr(), patience), func(s *Settings) { s.MaxEventSize = 16 << 20 })
	require.NoError(t, publish(t, p, "k", 1, 1<<20-200))
	for _, bytes := range []int{1<<20 + 1, 8 << 20} {
		err := publish(t, p, "k", 1, bytes)
		require.Error(t, err)
		assert.False(t, uncertain(t, err), "%v", err)
	}
	require.NoError(t, publish(t, p, "k", 1, 0))
	requireChain(t, admin, p, 2)
}

// If such an event was published after all, that is not denied.
func TestAnnulledIsOnlyWhatWasNotExecuted(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	p := newPublisher(server.Client(t), func(s *Settings) { s.MaxEventSize = 16 << 20 })
	all := events(t, p, "k", 1, 2<<20)
	l := p.lanes.take()
	l.number = 10
	require.True(t, p.annulled(t.Context(), l, all))
	failures, err := p.append(t.Context(), l, all, false)
	require.NoError(t, err)
	require.Empty(t, failures)
	require.Zero(t, length(t, server.Client(t), p), "an attempt that comes later does nothing")
	l.number++
	_, err = p.append(t.Context(), l, all, false)
	require.NoError(t, err)
	require.False(t, p.annulled(t.Context(), l, all))
	require.NoError(t, server.Client(t).Set(t.Context(), l.key, "11 0 NOPERM", 0).Err())
	require.False(t, p.annulled(t.Context(), l, all))
	require.False(t, p.annulled(t.Context(), l, events(t, p, "k", 1, 0)), "a small one may just be slow")
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
