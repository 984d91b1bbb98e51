package store

import (
	"context"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
)

const patience, tick = 20 * time.Second, 5 * time.Millisecond

// setup returns a store on a server, which is one of several, a claim to the lock "job", and what looks at the server.
func setup(t *testing.T) (*Redis, Claim, *redis.Client) {
	t.Helper()
	server := redistest.Start(t)
	client := redis.NewClient(&redis.Options{Addr: server.Addr(), ContextTimeoutEnabled: true})
	t.Cleanup(func() { _ = client.Close() })
	s := New(client, Settings{
		Several: true, Timeout: patience, Reservation: time.Second, Go: func(f func()) bool { go f(); return true },
	})
	t.Cleanup(func() { assert.NoError(t, s.Close(context.Background())) })
	return s, NewClaim(NewKeys("cache:", "job"), "claim", time.Hour, 1), server.Client(t)
}

// late are the commands that may set a lock, as they arrive long after they were given up: with the number of an old try.
func late(t *testing.T, s *Redis, c Claim, number int) map[string]func() any {
	t.Helper()
	run := func(call call) func() any {
		return func() any {
			reply, _, err := s.run(t.Context(), call)
			require.NoError(t, err)
			return reply
		}
	}
	return map[string]func() any{
		"acquire": run(call{script: s.scripts.acquire, keys: c.Keys.taking(), args: []any{c.Value, number, first(c.TTL)}}),
		"enqueue": run(call{
			script: s.scripts.enqueue, keys: c.Keys.taking(), args: []any{c.Value, number, first(c.TTL), "inbox:1", 0, 3000, "1"},
		}),
		"repair": run(call{
			script: s.scripts.repair, keys: []string{c.Keys.Lock(), c.Keys.Fence()}, args: []any{c.Value, number, first(c.TTL), 7},
		}),
	}
}

// TestWhatComesLate: a try that nobody waits for any more changes nothing where a later one holds the lock; and where nobody
// does it takes the lock for as long as a first grant, whatever else comes late.
func TestWhatComesLate(t *testing.T) {
	t.Parallel()
	for name := range late(t, &Redis{}, Claim{}, 0) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, c, admin := setup(t)
			ctx := t.Context()
			left := func() time.Duration { return admin.PTTL(ctx, c.Keys.Lock()).Val() }
			require.Equal(t, 1, c.Tries[0].next(), "the try that is late")
			granted := s.Acquire(ctx, c)
			require.Equal(t, Granted, granted.Outcome)
			require.Equal(t, Granted, s.Refresh(ctx, c).Outcome)
			require.Greater(t, left(), time.Minute)

			c.Token = granted.Token
			fence := admin.Get(ctx, c.Keys.Fence()).Val()
			late(t, s, c, 1)[name]()
			assert.Equal(t, "claim#2", admin.Get(ctx, c.Keys.Lock()).Val())
			assert.Equal(t, fence, admin.Get(ctx, c.Keys.Fence()).Val())
			assert.Zero(t, admin.Exists(ctx, c.Keys.Queue()).Val())
			assert.Greater(t, left(), time.Minute)

			require.Equal(t, Granted, s.Release(ctx, c).Outcome)
			late(t, s, c, 1)[name]()
			require.Equal(t, "claim#1", admin.Get(ctx, c.Keys.Lock()).Val())
			assert.Equal(t, Absent, s.Refresh(ctx, c).Outcome, "an extension that is late as well")
			assert.LessOrEqual(t, left(), FirstGrant)
			require.Equal(t, Granted, s.Release(ctx, c).Outcome, "whichever try has set it")
			assert.Zero(t, admin.Exists(ctx, c.Keys.Lock()).Val())
		})
	}
}

