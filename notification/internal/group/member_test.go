package group

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/faultproxy"
	"github.com/compozy/cache/internal/redisx"
	"github.com/compozy/cache/notification/internal/journal"
)

func TestEventsAreHandledInOrder(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.append(t, "k", 10) // before the group
	b.run(t)
	b.append(t, "k", 200)
	b.append(t, "other", 50)
	b.append(t, "k", 1)
	b.done(t, 201)
	last := ""
	for _, e := range b.order {
		require.Less(t, last, e.key)
		require.Equal(t, 1, e.Attempt)
		last = e.key
	}
	assert.Empty(t, b.reasons())
}

// A member that stops in the middle gives its event back at once, and that attempt does not count.
func TestStoppedMembersGiveBack(t *testing.T) {
	t.Parallel()
	b := setup(t)
	begun := make(chan struct{})
	b.set(func(ctx context.Context, _ Event) Result {
		close(begun)
		<-ctx.Done()
		return Result{Err: ctx.Err()}
	})
	stop := b.run(t)
	b.append(t, "k", 1)
	<-begun
	b.set(nil)
	b.run(t)
	start := time.Now()
	stop()
	b.done(t, 1)
	assert.Less(t, time.Since(start), 10*time.Second, "long before it would be claimed")
	assert.Equal(t, []int{1, 1}, []int{b.order[0].Attempt, b.order[1].Attempt})
	assert.False(t, b.order[1].Abandoned)
	assert.Equal(t, []bool{false, true}, []bool{b.order[0].Returned, b.order[1].Returned})
}

// A member that is stopped without being cancelled ends what it has begun, and takes nothing more.
func TestStopLetsHandlersFinish(t *testing.T) {
	t.Parallel()
	b := setup(t)
	begun, finish, stop := make(chan struct{}, 10), make(chan struct{}), make(chan struct{})
	b.set(func(ctx context.Context, _ Event) Result {
		begun <- struct{}{}
		<-finish
		return Result{Err: ctx.Err()}
	})
	leave := b.run(t, func(s *Settings) { s.Stop = stop })
	b.append(t, "k", 3)
	<-begun
	close(stop)
	close(finish)
	b.eventually(t, "not settled", func() bool { return len(b.settled) == 1 })
	leave()
	require.Len(t, b.handled, 1)
	b.set(nil)
	b.run(t)
	b.done(t, 3)
}

// A slow handler gives signs of life, so that nobody takes its event.
func TestSlowHandlersKeepTheirEvents(t *testing.T) {
	t.Parallel()
	b := setup(t)
	claim := func(s *Settings) { s.Claim = 600 * time.Millisecond }
	var calls atomic.Int32
	b.set(func(ctx context.Context, _ Event) Result {
		calls.Add(1)
		_ = redisx.Sleep(ctx, 3*time.Second) // is slow
		return Result{}
	})
	b.run(t, claim)
	b.run(t, claim)
	b.append(t, "k", 1)
	b.done(t, 1)
	assert.EqualValues(t, 1, calls.Load())
}

// Of two members one is cut off in the middle of its work: the other one gets the event, and only that attempt counts.
func TestFrozenMembersLoseTheirEvents(t *testing.T) {
	t.Parallel()
	b := setup(t)
	proxy := faultproxy.New(t, b.server.Addr())
	behind := redis.NewClient(&redis.Options{Addr: proxy.Addr(), ReadTimeout: 300 * time.Millisecond})
	t.Cleanup(func() { _ = behind.Close() })
	claim := func(s *Settings) { s.Claim = time.Second }
	begun, thaw := make(chan struct{}, 10), make(chan struct{})
	b.set(func(context.Context, Event) Result {
		begun <- struct{}{}
		<-thaw
		return Result{Err: errFailed} // of no interest by then
	})
	b.run(t, claim, func(s *Settings) { s.Client = behind })
	b.append(t, "k", 1)
	<-begun
	proxy.SwallowToServer(true)
	b.set(nil)
	b.run(t, claim)
	b.append(t, "k", 5) // the frozen one led, too
	b.eventually(t, "not taken over", func() bool { return len(b.handled) == 6 })
	b.empty(t)
	claimed := 0
	for _, e := range b.order {
		if e.Abandoned {
			claimed++
			assert.Equal(t, 2, e.Attempt)
		}
	}
	assert.Equal(t, 1, claimed)
	close(thaw)
	proxy.SwallowToServer(false)
	b.eventually(t, "the other one does not recover", func() bool { return len(b.settled) == 7 })
	b.append(t, "k", 3)
	b.done(t, 9)
	assert.Empty(t, b.reasons())
}

