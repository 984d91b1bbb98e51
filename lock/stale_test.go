package lock_test

import (
	"cmp"
	"context"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/lock"
)

// takeTokens acquires and releases "job" some times, by each way in turn, and returns the tokens.
func takeTokens(t *testing.T, m *lock.RedisLockManager, count int) (tokens []int64) {
	t.Helper()
	for i := range count {
		var l lock.FencedLock
		var err error
		if i%2 == 0 {
			l, err = m.TryAcquire(t.Context(), "job", longTTL)
		} else {
			l, err = m.AcquireWait(t.Context(), "job", longTTL)
		}
		require.NoError(t, err)
		tokens = append(tokens, l.Token())
		require.NoError(t, l.Release(t.Context()))
	}
	return tokens
}

// TestTokensOfAReplicaThatWasBehind: it was promoted though it had not heard of the last acquisitions.
func TestTokensOfAReplicaThatWasBehind(t *testing.T) {
	t.Parallel()
	master, replica := replicated(t)
	m := newManager(t, newClient(t, master.Addr()))
	tokens := takeTokens(t, m, 3)
	synchronous(t, master, replica)
	known := replica.Client(t)
	require.Equal(t, strconv.FormatInt(tokens[2], 10), known.Get(t.Context(), "cache:lock:{job}:fence").Val())
	replica.Stop()
	require.NoError(t, master.Client(t).Do(t.Context(), "CLIENT", "KILL", "TYPE", "replica").Err())
	tokens = append(tokens, takeTokens(t, m, 3)...)
	master.Kill()
	replica.Continue()
	require.Eventually(t, func() bool { return known.ReplicaOf(t.Context(), "NO", "ONE").Err() == nil }, patience, tick)
	require.Equal(t, strconv.FormatInt(tokens[2], 10), known.Get(t.Context(), "cache:lock:{job}:fence").Val(), "it is behind")
	tokens = append(tokens, takeTokens(t, newManager(t, newClient(t, replica.Addr())), 3)...)
	assert.IsIncreasing(t, tokens)
}

// TestTokensAfterASnapshot: what a server comes back with is older than the last tokens, or there is nothing at all.
func TestTokensAfterASnapshot(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.WithPersistence(), redistest.WithConfig("appendonly", "no"))
	m := newManager(t, newClient(t, server.Addr()))
	fence := lastToken(t, server.Client(t))
	tokens := takeTokens(t, m, 2)
	require.NoError(t, server.Client(t).Save(t.Context()).Err())
	for range 2 { // the same snapshot twice
		tokens = append(tokens, takeTokens(t, m, 5)...)
		server.Kill()
		server.Restart()
		require.Eventually(t, func() bool { return m.HealthCheck(t.Context()) == nil }, patience, tick)
		require.Equal(t, strconv.FormatInt(tokens[1], 10), fence(), "it has forgotten")
	}
	tokens = append(tokens, takeTokens(t, m, 5)...)
	require.NoError(t, server.Client(t).Del(t.Context(), "cache:lock:{job}:fence").Err())
	tokens = append(tokens, takeTokens(t, m, 2)...)
	assert.IsIncreasing(t, tokens)
	assert.Less(t, tokens[len(tokens)-1], int64(1)<<53)
}

// TestTokensOfAClockThatIsBehind: a new master's clock may be behind that of the former one, whose last token it knows.
func TestTokensOfAClockThatIsBehind(t *testing.T) {
	t.Parallel()
	server, m := setup(t)
	ahead := time.Now().Add(25 * time.Second).UnixMicro()
	require.NoError(t, server.Client(t).Set(t.Context(), "cache:lock:{job}:fence", ahead, 0).Err())
	tokens := append([]int64{ahead}, takeTokens(t, m, 4)...)
	assert.IsIncreasing(t, tokens)
}

// attempt is one that acquired the lock.
type attempt struct {
	begin, end time.Time // of the call
	token      int64
}

// TestTokensThroughFailovers: masters come and go while the lock goes from hand to hand. Even if a failover loses the
// lock, which then has two holders, no token comes twice, and who asked later has the larger one.
func TestTokensThroughFailovers(t *testing.T) {
	t.Parallel()
	sentinel := redistest.StartSentinel(t)
	var mu sync.Mutex
	var all []attempt
	count := func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(all)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var working sync.WaitGroup
	for range 3 {
		m := newManager(t, failoverClient(t, sentinel))
		working.Go(func() {
			for ctx.Err() == nil {
				begin := time.Now()
				l, err := m.TryAcquire(ctx, "job", time.Second)
				if err == nil {
					mu.Lock()
					all = append(all, attempt{begin: begin, end: time.Now(), token: l.Token()})
					mu.Unlock()
					_ = l.Release(ctx)
				}
				hold(rand.N(3 * time.Millisecond))
			}
		})
	}
	goesOn := func() {
		before := count()
		require.Eventually(t, func() bool { return count() >= before+20 }, 2*patience, tick)
	}
	goesOn()
	for range 2 { // there and back
		sentinel.Failover(t)
		goesOn()
	}
	cancel()
	working.Wait()
	slices.SortFunc(all, func(a, b attempt) int { return cmp.Compare(a.token, b.token) })
	latest := all[0]
	for _, next := range all[1:] {
		assert.Greater(t, next.token, latest.token)
		assert.True(t, next.end.After(latest.begin), "token %d had been given before anybody asked for %d", next.token, latest.token)
		if next.begin.After(latest.begin) {
			latest.begin = next.begin
		}
		latest.token = next.token
	}
}
