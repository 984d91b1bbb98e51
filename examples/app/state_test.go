package main

import (
	"context"
	"io"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache"
	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/store"
)

func submitted(t *testing.T) (*Store, Workflow) {
	t.Helper()
	return submittedOn(t, redistest.Start(t).Client(t))
}

func submittedOn(t *testing.T, rdb *redis.Client, opts ...store.Option) (*Store, Workflow) {
	t.Helper()
	s := openStore(t, rdb, "test", opts...)
	require.NoError(t, s.Submit(t.Context(), s.ID(1)))
	w, err := s.Load(t.Context(), s.ID(1))
	require.NoError(t, err)
	return s, w
}

// commit is a Commit that succeeds.
func commit(t *testing.T, s *Store, old, next Workflow, what string) Workflow {
	t.Helper()
	stored, err := s.Commit(t.Context(), old, next, what)
	require.NoError(t, err)
	return stored
}

// told returns what the facts of a workflow say, and the token of each.
func told(t *testing.T, s *Store, id string) (what []string, tokens []int64) {
	t.Helper()
	_, facts, err := s.Ledger(t.Context(), id)
	require.NoError(t, err)
	for _, f := range facts {
		what, tokens = append(what, f.What), append(tokens, f.Token)
	}
	return what, tokens
}

func TestSubmitTwiceChangesNothing(t *testing.T) {
	t.Parallel()
	s, w := submitted(t)
	commit(t, s, w, w.Claim("a/1", 1, time.Now()), factClaimed)
	require.NoError(t, s.Finish(t.Context(), w.ID))

	require.NoError(t, s.Submit(t.Context(), w.ID))

	stored, err := s.Load(t.Context(), w.ID)
	require.NoError(t, err)
	assert.Equal(t, Running, stored.Status)
	unfinished, err := s.Unfinished(t.Context())
	require.NoError(t, err)
	assert.Zero(t, unfinished, "what is off the list stays off it")
	id, err := s.Pick(t.Context())
	require.NoError(t, err)
	assert.Empty(t, id)
}

// The state and the list are two keys, and a process can die between them.
func TestSubmitListsWhatAnotherHasOnlyCreated(t *testing.T) {
	t.Parallel()
	s, w := submitted(t)
	require.NoError(t, s.Finish(t.Context(), w.ID)) // as if it had never been listed

	require.NoError(t, s.Submit(t.Context(), w.ID))

	listed, err := s.Listed(t.Context(), w.ID)
	require.NoError(t, err)
	assert.True(t, listed)
	stored, err := s.Load(t.Context(), w.ID)
	require.NoError(t, err)
	assert.Equal(t, w, stored)
}

// Sentinels that do not know the master answer "nil", which go-redis passes on inside
// its error: an outage, in which nothing is known of any workflow.
func TestAnOutageIsNotAMissingKey(t *testing.T) {
	t.Parallel()
	set := redistest.StartSentinel(t)
	rdb := redis.NewFailoverClient(&redis.FailoverOptions{MasterName: "unknown", SentinelAddrs: set.Addrs(), MaxRetries: -1})
	t.Cleanup(func() { assert.NoError(t, rdb.Close()) })
	require.ErrorIs(t, rdb.Get(t.Context(), "k").Err(), redis.Nil, "that is what makes it dangerous")
	s := openStore(t, rdb, "test", store.WithStateTimeout(time.Minute)) // so that it hears what the sentinels say

	_, err := s.Load(t.Context(), s.ID(1))
	require.ErrorContains(t, err, "sentinels")
	require.NotErrorIs(t, err, errVanished)
	_, err = s.Pick(t.Context())
	require.ErrorContains(t, err, "sentinels")
	_, err = s.Waits(t.Context())
	require.ErrorContains(t, err, "sentinels")

	s = openStore(t, rdb, "test", store.WithStateTimeout(100*time.Millisecond))
	require.ErrorIs(t, s.Submit(t.Context(), s.ID(1)), cache.ErrUnavailable)
	w := newWorkflow("test", s.ID(1), time.Now())
	_, err = s.Commit(t.Context(), w, w.Claim("a/1", 1, time.Now()), factClaimed)
	require.ErrorIs(t, err, cache.ErrUnavailable)
	require.NotErrorIs(t, err, errVanished)
	require.NotErrorIs(t, err, errFencedOff)

	s, _ = submitted(t)
	_, err = s.Load(t.Context(), "no such workflow")
	require.ErrorIs(t, err, errVanished)
}

