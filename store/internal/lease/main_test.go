package lease_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/compozy/cache/internal/batch"
	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/internal/redisx"
	"github.com/compozy/cache/store/internal/entry"
	"github.com/compozy/cache/store/internal/lease"
)

func TestMain(m *testing.M) { redistest.VerifyTestMain(m) }

const (
	patience = 20 * time.Second
	tick     = 5 * time.Millisecond
)

// runner repeats a script until it has a reply.
type runner struct{ commands *batch.Commands }

func (r runner) Run(
	ctx context.Context, script *redisx.Script, keys []string, args func(again bool) []any,
) (reply any, lost bool, err error) {
	for {
		reply, err = script.Run(ctx, func(ctx context.Context, cmd redis.Cmder) error {
			return r.commands.Process(ctx, keys[0], cmd, 0)
		}, keys, args(lost)...)
		if err == nil || !redisx.IsTransient(err) || redisx.Sleep(ctx, tick) != nil {
			return reply, lost, err
		}
		lost = true
	}
}

func (runner) Ask(ctx context.Context, _ string, f func(ctx context.Context) error) error {
	return f(ctx)
}

// newLeases returns the leases of what stands for a process, until the test ends. It may be given a runner.
func newLeases(t *testing.T, client redis.UniversalClient, runners ...lease.Runner) *lease.Leases {
	t.Helper()
	if len(runners) == 0 {
		runners = append(runners, runner{batch.NewCommands(client, batch.CommandSettings{Timeout: patience})})
	}
	closing, closeNow := context.WithCancel(context.Background())
	var work sync.WaitGroup
	t.Cleanup(func() {
		closeNow()
		work.Wait()
	})
	return lease.New(lease.Settings{
		Client: client, Timeout: patience, Prefix: "cache:", Closing: closing, Go: work.Go, Log: zap.NewNop(),
		Runner: runners[0],
	})
}

func newClient(t *testing.T, addr string) *redis.Client {
	t.Helper()
	c := redis.NewClient(&redis.Options{Addr: addr, ContextTimeoutEnabled: true, MaxRetries: -1})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// setup returns the leases of two processes on one server.
func setup(t *testing.T) (a, b *lease.Leases, server *redistest.Server) {
	t.Helper()
	server = redistest.Start(t)
	return newLeases(t, newClient(t, server.Addr())), newLeases(t, newClient(t, server.Addr())), server
}

func keys(name string) lease.Keys {
	return lease.Keys{Value: "cache:v:n:{" + name + "}", Lease: "cache:l:n:{" + name + "}", Codec: 'j'}
}

// value is what holders store.
func value(payload string) lease.Value {
	return lease.Value{
		Kind: entry.Value, Codec: 'j', Compression: entry.Plain, Payload: []byte(payload), TTL: time.Minute, Keep: time.Minute,
	}
}

// claim returns a claim that is closed when the test ends.
func claim(t *testing.T, l *lease.Leases, k lease.Keys) *lease.Claim {
	t.Helper()
	c := l.Claim(k, 0)
	t.Cleanup(c.Close)
	return c
}

// grant returns a lease that must be free.
func grant(t *testing.T, l *lease.Leases, k lease.Keys) *lease.Lease {
	t.Helper()
	a := claim(t, l, k).Ask(t.Context())
	require.NoError(t, a.Err)
	require.Equal(t, lease.Granted, a.Outcome)
	return a.Lease
}

// await asks for a lease that is busy, and returns a channel for what comes of it.
func await(t *testing.T, l *lease.Leases, k lease.Keys) <-chan lease.Answer {
	t.Helper()
	c := claim(t, l, k)
	busy := c.Ask(t.Context())
	require.NoError(t, busy.Err)
	require.Equal(t, lease.Busy, busy.Outcome)
	answers := make(chan lease.Answer, 1)
	go func() { answers <- c.Await(t.Context(), busy, false) }()
	return answers
}

// hears returns once b hears what becomes of the leases of a: when that begins, all waiters ask again.
func hears(t *testing.T, a, b *lease.Leases) {
	t.Helper()
	k := keys("warm")
	held := grant(t, a, k)
	waiting := await(t, b, k)
	require.True(t, held.Fill(t.Context(), value("")).Stored)
	payload(t, receive(t, waiting)) // by a message, or as it has asked again
}

func receive[T any](t *testing.T, ch <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-ch:
	case <-time.After(patience):
		require.FailNow(t, "waited in vain")
	}
	return v
}

// payload returns the payload of an answer that has a value.
func payload(t *testing.T, a lease.Answer) string {
	t.Helper()
	require.NoError(t, a.Err)
	require.Equal(t, lease.Fresh, a.Outcome)
	e, err := entry.Parse(a.Raw)
	require.NoError(t, err)
	return string(e.Payload)
}
