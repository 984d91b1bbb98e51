package group

import (
	"context"
	"io"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/notification/internal/journal"
)

// Of two that take themselves for the leader only one gets through, and a repetition changes nothing.
func TestLeadersDoNotOverwriteEachOther(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.run(t)() // makes the group
	set := b.settings(b.client)
	one, other := newOps(&set), newOps(&set)
	first, err := one.doLead(t.Context(), b.client, "", "", time.Minute)
	require.NoError(t, err)
	require.True(t, first.leads)
	second, err := other.doLead(t.Context(), b.client, "", "", time.Minute)
	require.NoError(t, err)
	assert.False(t, second.leads)

	events := []fed{{sortable(journal.Position{Ms: 1, Offset: 2}), "a"}, {sortable(journal.Position{Ms: 1, Offset: 3}), "b"}}
	for range 2 {
		done, _, _, err := one.doFeed(t.Context(), b.client, first.known, "later", events)
		require.NoError(t, err)
		assert.True(t, done)
	}
	done, _, _, err := other.doFeed(t.Context(), b.client, first.known, "elsewhere", events[:1])
	require.NoError(t, err)
	assert.False(t, done, "another one has gone on from there")
	assert.Equal(t, "later", b.client.HGet(t.Context(), b.k.progress, "known").Val())
	assert.Equal(t, "2", b.client.HGet(t.Context(), b.k.progress, "held").Val())
	assert.Equal(t, "2", b.client.HGet(t.Context(), b.k.progress, "bytes").Val())
}

// A leader's clock is the server's. If that has gone back, nobody waits for a time that is far ahead.
func TestTimesFarAheadDoNotCount(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.run(t)()
	set := b.settings(b.client)
	o := newOps(&set)
	ahead := time.Now().Add(time.Hour).UnixMilli()
	require.NoError(t, b.client.HSet(t.Context(), b.k.progress, "leader", "gone", "until", ahead, "held", 1, "bytes", 1).Err())
	id := sortable(journal.Position{Ms: 1, Offset: 1})
	require.NoError(t, b.client.HSet(t.Context(), b.k.events, id, "x", "n"+id, "1 gone").Err())
	require.NoError(t, b.client.ZAdd(t.Context(), b.k.due, redis.Z{Score: float64(ahead), Member: id}).Err())
	r, err := o.doLead(t.Context(), b.client, "", "", time.Minute)
	require.NoError(t, err)
	assert.True(t, r.leads)
	assert.Zero(t, r.next, "due now")
	assert.Zero(t, r.lost)
}

// How far ahead a due time may be does not depend on the settings of the member that leads.
func TestLeadersHeedThePausesOfOthers(t *testing.T) {
	t.Parallel()
	b := setup(t)
	stop := b.run(t, func(s *Settings) { s.FirstPause, s.LongestPause = time.Hour, time.Hour })
	b.set(func(context.Context, Event) Result { return Result{Err: errFailed} })
	b.append(t, "k", 1)
	b.eventually(t, "not put off", func() bool { return len(b.settled) == 1 })
	stop()
	set := b.settings(b.client)
	r, err := newOps(&set).doLead(t.Context(), b.client, "", "", time.Minute)
	require.NoError(t, err)
	assert.True(t, r.leads)
	assert.Greater(t, r.next, 50*time.Minute)
}

// A member is woken for each event: it does not wait until it would look by itself.
func TestMembersAreWoken(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for range 3 {
		b.run(t)
	}
	start := time.Now()
	for i := 1; i <= 15; i++ {
		b.append(t, "k", 1)
		b.done(t, i)
	}
	assert.Less(t, time.Since(start), 5*idleTurn)
}

// forgetful is a client that loses the reply of every third turn.
type forgetful struct {
	redis.UniversalClient
	turns atomic.Int64
	lost  atomic.Int64
}

func (c *forgetful) Unwrap() redis.UniversalClient { return c.UniversalClient }
func (c *forgetful) ConnectionHook() redis.Hook    { return forgets{client: c} }

type forgets struct {
	redistest.Hook
	client *forgetful
}

func (h forgets) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		if args := cmd.Args(); err == nil && len(args) > 2 && args[0] == "evalsha" && args[2] == 6 && h.client.turns.Add(1)%3 == 0 {
			h.client.lost.Add(1)
			cmd.SetErr(io.EOF)
			return io.EOF
		}
		return err
	}
}

// A turn was executed and its reply is lost, again and again: no event has to be claimed, or is handled twice.
func TestTurnsAreExecutedOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	client := &forgetful{UniversalClient: b.client}
	b.run(t, func(s *Settings) { s.Client, s.MaxAttempts = client, 1 })
	for i := 1; i <= 30; i++ {
		b.append(t, "k", 1)
		b.eventually(t, "not handled", func() bool { return len(b.handled) == i })
	}
	b.done(t, 30)
	b.eventually(t, "not settled", func() bool { return len(b.settled) == 30 }) // after the repetition of the last turn
	for body, count := range b.handled {
		assert.Equal(t, 1, count, body)
	}
	assert.Greater(t, client.lost.Load(), int64(10))
	for _, o := range b.settled {
		assert.Equal(t, Done, o)
	}
}