func TestCommitRefusesWhoeverLostTheLock(t *testing.T) {
	t.Parallel()
	s, w := submitted(t)
	slow := commit(t, s, w, w.Claim("slow/1", 5, time.Now()), factClaimed)
	commit(t, s, slow, slow.Claim("quick/1", 6, time.Now()), factClaimed)

	_, err := s.Commit(t.Context(), slow, slow.Succeed(time.Now()), factDone)

	require.ErrorIs(t, err, errFencedOff)
	stored, err := s.Load(t.Context(), w.ID)
	require.NoError(t, err)
	assert.Equal(t, "quick/1", stored.Worker)
	assert.Zero(t, stored.Step)
	what, tokens := told(t, s, w.ID)
	assert.Equal(t, []string{factClaimed, factClaimed, factRefused}, what)
	assert.Equal(t, []int64{5, 6, 5}, tokens)
}

func TestCommitOfAnOldTokenIsRefusedEvenIfTheVersionFits(t *testing.T) {
	t.Parallel()
	s, w := submitted(t)
	newest := commit(t, s, w, w.Claim("new/1", 6, time.Now()), factClaimed)

	old := newest
	old.Token = 5
	_, err := s.Commit(t.Context(), newest, old.Succeed(time.Now()), factDone)
	assert.ErrorIs(t, err, errFencedOff)
}

func TestCommitOfAnOldVersionIsRefusedEvenIfTheTokenFits(t *testing.T) {
	t.Parallel()
	s, w := submitted(t)
	commit(t, s, w, w.Claim("a/1", 5, time.Now()), factClaimed)

	_, err := s.Commit(t.Context(), w, w.Claim("b/1", 6, time.Now()), factClaimed)

	require.ErrorIs(t, err, errFencedOff)
	what, _ := told(t, s, w.ID)
	assert.Equal(t, []string{factClaimed, factRefused}, what)
}

func TestCommitSentAgainCountsOnce(t *testing.T) {
	t.Parallel()
	s, w := submitted(t)
	claimed := w.Claim("a/1", 5, time.Now())
	first := commit(t, s, w, claimed, factClaimed)
	again := commit(t, s, w, claimed, factClaimed)

	assert.Equal(t, first.version, again.version)
	what, _ := told(t, s, w.ID)
	assert.Equal(t, []string{factClaimed}, what)
}

// replies is a hook that loses those of scripts while lost is set, and has it executed before if done is.
type replies struct {
	redistest.Hook

	lost, done bool
	between    func() // once, after the first
}

func (r *replies) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if cmd.Name() != "evalsha" && cmd.Name() != "eval" || !r.lost {
			return next(ctx, cmd)
		}
		if r.done {
			if err := next(ctx, cmd); err != nil {
				return err
			}
		}
		if r.between != nil {
			r.lost = false
			r.between()
		}
		return io.ErrUnexpectedEOF
	}
}