// What no member survives is given up after as many attempts as anything else.
func TestEventsThatNobodySurvives(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.append(t, "other", 1)
	stop := b.run(t)
	b.append(t, "k", 1)
	b.done(t, 1)
	stop()
	o := newOps(&Settings{Journal: b.keys, Group: "g", Pattern: "k"})
	b.append(t, "k", 1)
	led := b.run(t, func(s *Settings) { s.Concurrency = 0 }) // leads, and takes nothing
	turns := uint64(0)
	for range 3 {
		require.Eventually(t, func() bool {
			turns++
			reply, err := o.doTurn(t.Context(), b.client, turnRequest{number: turns, room: 1, claim: 50 * time.Millisecond})
			require.NoError(t, err)
			return len(reply.events) == 1
		}, patience, 5*time.Millisecond)
	}
	led()
	b.run(t, func(s *Settings) { s.MaxAttempts = 3 })
	b.eventually(t, "not given up", func() bool { return len(b.settled) == 2 })
	assert.Equal(t, Dead, b.settled[1])
	assert.Len(t, b.order, 1, "nobody had to handle it")
	letters, err := b.client.XRange(t.Context(), b.k.dead, "-", "+").Result()
	require.NoError(t, err)
	require.Len(t, letters, 1)
	assert.Equal(t, errNoSign.Error(), letters[0].Values["error"])
	assert.Equal(t, "4", letters[0].Values["attempts"])
	b.empty(t)
}

// A turn whose reply is lost is repeated, and gives the same events, with the same attempt.
func TestRepeatedTurns(t *testing.T) {
	t.Parallel()
	b := setup(t)
	stop := b.run(t)
	b.append(t, "k", 1)
	b.done(t, 1)
	stop()
	b.append(t, "k", 5)
	led := b.run(t, func(s *Settings) { s.Concurrency = 0 })
	b.eventually(t, "not fed", func() bool { return b.client.ZCard(t.Context(), b.k.due).Val() == 5 })
	led()
	o := newOps(&Settings{Journal: b.keys, Group: "g", Pattern: "k"})
	request := turnRequest{number: 7, room: 3, bytes: takeBytes, claim: time.Minute, deadCap: 10}
	first, err := o.doTurn(t.Context(), b.client, request)
	require.NoError(t, err)
	require.Len(t, first.events, 3)
	again, err := o.doTurn(t.Context(), b.client, request)
	require.NoError(t, err)
	assert.Equal(t, first.events, again.events)

	// What became of them, said twice.
	request = turnRequest{number: 8, claim: time.Minute, deadCap: 10, outcomes: []outcome{
		{what: string(Done), id: first.events[0].key},
		{what: string(Again), id: first.events[1].key, n: 60_000},
		{what: string(Dead), id: first.events[2].key, n: 1, text: "failed"},
	}}
	for range 2 {
		reply, err := o.doTurn(t.Context(), b.client, request)
		require.NoError(t, err)
		assert.Empty(t, reply.events)
	}
	assert.EqualValues(t, 1, b.client.XLen(t.Context(), b.k.dead).Val())
	assert.EqualValues(t, 3, b.client.ZCard(t.Context(), b.k.due).Val())
	assert.Equal(t, "3", b.client.HGet(t.Context(), b.k.progress, "held").Val())
}

// An attempt at a turn is held up until a repetition of it, or a later turn, was executed: it takes nothing, as nobody would
// handle that, and what it says of events does not count any more.
func TestLateTurns(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.run(t)() // makes the group
	led := b.run(t, func(s *Settings) { s.Concurrency = 0 })
	o := newOps(&Settings{Journal: b.keys, Group: "g", Pattern: "k"})
	turn := func(number uint64, room int, outcomes ...outcome) (turnReply, error) {
		return o.doTurn(t.Context(), b.client, turnRequest{
			number: number, room: room, bytes: takeBytes, claim: time.Minute, deadCap: 10, outcomes: outcomes,
		})
	}
	empty, err := turn(7, 1)
	require.NoError(t, err)
	require.Empty(t, empty.events)
	b.append(t, "k", 2)
	b.eventually(t, "not fed", func() bool { return b.client.ZCard(t.Context(), b.k.due).Val() == 2 })
	led()
	same, err := turn(7, 1)
	require.NoError(t, err)
	assert.Empty(t, same.events, "it took nothing when it was executed")
	taken, err := turn(8, 1)
	require.NoError(t, err)
	require.Len(t, taken.events, 1)
	key := taken.events[0].key
	_, err = turn(7, 2, outcome{what: again, id: key}, outcome{what: resign})
	assert.True(t, redis.HasErrorPrefix(err, "LATE"), err)
	_, err = turn(8, 2, outcome{what: again, id: key})
	require.NoError(t, err)
	owned := 0
	for _, state := range b.client.HVals(t.Context(), b.k.events).Val() {
		if state == "1 "+o.member {
			owned++
		}
	}
	assert.Equal(t, 1, owned, "the other one is for somebody else")
	rest, err := turn(9, 2)
	require.NoError(t, err)
	require.Len(t, rest.events, 1)
	assert.NotEqual(t, key, rest.events[0].key)
	assert.Greater(t, b.client.PTTL(t.Context(), b.k.turns+o.member).Val(), 9*time.Minute)
}

