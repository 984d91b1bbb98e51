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

// TestMend sets a lock where it is gone, or was never known to be, and where another try of the same claim has left it; it
// extends it also where nobody has done so before.
func TestMend(t *testing.T) {
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
		"not extended": func(t *testing.T, s *Redis, c Claim, admin *redis.Client) {
			t.Helper()
			require.Equal(t, Granted, s.Acquire(t.Context(), c).Outcome)
			require.NoError(t, admin.Set(t.Context(), c.Keys.Fence(), 1<<52, 0).Err())
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, c, admin := setup(t)
			prepare(t, s, c, admin)
			c.Token = 1 << 52
			until := time.Now().Add(c.TTL)
			require.False(t, c.Lasts(until))
			s.Mend(c, until)
			require.Eventually(t, func() bool { return c.Lasts(until) }, patience, tick)
			assert.Greater(t, admin.PTTL(t.Context(), c.Keys.Lock()).Val(), time.Minute)
			assert.Equal(t, itoa(c.Token), admin.Get(t.Context(), c.Keys.Fence()).Val())
			last := c.Tries[0].last
			s.Mend(c, until)
			assert.Equal(t, known, c.Tries[0].state, "nothing is to be done")
			assert.Equal(t, last, c.Tries[0].last)
			require.Equal(t, Granted, s.Release(t.Context(), c).Outcome)
		})
	}
}

// TestMendLeavesOthersAlone: the lock is somebody else's.
func TestMendLeavesOthersAlone(t *testing.T) {
	t.Parallel()
	s, c, admin := setup(t)
	require.NoError(t, admin.Set(t.Context(), c.Keys.Lock(), "thief", 0).Err())
	s.Mend(c, time.Now())
	require.Eventually(t, func() bool {
		c.Tries[0].mu.Lock()
		defer c.Tries[0].mu.Unlock()
		return c.Tries[0].state == unknown
	}, patience, tick)
	assert.False(t, c.Lasts(time.Time{}))
	assert.Equal(t, "thief", admin.Get(t.Context(), c.Keys.Lock()).Val())
	assert.Equal(t, Unset, s.Refresh(t.Context(), c).Outcome)
}

// TestMendThatIsLateCleansUp: the lock was released, there was nothing, when it arrives.
func TestMendThatIsLateCleansUp(t *testing.T) {
	t.Parallel()
	s, c, admin := setup(t)
	c.Token = 7
	require.NoError(t, admin.ClientPause(t.Context(), 500*time.Millisecond).Err())
	s.Mend(c, time.Now())
	c.End()
	require.Eventually(t, func() bool { return admin.Exists(t.Context(), c.Keys.Fence()).Val() == 1 }, patience, tick, "it was set")
	begin := time.Now()
	require.Eventually(t, func() bool { return admin.Exists(t.Context(), c.Keys.Lock()).Val() == 0 }, patience, tick)
	assert.Less(t, time.Since(begin), 8*time.Second, "it did not have to expire")
	last, _ := c.Tries[0].confirmed()
	s.Mend(c, time.Now())
	again, _ := c.Tries[0].confirmed()
	assert.Equal(t, last, again, "nobody wants it")
	assert.False(t, c.Tries[0].begin())
}

// TestExtensionsNeverShorten: they may be executed in another order than that in which they were sent.
func TestExtensionsNeverShorten(t *testing.T) {
	t.Parallel()
	s, c, admin := setup(t)
	require.Equal(t, Granted, s.Acquire(t.Context(), c).Outcome)
	require.Equal(t, Granted, s.Refresh(t.Context(), c).Outcome)
	until := time.Now().Add(time.Minute)
	require.True(t, c.Lasts(until))
	c.TTL = time.Second
	require.Equal(t, Granted, s.Refresh(t.Context(), c).Outcome)
	assert.Greater(t, admin.PTTL(t.Context(), c.Keys.Lock()).Val(), time.Minute)
	assert.True(t, c.Lasts(until))
}

// TestTries are those of the table.
func TestTries(t *testing.T) {
	t.Parallel()
	var tries Tries
	now := time.Now()
	require.True(t, tries.begin())
	require.Equal(t, 1, tries.next())
	require.False(t, tries.begin(), "another one would make the reply to the first useless")
	require.False(t, tries.lasts(time.Time{}))
	require.True(t, tries.end(true, false, now))
	number, ok := tries.confirmed()
	require.True(t, ok)
	require.Equal(t, 1, number)
	require.False(t, tries.begin(), "it is there")
	require.True(t, tries.lasts(now))
	tries.extended(1, Reply{Outcome: Failed}, now.Add(time.Hour))
	require.False(t, tries.lasts(now.Add(1)))
	tries.extended(1, Reply{Outcome: Granted}, now.Add(time.Hour))
	tries.extended(1, Reply{Outcome: Granted}, now.Add(time.Minute)) // its reply was late
	require.True(t, tries.lasts(now.Add(time.Hour)))

	tries.extended(0, Reply{Outcome: Absent}, now) // about an earlier one
	require.False(t, tries.begin())
	tries.extended(1, Reply{Outcome: Absent}, now)
	require.False(t, tries.lasts(now))
	_, ok = tries.confirmed()
	require.True(t, ok, "it is asked for all the same")
	require.True(t, tries.begin())
	_, ok = tries.confirmed()
	require.False(t, ok)
	require.True(t, tries.end(false, true, now))
	require.False(t, tries.lasts(time.Time{}))
	require.True(t, tries.Stray())

	require.True(t, tries.begin())
	tries.over = true // see Claim.End
	require.False(t, tries.end(true, false, now))
	_, ok = tries.wanted()
	require.False(t, ok)
	require.True(t, tries.Stray(), "for good")
}
