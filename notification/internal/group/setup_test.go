package group

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/notification/internal/journal"
)

func TestMain(m *testing.M) { redistest.VerifyTestMain(m) }

// patience is how long a test waits for what should take milliseconds, on a busy machine.
const patience = 30 * time.Second

// writer appends to a journal as the publish script does.
type writer struct {
	client redis.UniversalClient
	keys   journal.Keys
	number int
	ahead  time.Duration // of the server's clock, as the journal has it
}

var appendEvent = redis.NewScript(`
local size = #ARGV[1] + #ARGV[2] + 64
local offset = redis.call('HINCRBY', KEYS[2], 'offset', size)
redis.call('HSETNX', KEYS[2], 'epoch', ARGV[3])
local time = redis.call('TIME')
local ms = time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[4]
return redis.call('XADD', KEYS[1], string.format('%.0f-%d', ms, offset), 'k', ARGV[1], 'v', ARGV[2])`)

// append appends events to a channel, and returns the ID of the last one.
func (w *writer) append(tb testing.TB, channel string, events int) (id string) {
	tb.Helper()
	for range events {
		w.number++
		key := string(journal.AppendKey(nil, "own", uint64(w.number), []string{channel}))
		object := fmt.Appendf(nil, `{"n":%d}`, w.number)
		value := journal.Join(journal.AppendHead(nil, time.Now(), "", "", object), object)
		var err error
		id, err = appendEvent.Run(tb.Context(), w.client, []string{w.keys.Journal, w.keys.State},
			key, value, fmt.Sprint("epoch", time.Now().UnixNano()), w.ahead.Milliseconds()).Text()
		require.NoError(tb, err)
	}
	return id
}

// bundle is a group on a server.
type bundle struct {
	*writer
	server *redistest.Server
	client redis.UniversalClient
	k      keys

	mu      sync.Mutex
	handled map[string]int // by body, which is the value
	order   []Event
	settled []Outcome
	gaps    []gap
	// do is what a member does with an event; nil is nothing. It may be changed with set.
	do func(ctx context.Context, e Event) Result
}

type gap struct {
	reason journal.Reason
	missed uint64
}

func setup(tb testing.TB, opts ...redistest.Option) *bundle {
	tb.Helper()
	server := redistest.Start(tb, opts...)
	return newBundle(server.Client(tb), server)
}

func newBundle(client redis.UniversalClient, server *redistest.Server) *bundle {
	names := journal.NewKeys("t:", "", 0)
	return &bundle{
		writer: &writer{client: client, keys: names}, server: server, client: client,
		k: newKeys(names, "g"), handled: make(map[string]int),
	}
}

func (b *bundle) set(do func(ctx context.Context, e Event) Result) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.do = do
}

// settings are those of a member which keeps events of the channel "k".
func (b *bundle) settings(client redis.UniversalClient) Settings {
	return Settings{
		Client: client, Journal: b.keys, Group: "g", Pattern: "k",
		Concurrency: 1, MaxAttempts: 5, FirstPause: 20 * time.Millisecond, LongestPause: time.Second,
		Claim: 30 * time.Second, DeadCap: 1000,
		Body: func(e *journal.Entry) (string, bool) { return e.Value, len(e.Channels) == 1 && e.Channels[0] == "k" },
		Handle: func(ctx context.Context, e Event) Result {
			b.mu.Lock()
			do := b.do
			b.mu.Unlock()
			var r Result
			if do != nil {
				r = do(ctx, e)
			}
			b.mu.Lock()
			defer b.mu.Unlock()
			b.order = append(b.order, e)
			if r.Err == nil {
				b.handled[e.Body]++
			}
			return r
		},
		Settled: func(_ Event, o Outcome, _ error) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.settled = append(b.settled, o)
		},
		Ready: func() {},
		Gap: func(reason journal.Reason, _ string, missed uint64) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.gaps = append(b.gaps, gap{reason, missed})
		},
		Log: zap.NewNop(),
	}
}

// run runs a member until the test ends, or stop is called.
func (b *bundle) run(tb testing.TB, change ...func(s *Settings)) (stop func()) {
	tb.Helper()
	set := b.settings(b.client)
	ctx, cancel := context.WithCancel(context.Background())
	ready, over := make(chan struct{}), make(chan error, 1)
	set.Ready = func() { close(ready) }
	for _, f := range change {
		f(&set)
	}
	go func() { over <- Run(ctx, set) }()
	stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-over:
			require.NoError(tb, err)
		case <-time.After(patience):
			require.FailNow(tb, "the member does not stop")
		}
	})
	tb.Cleanup(stop)
	select {
	case <-ready:
	case err := <-over:
		over <- err
		require.FailNow(tb, "not ready", "%v", err)
	case <-time.After(patience):
		require.FailNow(tb, "not ready")
	}
	return stop
}

// eventually waits for a condition.
func (b *bundle) eventually(tb testing.TB, what string, f func() bool) {
	tb.Helper()
	require.Eventually(tb, func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return f()
	}, patience, 5*time.Millisecond, what)
}

// done waits until so many different events were handled, and the group holds nothing.
func (b *bundle) done(tb testing.TB, events int) {
	tb.Helper()
	b.eventually(tb, "not all was handled", func() bool { return len(b.handled) >= events })
	b.empty(tb)
	require.Len(tb, b.handled, events)
}

// empty waits until the group holds nothing.
func (b *bundle) empty(tb testing.TB) {
	tb.Helper()
	b.eventually(tb, "the group holds something", func() bool {
		ctx := tb.Context()
		return b.client.HLen(ctx, b.k.events).Val() == 0 && b.client.ZCard(ctx, b.k.due).Val() == 0 &&
			b.client.HGet(ctx, b.k.progress, "held").Val() == "0" && b.client.HGet(ctx, b.k.progress, "bytes").Val() == "0"
	})
}

// reasons returns those of the gaps until now.
func (b *bundle) reasons() []journal.Reason {
	b.mu.Lock()
	defer b.mu.Unlock()
	reasons := []journal.Reason{}
	for _, g := range b.gaps {
		reasons = append(reasons, g.reason)
	}
	return reasons
}

var errFailed = errors.New("failed")