// Replies are lost all the time, and yet each event is handled once.
func TestLostReplies(t *testing.T) {
	t.Parallel()
	b := setup(t)
	proxy := faultproxy.New(t, b.server.Addr())
	behind := redis.NewClient(&redis.Options{Addr: proxy.Addr(), ReadTimeout: time.Second})
	t.Cleanup(func() { _ = behind.Close() })
	b.run(t, func(s *Settings) { s.Client, s.Concurrency = behind, 4 })
	for range 20 {
		b.append(t, "k", 5)
		proxy.DropReplies(1)
		b.append(t, "k", 5)
		proxy.Cut()
	}
	b.done(t, 200)
	for body, count := range b.handled {
		assert.Equal(t, 1, count, body)
	}
	assert.Empty(t, b.reasons())
}

// What a member costs the server that has nothing to do, and what the events of others cost.
func TestIdleMembersCostLittle(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.append(t, "k", 1)
	const members = 5
	for range members {
		b.run(t)
	}
	b.append(t, "k", 1)
	b.done(t, 1)
	cost := func() (commands int64) {
		b.server.ResetCommands(t)
		require.NoError(t, redisx.Sleep(t.Context(), 4*time.Second))
		for name, count := range b.server.Commands(t) {
			switch name {
			case "config|resetstat", "info", "hget", "zcard", "hlen":
			default:
				commands += count
			}
		}
		return commands
	}
	idle := cost()
	assert.LessOrEqual(t, idle, int64(members*40), "commands in 4 s, those of scripts included")
	b.server.ResetCommands(t)
	b.append(t, "other", 3000)
	counts := b.server.Commands(t)
	assert.LessOrEqual(t, counts["xrange"], int64(1500), "%v", counts)
	t.Log("idle:", idle, "others' events:", counts)
}

func TestMembersUseNothingOfThePool(t *testing.T) {
	t.Parallel()
	b := setup(t)
	busy := redis.NewClient(&redis.Options{Addr: b.server.Addr(), PoolSize: 1})
	t.Cleanup(func() { _ = busy.Close() })
	over := make(chan struct{})
	go func() {
		defer close(over)
		_ = busy.BLPop(t.Context(), 0, "never").Err()
	}()
	t.Cleanup(func() { <-over })
	t.Cleanup(func() { _ = busy.Close() })
	b.run(t, func(s *Settings) { s.Client = busy })
	b.append(t, "k", 10)
	b.done(t, 10)
}

// What cannot be read is skipped and reported, so that a group does not stand still for it.
func TestUnreadableEventsAreSkipped(t *testing.T) {
	t.Parallel()
	b := setup(t)
	set := b.settings(b.client)
	l := newLeader(&set, newOps(&set), &link{client: b.client})
	l.server = journal.Server{Client: b.client}
	first := b.append(t, "k", 1)
	b.append(t, "k", 1)
	require.NoError(t, l.skip(t.Context()))
	assert.Equal(t, first, l.at.cursor.Pos.String())
	assert.Equal(t, []journal.Reason{Unreadable}, b.reasons())
	require.NoError(t, l.skip(t.Context()))
	require.Error(t, l.skip(t.Context()), "there is no more")
}

// A member that tries less often gets an event on which another one has failed: its dead letter has the error of an attempt.
func TestMembersWithFewerAttempts(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.set(func(context.Context, Event) Result { return Result{Err: errFailed} })
	stop := b.run(t, func(s *Settings) { s.MaxAttempts, s.LongestPause = 10, 20*time.Millisecond })
	b.append(t, "k", 1)
	b.eventually(t, "not tried", func() bool { return len(b.settled) >= 3 })
	stop()
	b.run(t, func(s *Settings) { s.MaxAttempts = 2 })
	b.eventually(t, "not given up", func() bool { return b.settled[len(b.settled)-1] == Dead })
	letters, err := b.client.XRange(t.Context(), b.k.dead, "-", "+").Result()
	require.NoError(t, err)
	require.Len(t, letters, 1)
	assert.Equal(t, errFailed.Error(), letters[0].Values["error"])
}