// TestRepetitionTakesOver: the reply to the first try was lost, so it has the lock, and the second one is confirmed. The
// lock lasts no longer than the holder counts on.
func TestRepetitionTakesOver(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"acquire", "enqueue"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, c, admin := setup(t)
			late(t, s, c, c.Tries[0].next())[name]()
			require.NoError(t, admin.PExpire(t.Context(), c.Keys.Lock(), FirstGrant/2).Err())
			require.Equal(t, Unset, s.Refresh(t.Context(), c).Outcome, "nobody has confirmed it")
			r := s.Enqueue(t.Context(), c, Waiter{Name: "inbox:1"})
			require.Equal(t, Granted, r.Outcome)
			assert.Equal(t, itoa(r.Token), admin.Get(t.Context(), c.Keys.Fence()).Val())
			assert.Equal(t, "claim#2", admin.Get(t.Context(), c.Keys.Lock()).Val())
			assert.LessOrEqual(t, admin.PTTL(t.Context(), c.Keys.Lock()).Val(), FirstGrant/2)
			require.Equal(t, Granted, s.Refresh(t.Context(), c).Outcome)
		})
	}
}

// TestRepair sets a lock where it is gone, or was never known to be, and where another try of the same claim has left it.
func TestRepair(t *testing.T) {
	t.Parallel()
	for name, prepare := range map[string]func(t *testing.T, s *Redis, c Claim, admin *redis.Client){
		"gone": func(t *testing.T, s *Redis, c Claim, admin *redis.Client) {
			t.Helper()
			require.Equal(t, Granted, s.Acquire(t.Context(), c).Outcome)
			require.NoError(t, admin.FlushAll(t.Context()).Err())
			for range 2 { // the loss is seen each time
				require.Equal(t, Absent, s.Refresh(t.Context(), c).Outcome)
			}
		},
		"never asked": func(t *testing.T, _ *Redis, _ Claim, _ *redis.Client) { t.Helper() },
		"lost reply": func(t *testing.T, s *Redis, c Claim, _ *redis.Client) {
			t.Helper()
			late(t, s, c, c.Tries[0].next())["acquire"]()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, c, admin := setup(t)
			prepare(t, s, c, admin)
			c.Token = 1 << 52
			repaired := make(chan struct{})
			s.Repair(c, func() { close(repaired) })
			<-repaired
			assert.LessOrEqual(t, admin.PTTL(t.Context(), c.Keys.Lock()).Val(), FirstGrant)
			assert.Equal(t, itoa(c.Token), admin.Get(t.Context(), c.Keys.Fence()).Val())
			require.Equal(t, Granted, s.Refresh(t.Context(), c).Outcome)
			assert.Greater(t, admin.PTTL(t.Context(), c.Keys.Lock()).Val(), time.Minute)
			again := false
			s.Repair(c, func() { again = true })
			assert.True(t, again, "at once, as it is known to be there")
			require.Equal(t, Granted, s.Release(t.Context(), c).Outcome)
		})
	}
}

// TestRepairLeavesOthersAlone: the lock is somebody else's.
func TestRepairLeavesOthersAlone(t *testing.T) {
	t.Parallel()
	s, c, admin := setup(t)
	require.NoError(t, admin.Set(t.Context(), c.Keys.Lock(), "thief", 0).Err())
	s.Repair(c, func() { assert.Fail(t, "it is not ours") })
	require.Eventually(t, func() bool {
		c.Tries[0].mu.Lock()
		defer c.Tries[0].mu.Unlock()
		return c.Tries[0].state == unknown
	}, patience, tick)
	assert.Equal(t, "thief", admin.Get(t.Context(), c.Keys.Lock()).Val())
	assert.Equal(t, Unset, s.Refresh(t.Context(), c).Outcome)
}

// TestRepairWaitsForATryUnderWay: another one would make the reply to the first useless.
func TestRepairWaitsForATryUnderWay(t *testing.T) {
	t.Parallel()
	var tries Tries
	require.True(t, tries.begin(nil))
	require.Equal(t, 1, tries.next())
	done := 0
	for range 2 {
		require.False(t, tries.begin(func() { done++ }))
	}
	tries.end(true, false)
	assert.Equal(t, 1, done)
	number, ok := tries.confirmed()
	assert.True(t, ok)
	assert.Equal(t, 1, number)
	tries.extended(0, Reply{Outcome: Absent}) // about an earlier one
	require.False(t, tries.begin(func() {}))
	tries.extended(1, Reply{Outcome: Absent})
	require.True(t, tries.begin(func() { done++ }))
	_, ok = tries.confirmed()
	assert.False(t, ok)
	tries.end(false, true)
	assert.Equal(t, 1, done)
	assert.True(t, tries.Stray())
}
