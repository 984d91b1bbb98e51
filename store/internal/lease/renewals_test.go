package lease_test

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/embedded"
	"github.com/compozy/cache/internal/batch"
	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/internal/redisx"
	"github.com/compozy/cache/store/internal/lease"
)

// renewed is a hook that counts how often each lease is renewed. It is the only script with one key.
type renewed struct {
	redistest.Hook

	mu     sync.Mutex // guards counts
	counts map[string]int
}

func (r *renewed) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		r.note(cmd)
		return next(ctx, cmd)
	}
}

func (r *renewed) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		for _, cmd := range cmds {
			r.note(cmd)
		}
		return next(ctx, cmds)
	}
}

func (r *renewed) note(cmd redis.Cmder) {
	if args := cmd.Args(); cmd.Name() == "evalsha" && args[2] == 1 {
		r.mu.Lock()
		defer r.mu.Unlock()
		key, _ := args[3].(string)
		r.counts[key]++
	}
}

func (r *renewed) count(name string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.counts[keys(name).Lease]
}

func TestYoungLeasesAreNotRenewed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := embedded.New()
		client := redis.NewClient(&redis.Options{
			ContextTimeoutEnabled: true, Dialer: server.Dial,
			MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		})
		t.Cleanup(func() {
			_ = client.Close()
			_ = server.Close()
			time.Sleep(time.Minute) // in a bubble: a client may still be trying to dial in the background
		})
		r := &renewed{counts: make(map[string]int)}
		client.AddHook(r)
		l := newLeases(t, client)
		old := grant(t, l, keys("old"))
		time.Sleep(lease.TTL / 4) // in a bubble
		young := grant(t, l, keys("young"))
		time.Sleep(lease.TTL / 4) // in a bubble
		assert.Equal(t, 1, r.count("old"))
		assert.Zero(t, r.count("young"))
		require.True(t, young.Fill(t.Context(), value("v")).Stored)
		time.Sleep(10 * lease.TTL) // in a bubble
		assert.Greater(t, r.count("old"), 10)
		assert.Zero(t, r.count("young"), "it has ended")
		require.True(t, old.Fill(t.Context(), value("v")).Stored)
	})
}

// failing is a runner of which a server is not answered, or a hook of the client panics, when it is asked for the second time.
type failing struct {
	runner

	panics bool
	asked  atomic.Int64
}

var errSilent = errors.New("silent")

func (f *failing) Ask(ctx context.Context, _ string, ask func(ctx context.Context) error) error {
	switch {
	case f.asked.Add(1) != 2:
		return ask(ctx)
	case f.panics:
		panic("the hook's own fault")
	default:
		return errSilent
	}
}

// TestPartsOfManyLeases: those that follow one without an answer are sent all the same. Leases of which nobody learns run out.
func TestPartsOfManyLeases(t *testing.T) {
	t.Parallel()
	for _, panics := range []bool{false, true} {
		server := redistest.Start(t)
		client := newClient(t, server.Addr())
		r := &failing{runner: runner{batch.NewCommands(client, batch.CommandSettings{Timeout: patience})}, panics: panics}
		l, other := newLeases(t, client, r), newLeases(t, newClient(t, server.Addr()))
		claims := make([]*lease.Claim, 1600)
		for i := range claims {
			claims[i] = claim(t, l, keys(strconv.Itoa(i)))
		}
		if panics {
			assert.Panics(t, func() { l.AskMany(t.Context(), claims) })
			require.Equal(t, lease.Granted, receive(t, await(t, other, keys("0"))).Outcome)
			continue
		}
		granted := 0
		for _, a := range l.AskMany(t.Context(), claims) {
			if a.Outcome == lease.Granted {
				granted++
				a.Lease.Abandon()
				continue
			}
			require.ErrorIs(t, a.Err, errSilent)
		}
		assert.Equal(t, 1100, granted)
		assert.EqualValues(t, 4, r.asked.Load())
	}
}

// unfinished is a hook under which nothing comes of scripts that are sent in full.
type unfinished struct {
	redistest.Hook

	sent    context.CancelFunc // called when there is one
	release chan struct{}
}

func (h unfinished) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if !slices.ContainsFunc(cmds, func(cmd redis.Cmder) bool { return cmd.Name() == "eval" }) {
			return next(ctx, cmds)
		}
		h.sent()
		<-h.release
		return context.Canceled
	}
}

// TestUnknownScriptAndThenSilence: a server that does not know a script has refused nothing.
func TestUnknownScriptAndThenSilence(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	h := unfinished{sent: cancel, release: make(chan struct{})}
	defer close(h.release)
	client := newClient(t, redistest.Start(t).Addr())
	client.AddHook(h)
	l := newLeases(t, client)
	for _, a := range l.AskMany(ctx, []*lease.Claim{claim(t, l, keys("a")), claim(t, l, keys("b"))}) {
		require.Equal(t, lease.Unknown, a.Outcome)
		require.Error(t, a.Err)
		require.False(t, redisx.IsReply(a.Err), "%v", a.Err)
	}
}
