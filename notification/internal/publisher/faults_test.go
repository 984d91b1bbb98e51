package publisher

import (
	"context"
	"fmt"
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
	"github.com/compozy/cache/notification/internal/journal"
)

// uncertain returns an event's error.
func uncertain(t *testing.T, err error) bool {
	t.Helper()
	var failed *Error
	require.ErrorAs(t, err, &failed)
	return failed.Uncertain
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