func TestCommitWithoutReply(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		done, overtaken bool
		err             error
		facts           []string
	}{
		"was done":                         {done: true, facts: []string{factClaimed, factDone}},
		"was not done":                     {err: cache.ErrUncertain, facts: []string{factClaimed}},
		"was done, and another has it now": {true, true, errFencedOff, []string{factClaimed, factDone, factClaimed}},
		"another was faster, and it was never done": {false, true, errFencedOff, []string{factClaimed, factClaimed, factRefused}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t)
			rdb := server.Client(t)
			s, w := submittedOn(t, rdb, store.WithStateTimeout(time.Second))
			other := openStore(t, server.Client(t), "test")
			w = commit(t, s, w, w.Claim("slow/1", 5, time.Now()), factClaimed)
			hook := &replies{lost: true, done: c.done}
			if c.overtaken {
				hook.between = func() {
					now, err := other.Load(t.Context(), w.ID)
					assert.NoError(t, err)
					_, err = other.Commit(t.Context(), now, now.Claim("quick/1", 6, time.Now()), factClaimed)
					assert.NoError(t, err)
				}
			}
			rdb.AddHook(hook)

			stored, err := s.Commit(t.Context(), w, w.Succeed(time.Now()), factDone)

			require.ErrorIs(t, err, c.err)
			what, _ := told(t, other, w.ID)
			assert.Equal(t, c.facts, what)
			if err == nil {
				hook.lost = false
				commit(t, s, stored, stored.Succeed(time.Now()), factDone)
			}
		})
	}
}

func TestSubmitWithoutReply(t *testing.T) {
	t.Parallel()
	rdb := redistest.Start(t).Client(t)
	s, _ := submittedOn(t, rdb)
	rdb.AddHook(&replies{lost: true, between: func() {}})

	require.NoError(t, s.Submit(t.Context(), s.ID(2)))

	listed, err := s.Listed(t.Context(), s.ID(2))
	require.NoError(t, err)
	assert.True(t, listed)
	_, err = s.Load(t.Context(), s.ID(2))
	require.NoError(t, err)
}

func TestVanishedWorkflow(t *testing.T) {
	t.Parallel()
	for name, vanish := range map[string]func(s *Store, w Workflow) error{
		"deleted": func(s *Store, w Workflow) error { return s.states.Delete(t.Context(), s.stateKey(w.ID)) },
		"lost":    func(s *Store, _ Workflow) error { return s.rdb.FlushAll(t.Context()).Err() },
	} {
		s, w := submitted(t)
		require.NoError(t, vanish(s, w), name)

		_, err := s.Load(t.Context(), w.ID)
		require.ErrorIs(t, err, errVanished, name)
		_, err = s.Commit(t.Context(), w, w.Claim("a/1", 1, time.Now()), factClaimed)
		require.ErrorIs(t, err, errVanished, name)
		_, _, err = s.Ledger(t.Context(), w.ID)
		require.ErrorIs(t, err, errVanished, name)
	}
}

func TestTokensAsLargeAsAClockFit(t *testing.T) {
	t.Parallel()
	s, w := submitted(t)
	token := time.Now().UnixMicro()
	first := commit(t, s, w, w.Claim("a/1", token, time.Now()), factClaimed)
	second := commit(t, s, first, first.Claim("b/1", token+1, time.Now()), factClaimed)
	late := second
	late.Token = token
	_, err := s.Commit(t.Context(), second, late.Succeed(time.Now()), factDone)
	assert.ErrorIs(t, err, errFencedOff, "one less is less")
}

func TestEverythingExpires(t *testing.T) {
	t.Parallel()
	s, w := submitted(t)
	commit(t, s, w, w.Claim("a/1", 1, time.Now()), factClaimed)
	require.NoError(t, s.CountWait(t.Context()))
	_, err := s.NextID(t.Context())
	require.NoError(t, err)

	keys, err := s.rdb.Keys(t.Context(), "*").Result()
	require.NoError(t, err)
	assert.Len(t, keys, 6)
	for _, key := range keys {
		ttl, err := s.rdb.TTL(t.Context(), key).Result()
		require.NoError(t, err)
		assert.Positive(t, ttl, key)
	}
}

func TestIDsAreNewEvenWhenRedisHasLostItsData(t *testing.T) {
	t.Parallel()
	s, _ := submitted(t)
	given := make(map[string]bool)
	for range 2 {
		for _, process := range []*Store{s, NewStore(s.states, s.rdb, Options{Run: s.run})} {
			id, err := process.NextID(t.Context())
			require.NoError(t, err)
			assert.False(t, given[id], id)
			given[id] = true
		}
		require.NoError(t, s.rdb.FlushAll(t.Context()).Err())
	}
}
