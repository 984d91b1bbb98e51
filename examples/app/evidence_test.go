package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache"
	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/store"
)

// witness hears all events, without the code under test: with a plain go-redis subscription.
type witness struct {
	mu   sync.Mutex // guards seen
	seen map[string]map[int64]bool
}

// listen subscribes before anything can have been told.
func listen(t *testing.T, rdb *redis.Client, run string) *witness {
	t.Helper()
	w := &witness{seen: make(map[string]map[int64]bool)}
	sub := rdb.PSubscribe(t.Context(), "workflow:events", "task:events")
	for range 2 {
		_, err := sub.Receive(t.Context())
		require.NoError(t, err)
	}
	messages := sub.Channel(redis.WithChannelSize(10_000))
	var wg sync.WaitGroup
	wg.Go(func() {
		for m := range messages {
			w.hear(m.Payload, run)
		}
	})
	t.Cleanup(func() { assert.NoError(t, sub.Close()); wg.Wait() })
	return w
}

func (w *witness) hear(payload, run string) {
	var event struct{ Data Event }
	if json.Unmarshal([]byte(payload), &event) != nil || event.Data.Run != run {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.seen[event.Data.Workflow] == nil {
		w.seen[event.Data.Workflow] = make(map[int64]bool)
	}
	w.seen[event.Data.Workflow][event.Data.Seq] = true
}

func (w *witness) of(id string) []int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Sorted(maps.Keys(w.seen[id]))
}

// requireRanOnce checks the facts in Redis and what the witness heard: every workflow is done, each of its steps was
// done once, in order, under increasing tokens, and each of its events was told. It returns the workers that did steps.
func requireRanOnce(t *testing.T, s *Store, w *witness, workflows int) map[string]bool {
	t.Helper()
	workers := make(map[string]bool)
	for n := range workflows {
		id := s.ID(n + 1)
		state, facts, err := s.Ledger(t.Context(), id)
		require.NoError(t, err, id)
		require.Equal(t, Done, state.Status, id)
		var done []int
		var token int64
		for _, f := range facts {
			if f.What != factDone {
				continue
			}
			require.GreaterOrEqual(t, f.Token, token, "%s: %+v", id, facts)
			done, token = append(done, f.Step), f.Token
			workers[f.Worker] = true
		}
		var all []int
		for step := range steps(state.Kind) {
			all = append(all, step)
		}
		require.Equal(t, all, done, "%s: %+v", id, facts)

		var told []int64
		for seq := int64(1); seq <= state.Seq; seq++ {
			told = append(told, seq)
		}
		require.EventuallyWithT(t, func(c *assert.CollectT) {
			assert.Equal(c, told, w.of(id), "events of %s", id)
		}, patience, 10*time.Millisecond)
	}
	return workers
}

// openStore is the store as a bystander sees it, made without Fx.
func openStore(t *testing.T, rdb *redis.Client, run string, opts ...store.Option) *Store {
	t.Helper()
	kept, err := store.New(rdb, opts...)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, kept.Close(context.WithoutCancel(t.Context()))) })
	states, err := store.NewState[Workflow](kept, "workflows", store.WithTTL(keep))
	require.NoError(t, err)
	return NewStore(states, rdb, Options{Run: run})
}

// begunBy returns a workflow that a worker of that process has begun and nobody has finished, or "".
func begunBy(ctx context.Context, s *Store, name string, workflows int) (string, error) {
	for n := range workflows {
		w, err := s.Load(ctx, s.ID(n+1))
		if err != nil {
			return "", fmt.Errorf("%s: %w", s.ID(n+1), err)
		}
		if w.Status == Running && processOf(w.Worker) == name {
			return w.ID, nil
		}
	}
	return "", nil
}

// hold keeps a lock until the test ends.
func hold(t *testing.T, server *redistest.Server, resource string) {
	t.Helper()
	c, err := cache.SetupCache(t.Context(), &cache.Config{URL: server.URL()})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, c.Close()) })
	_, err = c.LockManager.Acquire(t.Context(), resource, time.Minute)
	require.NoError(t, err)
}
