package main

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
)

func submitted(t *testing.T) (*Store, Workflow) {
	t.Helper()
	s := openStore(redistest.Start(t).Client(t), "test")
	require.NoError(t, s.Submit(t.Context(), s.ID(1)))
	w, err := s.Load(t.Context(), s.ID(1))
	require.NoError(t, err)
	return s, w
}

func TestSubmitTwiceChangesNothing(t *testing.T) {
	t.Parallel()
	s, w := submitted(t)
	claimed := w.Claim("a/1", 1, time.Now())
	require.NoError(t, s.Commit(t.Context(), w, claimed, factClaimed))
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

// Sentinels that do not know the master answer "nil", which go-redis passes on inside
// its error: an outage, in which nothing is known of any workflow.
func TestAnOutageIsNotAMissingKey(t *testing.T) {
	t.Parallel()
	set := redistest.StartSentinel(t)
	rdb := redis.NewFailoverClient(&redis.FailoverOptions{MasterName: "unknown", SentinelAddrs: set.Addrs(), MaxRetries: -1})
	t.Cleanup(func() { assert.NoError(t, rdb.Close()) })
	require.ErrorIs(t, rdb.Get(t.Context(), "k").Err(), redis.Nil, "that is what makes it dangerous")
	s := openStore(rdb, "test")

	_, err := s.Load(t.Context(), s.ID(1))
	require.ErrorContains(t, err, "sentinels")
	_, err = s.Pick(t.Context())
	require.ErrorContains(t, err, "sentinels")
	_, err = s.Waits(t.Context())
	require.ErrorContains(t, err, "sentinels")

	s, _ = submitted(t)
	_, err = s.Load(t.Context(), "no such workflow")
	require.ErrorIs(t, err, errVanished)
}

func TestCommitRefusesWhoeverLostTheLock(t *testing.T) {
	t.Parallel()
	s, w := submitted(t)
	slow := w.Claim("slow/1", 5, time.Now())
	require.NoError(t, s.Commit(t.Context(), w, slow, factClaimed))
	quick := slow.Claim("quick/1", 6, time.Now())
	require.NoError(t, s.Commit(t.Context(), slow, quick, factClaimed))

	err := s.Commit(t.Context(), slow, slow.Succeed(time.Now()), factDone)

	require.ErrorIs(t, err, errFencedOff)
	stored, err := s.Load(t.Context(), w.ID)
	require.NoError(t, err)
	assert.Equal(t, "quick/1", stored.Worker)
	assert.Zero(t, stored.Step)
	facts, err := s.Ledger(t.Context(), w.ID)
	require.NoError(t, err)
	require.Len(t, facts, 3)
	assert.Equal(t, factRefused, facts[2].What)
	assert.Equal(t, int64(5), facts[2].Token)
}

func TestCommitOfAnOldTokenIsRefusedEvenIfTheNumberFits(t *testing.T) {
	t.Parallel()
	s, w := submitted(t)
	newest := w.Claim("new/1", 6, time.Now())
	require.NoError(t, s.Commit(t.Context(), w, newest, factClaimed))

	old := newest
	old.Token = 5
	assert.ErrorIs(t, s.Commit(t.Context(), newest, old.Succeed(time.Now()), factDone), errFencedOff)
}

func TestCommitSentAgainCountsOnce(t *testing.T) {
	t.Parallel()
	s, w := submitted(t)
	claimed := w.Claim("a/1", 5, time.Now())
	require.NoError(t, s.Commit(t.Context(), w, claimed, factClaimed))
	require.NoError(t, s.Commit(t.Context(), w, claimed, factClaimed), "as go-redis does when the reply got lost")

	facts, err := s.Ledger(t.Context(), w.ID)
	require.NoError(t, err)
	assert.Len(t, facts, 1)
}

func TestVanishedWorkflow(t *testing.T) {
	t.Parallel()
	s, w := submitted(t)
	require.NoError(t, s.rdb.Del(t.Context(), s.stateKey(w.ID)).Err())

	_, err := s.Load(t.Context(), w.ID)
	require.ErrorIs(t, err, errVanished)
	assert.ErrorIs(t, s.Commit(t.Context(), w, w.Claim("a/1", 1, time.Now()), factClaimed), errVanished)
}

func TestTokensAsLargeAsAClockFit(t *testing.T) {
	t.Parallel()
	s, w := submitted(t)
	token := time.Now().UnixMicro()
	first := w.Claim("a/1", token, time.Now())
	require.NoError(t, s.Commit(t.Context(), w, first, factClaimed))
	require.NoError(t, s.Commit(t.Context(), first, first.Claim("b/1", token+1, time.Now()), factClaimed))
	assert.ErrorIs(t, s.Commit(t.Context(), first, first.Succeed(time.Now()), factDone), errFencedOff, "one less is less")
}

func TestEverythingExpires(t *testing.T) {
	t.Parallel()
	s, w := submitted(t)
	require.NoError(t, s.Commit(t.Context(), w, w.Claim("a/1", 1, time.Now()), factClaimed))
	require.NoError(t, s.CountWait(t.Context()))
	_, err := s.NextID(t.Context())
	require.NoError(t, err)

	keys, err := s.rdb.Keys(t.Context(), "example:*").Result()
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
		for _, process := range []*Store{s, NewStore(s.rdb, Options{Run: s.run})} {
			id, err := process.NextID(t.Context())
			require.NoError(t, err)
			assert.False(t, given[id], id)
			given[id] = true
		}
		require.NoError(t, s.rdb.FlushAll(t.Context()).Err())
	}
}
